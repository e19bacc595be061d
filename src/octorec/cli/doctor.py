"""`octorec doctor` says what of OctoRec runs on this machine, and what to do where something does not."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from octorec.cli.options import A_CHECKPOINT, Device, Json, show

PROBLEMS = 1  # exit code where there is a problem


def doctor(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="Checkpoint folder that is to run here; none: the machine alone.", callback=A_CHECKPOINT),
    ] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Look at versions, cards, memory and compiled kernels, and say a remedy for each problem.

    Exit code 0 where there is none, 1 where there is one."""
    from octorec.doctor.checkpoint import look_at_checkpoint
    from octorec.doctor.finding import Check, findings
    from octorec.doctor.machine import look_at_gpus, look_at_host, look_at_kernels, look_at_shared_memory
    from octorec.doctor.packages import look_at_packages, look_at_python

    checks: dict[str, Check] = {
        "Python": look_at_python,
        "packages": look_at_packages,
        "host": look_at_host,
        "shared memory": look_at_shared_memory,
        "GPU": look_at_gpus,
        "compiled kernels": look_at_kernels,
    }
    if checkpoint is not None:
        checks[str(checkpoint)] = partial(look_at_checkpoint, checkpoint, device)
    found = [*findings(checks)]
    problems = [one for one in found if one.is_problem]
    lines = [f"  {one.about}: {one.found}" for one in found if not one.is_problem]
    lines += [f"! {one.about}: {one.found}. To do: {one.remedy}" for one in problems]
    said = f"{len(problems)} problem{'s' * (len(problems) != 1)}" if problems else "no problem"
    show(as_json, {"problems": len(problems), "findings": [asdict(one) for one in found]}, *lines, said)
    if problems:
        raise typer.Exit(PROBLEMS)
