"""What became of every target under several systems, small enough to keep: judge it again, or several sets as one.

Letters: n targets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from octorec.errors import InputError, MismatchError
from octorec.evaluate.compare import user_differences
from octorec.evaluate.cutoffs import cutoffs, decisive
from octorec.evaluate.margin import MARGIN
from octorec.evaluate.metrics import ABSENT, metrics_at, target_ranks
from octorec.evaluate.paired import Estimate
from octorec.evaluate.predictions import Predictions
from octorec.evaluate.saved import asked_in, exclude_seen_in, length_in, metadata, read_column, read_table
from octorec.evaluate.verdict import Verdict, decide
from octorec.output.write import new_file


@dataclass(frozen=True)
class Outcomes:
    """user_ids [n] object. k: items a list. systems: name -> (ranks [n] int64, the target's place in the list from 0 or
    metrics.ABSENT; nll [n] float32, NaN where the target is unknown). asked, exclude_seen: as in
    `Predictions`."""

    user_ids: np.ndarray
    k: int
    systems: dict[str, tuple[np.ndarray, np.ndarray]]
    asked: tuple[int, ...] = ()
    exclude_seen: bool = False

    def values(self, system: str) -> dict[str, np.ndarray]:
        """Recall, NDCG and NLL of every target under `system`, [n] float64 each."""
        if system not in self.systems:
            raise InputError("system", system, f"allowed: {', '.join(self.systems)}")
        ranks, nll = self.systems[system]
        return {**metrics_at(ranks, cutoffs((*self.asked, self.k))), "nll": nll.astype(np.float64)}

    def judge(self, baseline: str, candidate: str, margin: float = MARGIN) -> tuple[dict[str, Estimate], Verdict]:
        """Paired differences of every metric, clustered by user, and the verdict on the two of the longest lists."""
        found = user_differences(self.user_ids, self.values(baseline), self.values(candidate))
        return found, decide({name: found[name] for name in decisive(self.k)}, margin)

    def save(self, path: str | Path) -> None:
        """Write one Parquet file, replacing what is there."""
        columns = {"user_id": pa.array(self.user_ids, pa.string())}
        for name, (ranks, nll) in self.systems.items():
            columns[f"{name}: rank"], columns[f"{name}: nll"] = pa.array(ranks, pa.int16()), pa.array(nll, pa.float32())
        about = {"k": str(self.k), **metadata(self.asked, self.exclude_seen)}
        table = pa.table(columns).replace_schema_metadata(about)
        with new_file(path) as scratch:
            pyarrow.parquet.write_table(table, scratch, compression="zstd")

    @classmethod
    def load(cls, path: str | Path) -> "Outcomes":
        """Read what `save` wrote; anything else is an InputError."""
        table, where = read_table(path, "Outcomes", {"user_id"}), f"outcomes {path}"
        k = length_in((table.schema.metadata or {}).get(b"k", b"").decode(errors="replace"))
        names = [name.removesuffix(": rank") for name in table.column_names if name.endswith(": rank")]
        if not k or any(f"{name}: nll" not in table.column_names for name in names):
            raise InputError(where, table.column_names, "must be a file that Outcomes.save wrote")
        systems = {name: _system(where, table, name, k) for name in names}
        user_ids, asked = read_column(where, table, "user_id", pa.string()), asked_in(where, table, k)
        return cls(user_ids, k, systems, asked, exclude_seen_in(where, table))


def _system(where: str, table: pa.Table, name: str, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks and NLL of a saved system, [n] each."""
    ranks = read_column(where, table, f"{name}: rank", pa.int16()).astype(np.int64)
    if not ((ranks >= ABSENT) & (ranks < k)).all():
        raise InputError(f"{where}: column {name}: rank", [int(ranks.min()), int(ranks.max())], f"{ABSENT} to {k - 1}")
    return ranks, read_column(where, table, f"{name}: nll", pa.float32())


def outcomes_of(predictions: Mapping[str, Predictions]) -> Outcomes:
    """The outcomes of several systems' answers to the same examples."""
    if not predictions:
        raise InputError("predictions", 0, "give at least one system's")
    first = next(iter(predictions.values()))
    systems = {}
    for name, found in predictions.items():
        if not (np.array_equal(found.user_ids, first.user_ids) and np.array_equal(found.targets, first.targets)):
            raise MismatchError(f"predictions of {name}", len(found), "must be about the same targets as the first's")
        if found.k != first.k:
            raise MismatchError(f"predictions of {name}: k", found.k, f"must be the first's {first.k}")
        if found.exclude_seen != first.exclude_seen:
            allowed = f"must be the first's {first.exclude_seen}"
            raise MismatchError(f"predictions of {name}: exclude_seen", found.exclude_seen, allowed)
        unscored = found.log_probs is None
        nll = np.full(len(found), np.nan) if unscored else -found.log_probs.astype(np.float64).sum(1)  # type: ignore[union-attr]
        systems[name] = target_ranks(found.ranked, found.targets), nll.astype(np.float32)
    asked = {length for found in predictions.values() for length in found.asked}
    return Outcomes(first.user_ids, first.k, systems, tuple(sorted(asked)), first.exclude_seen)


def pooled(parts: Mapping[str, Outcomes]) -> Outcomes:
    """Several sets of users as one, of the systems that all parts have. A user of one part is never one of another."""
    if not parts:
        raise InputError("parts", 0, "give at least one set")
    widths = {part.k for part in parts.values()}
    if len(widths) > 1:
        raise MismatchError("outcomes: k", sorted(widths), "must be the same in every part")
    rules = {part.exclude_seen for part in parts.values()}
    if len(rules) > 1:
        raise MismatchError("outcomes: exclude_seen", sorted(rules), "must be the same in every part")
    shared = [name for name in next(iter(parts.values())).systems if all(name in p.systems for p in parts.values())]
    ids = [f"{name}/{user}" for name, part in parts.items() for user in part.user_ids]
    columns = {name: [part.systems[name] for part in parts.values()] for name in shared}
    systems = {
        name: (np.concatenate([ranks for ranks, _ in found]), np.concatenate([nll for _, nll in found]))
        for name, found in columns.items()
    }
    asked = {length for part in parts.values() for length in part.asked}
    return Outcomes(np.array(ids, dtype=object), widths.pop(), systems, tuple(sorted(asked)), rules.pop())
