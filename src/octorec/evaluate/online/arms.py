"""An arm holds the units of one of the two variants that are compared, by stage.

Letters: U units of one arm, S stages that both arms have.
"""

from dataclasses import dataclass

import numpy as np

from octorec.evaluate.online.joined import Column


@dataclass(frozen=True)
class Arm:
    """An Arm holds the units of one arm: their numbers [U], the stage of each as a number below S [U],
    and units by stage [S].
    """

    y: np.ndarray
    stage: np.ndarray
    count: np.ndarray
    per: np.ndarray | None = None
    x: np.ndarray | None = None

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return the means of values [U] by stage [S]."""
        return np.bincount(self.stage, values, len(self.count)) / self.count

    def centred(self, values: np.ndarray) -> np.ndarray:
        """Return values [U] without their stage's mean; 0 where all are alike, up to the rounding of one number."""
        apart = values - self.means(values)[self.stage]
        return apart - self.means(apart)[self.stage]  # a long sum rounds by far more


def arms_of(column: Column, stage: np.ndarray, control: np.ndarray, treatment: np.ndarray) -> tuple[Arm, Arm]:
    """Return both arms' units of the stages that both have."""
    size = int(stage.max(initial=0)) + 1
    counts = np.stack([np.bincount(stage[places], minlength=size) for places in (control, treatment)])
    both = counts.min(0) > 1
    number = np.cumsum(both) - 1
    arms = []
    for places, count in zip((control, treatment), counts, strict=True):
        kept = places if both.all() else places[both[stage[places]]]
        per, x = (None if one is None else one[kept] for one in (column.per, column.x))
        arms.append(Arm(column.y[kept], number[stage[kept]], count[both], per, x))
    return arms[0], arms[1]
