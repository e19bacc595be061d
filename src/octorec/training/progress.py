"""A training on the terminal: a bar, the loss, and a line a validation."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from octorec.training.trainer import Progress as Callback


@contextmanager
def training_progress(console: Console, steps: int) -> Iterator[Callback]:
    """Yield a callback for `Trainer.run` that shows a bar on a terminal, and a line a validation anywhere."""
    columns = ("training", BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.3f}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=steps, loss=float("nan"))
        average = 0.0

        def show(record: dict[str, Any]) -> None:
            nonlocal average
            average = record["loss"] if average == 0.0 else 0.98 * average + 0.02 * record["loss"]
            bar.update(task, completed=record["step"], loss=average)
            if "expert_load" in record:
                console.print(_line(record, average, steps), soft_wrap=True)

        yield show


def _line(record: dict[str, Any], loss: float, steps: int) -> str:
    measured = [f"{k} {v:.4f}" for k, v in record.items() if k not in ("step", "loss", "expert_load")]
    load = "; ".join("/".join(f"{share:.0%}" for share in shares) for shares in record["expert_load"])
    return ", ".join([f"step {record['step']}/{steps}", f"loss {loss:.3f}", *measured, f"expert load {load or 'none'}"])
