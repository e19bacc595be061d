"""An experiment is started, continued after restarts, changed in stages, stopped and resumed, and ended permanently.

ROOT/NAME/ is the folder of one experiment below the deployment's root, and its record.json remembers all of this. Any
number of processes, also of several hosts on a shared disk that knows `flock`, may call these functions at once.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from octorec.errors import InputError, one_line, shown
from octorec.evaluate.online.changes import refuse_changes
from octorec.evaluate.online.design import Experiment
from octorec.evaluate.online.experiment import check_salt, parse_experiment
from octorec.evaluate.online.fields import NAME, free_text
from octorec.evaluate.online.plain import made, plain
from octorec.evaluate.online.record_file import (
    RECORD,
    Note,
    Record,
    Stage,
    Stop,
    changed,
    check_time,
    date,
    locked,
    noted,
    read_record,
    shares_of,
    write_record,
)
from octorec.evaluate.online.results import Look
from octorec.evaluate.online.written import experiment_values
from octorec.reading import folder_names, reason

__all__ = ["Note", "Record", "Stage", "Stop", "read_record"]  # from `record_file`
__all__ += ["add_look", "effective", "end", "note_ratio", "resume", "resumed_at", "start", "stop"]

MOST_STAGES = 100
LONGEST_VERSION = 256
LONGEST_WHY = 1000
RESUMED = "resumed"  # how such a note begins, and no other
Versions = Mapping[str, tuple[str, str]]


def start(root: str | Path, experiment: Experiment, versions: Versions, now: float, hold_out_salt: str = "") -> Record:
    """Start an experiment below `root`, or go on with it; other shares or versions open a new stage.

    versions: of checkpoint and catalog by variant. now: seconds since 1970. hold_out_salt: as `assign` takes it.
    Raises InputError, which names the field: what may not change has; the salt was used by another experiment below
    `root`, or one of them is not ended; this one is; a record cannot be read or written.
    """
    now = check_time(now)
    if hold_out_salt != "":
        check_salt("hold_out_salt", hold_out_salt)
    experiment = parse_experiment(experiment_values(experiment))  # one made in Python is checked as a file is
    versions = _checked(versions, experiment)
    root = Path(root)
    folder_names(root, "experiment_root", "must be a folder whose subfolders are experiments")
    with locked(root, "experiment_root"):
        folder = root / experiment.name
        if not os.path.lexists(folder / RECORD):
            _refuse_beside(root, experiment)
            return _begin(folder, experiment, versions, now, hold_out_salt)
        known = read_record(folder)
        _refuse_ended(known)
        if experiment.hold_out and hold_out_salt != known.hold_out_salt:
            allowed = f"was {shown(known.hold_out_salt)} when {known.name} was started: others would be left out"
            raise InputError("hold_out_salt", hold_out_salt, allowed)
        _refuse_beside(root, experiment)
        return changed(folder, partial(_go_on, experiment=experiment, versions=versions, now=now))


def stop(folder: str | Path, variant: str, why: str, now: float) -> Record:
    """Give all traffic to the control until a person resumes it. variant: the one at fault, "" where a person stops it.

    One that is stopped already stays as it is. Raises InputError for one that was ended.
    """
    moment = check_time(now)

    def change(record: Record) -> Record:
        _refuse_ended(record)
        if variant not in ("", *record.experiment.variants):
            raise InputError("variant", variant, f"allowed: {', '.join(record.experiment.variants)}, or empty")
        if record.stop is not None:
            return record
        text = one_line(why, LONGEST_WHY)
        at = max(moment, record.latest)
        return noted(record, moment, f"stopped{variant and f' for {variant}'}: {text}", stop=Stop(at, variant, text))

    return changed(folder, change)


def resume(folder: str | Path, now: float) -> Record:
    """Let the variants answer again. Raises InputError for an experiment that is not stopped, or was ended."""
    moment = check_time(now)

    def change(record: Record) -> Record:
        _refuse_ended(record)
        if record.stop is None:
            raise InputError("experiment", record.name, "is not stopped")
        return noted(record, moment, RESUMED, stop=None)

    return changed(folder, change)


def resumed_at(record: Record) -> float | None:
    """Return when it was resumed the last time, None where it never was."""
    times = [note.time for note in record.notes if note.text.startswith(RESUMED)]
    return times[-1] if times else None


def end(folder: str | Path, now: float) -> Record:
    """End an experiment permanently, so that another may start. Raises InputError for one that was ended before."""
    moment = check_time(now)

    def change(record: Record) -> Record:
        _refuse_ended(record)
        return noted(record, moment, "ended", ended=max(moment, record.latest))

    return changed(folder, change)


def add_look(folder: str | Path, look: Look) -> Record:
    """Remember a look that was made. Of two of one number the first stands, and is in the record that comes back.

    Raises InputError for one that is out of order: after the final look, or of a lower number than the last.
    """
    checked = made(Look, plain(look), "look")

    def change(record: Record) -> Record:
        if any(one.number == checked.number for one in record.looks):
            return record
        last = record.looks[-1] if record.looks else None
        if last is not None and last.final:
            raise InputError("look", checked.number, f"cannot be made: look {last.number} was the final one")
        if last is not None and last.number > checked.number:
            raise InputError("look", checked.number, f"cannot be made after look {last.number}")
        return replace(record, looks=(*record.looks, checked))

    return changed(folder, change)


def note_ratio(folder: str | Path, p: float) -> Record:
    """Remember a p-value of the sample-ratio check, where it is the lowest so far."""
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
        raise InputError("p", p, "must be from 0 to 1")
    return changed(
        folder, lambda record: replace(record, lowest_ratio_p=float(p)) if p < record.lowest_ratio_p else record
    )


def effective(record: Record) -> Experiment:
    """Return what assigns units now, with the present ramp and shares, also while it is stopped: then the control's
    engine answers, and units stay assigned and counted. One that was ended assigns nobody, which its caller looks at.
    """
    return record.experiment


def _begin(folder: Path, experiment: Experiment, versions: Versions, now: float, hold_out_salt: str) -> Record:
    try:
        folder.mkdir(exist_ok=True)
        left = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise InputError("experiment_root", str(folder), f"cannot be written ({reason(error)})") from error
    if left:
        allowed = f"holds {', '.join(sorted(left)[:5])} but no {RECORD}: put it back, or take another name and salt"
        raise InputError("experiment", str(folder), allowed)
    stage = Stage(0, now, shares_of(experiment), versions)
    record = Record(folder, experiment, (stage,), hold_out_salt, notes=(Note(now, f"started with {_words(stage)}"),))
    with locked(folder):
        write_record(record)
    return record


def _go_on(record: Record, experiment: Experiment, versions: Versions, now: float) -> Record:
    _refuse_ended(record)
    if record.name != experiment.name:
        raise InputError("name", experiment.name, f"is not that of {record.folder}, which is of {record.name}")
    refuse_changes(record.experiment, experiment, _how_to_end(record))
    before, last = record.experiment, record.stages[-1]
    stage = Stage(last.number + 1, max(now, record.latest), shares_of(experiment), versions)
    if (stage.shares, stage.versions) != (last.shares, last.versions):
        if len(record.stages) >= MOST_STAGES:
            raise InputError("experiment", record.name, f"has {MOST_STAGES} stages, and takes no more: end it")
        record = noted(record, now, f"stage {stage.number}: {_words(stage)}", stages=(*record.stages, stage))
    if experiment.ramp != before.ramp:
        record = noted(record, now, f"ramp from {before.ramp} to {experiment.ramp}")
    return record if experiment == before else replace(record, experiment=experiment)


def _checked(versions: Versions, experiment: Experiment) -> dict[str, tuple[str, str]]:
    names = list(experiment.variants)
    if not isinstance(versions, Mapping) or set(versions) != set(names):
        raise InputError("versions", versions, f"must be of {', '.join(names)}")
    found = {}
    for name in names:
        pair = versions[name]
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"versions.{name}", pair, "must be those of checkpoint and catalog")
        model, catalog = (free_text(f"versions.{name}", one, LONGEST_VERSION, "must be text") for one in pair)
        found[name] = (model, catalog)
    return found


def _refuse_beside(root: Path, experiment: Experiment) -> None:
    """Refuse a salt that was used below `root` before, and an experiment beside one that is not ended."""
    for name in folder_names(root, "experiment_root", "must be a folder"):
        if name == experiment.name or not NAME.fullmatch(name) or not os.path.lexists(root / name / RECORD):
            continue
        other = read_record(root / name)
        if other.experiment.salt == experiment.salt:
            allowed = f"was used by experiment {name} before, whose units it would divide in the same way: take another"
            raise InputError("salt", experiment.salt, allowed)
        if other.ended is None:
            allowed = f"cannot run beside {name}, which is not ended: {_how_to_end(other)} first"
            raise InputError("experiment", experiment.name, allowed)


def _refuse_ended(record: Record) -> None:
    if record.ended is not None:
        allowed = f"was ended at {date(record.ended)}: take a new name and a new salt to start another"
        raise InputError("experiment", record.name, allowed)


def _how_to_end(record: Record) -> str:
    return f"end it (octorec ab end {record.folder})"


def _words(stage: Stage) -> str:
    """Return shares and versions, in words."""
    parts = (
        f"{name} {share} of {' with '.join(shown(version, 40) for version in stage.versions[name])}"
        for name, share in stage.shares.items()
    )
    return one_line(", ".join(parts), LONGEST_WHY)
