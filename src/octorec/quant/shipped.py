"""OctoRec brings recipes, which are found by name. This imports nothing slow: a wrong name is refused at once."""

import os
from pathlib import Path

from octorec.errors import InputError

SHIPPED = Path(__file__).parent / "recipes"


def shipped_recipes() -> list[str]:
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def require_recipe(recipe: str | Path) -> Path:
    """Return the YAML file of a shipped recipe's name, or of a path; anything else is an InputError."""
    path = SHIPPED / f"{recipe}.yaml" if str(recipe) in shipped_recipes() else Path(recipe)
    if not os.path.isfile(path):
        raise InputError("recipe", str(recipe), f"allowed: {', '.join(shipped_recipes())}, or the path of a YAML file")
    return path


def recipe_file(recipe: str | Path) -> list[Path]:
    """Return the file that a recipe's path names, none for a recipe that comes with OctoRec."""
    return [] if str(recipe) in shipped_recipes() else [Path(recipe)]
