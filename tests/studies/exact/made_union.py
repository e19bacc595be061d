"""Three small made-up shops, for tests of the study of exact answers."""

import json
from pathlib import Path

import numpy as np

from studies.quality.data import SETS, Shop, read_shop

USERS, ITEMS = 30, 60


def made_shops(folder: Path) -> list[Shop]:
    """Users who walk through a ring of items, a few steps at a time; each shop has users and items of its own."""
    generator = np.random.default_rng(0)
    for name in SETS:
        lines = []
        for user in range(1, USERS + 1):
            steps = generator.integers(1, 4, generator.integers(5, 9)).cumsum() + generator.integers(ITEMS)
            lines.append(" ".join(map(str, [user, *(step % ITEMS + 1 for step in steps)])))
        (folder / f"{name}.txt").write_text("\n".join(lines))
        attributes = {str(item): [item % 7 + 1] for item in range(1, ITEMS + 1)}
        (folder / f"{name}.attributes.json").write_text(json.dumps(attributes))
    return [read_shop(folder, name) for name in SETS]
