"""What several verbs read: users, interactions to predict, requests to measure."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from octorec import leads
from octorec.cli_tables import users_format
from octorec.data.hold_out import HOLD_OUT
from octorec.data.table_format import OURS, TableFormat
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.terminal import say


def measured_requests(
    checkpoint: Path,
    data: Path,
    users: Path | None,
    catalog: Path | None,
    count: int,
    unknown_items: str,
    form: TableFormat,
) -> tuple[Any, list[str]]:
    """The newest interaction of `count` users as requests with their true answers, as a model reads them.

    And what was left out of them, in words.
    """
    from octorec.engine.load import load
    from octorec.evaluate.unknown import askable

    if count < 1:
        raise InputError("requests", count, "must be an integer above 0")
    engine = load(checkpoint, catalog)
    _, every, _ = predicted(data, HOLD_OUT, form)
    known = known_users(users, engine.config.user_fields, (example.user_id for example in every), form)
    examples, unknown = askable(every, engine.catalog.item_ids, known, unknown_items)
    sample = examples[:: max(1, len(examples) // count)][:count]
    requests = [Request(example.history, user=known.get(example.user_id, {})) for example in sample]
    return engine.forced_batch(requests, [example.target for example in sample]), unknown.lines()


def known_users(
    path: Path | None, fields: Iterable[Any], asked: Iterable[str], form: TableFormat = OURS
) -> dict[str, dict[str, Any]]:
    """What a table says about the users, each of a model's `fields` read as its kind; some of `asked` must be in it."""
    from octorec.data.users import read_users

    if path is None:
        return {}
    users = read_users(path, {field.name: field.kind for field in fields}, users_format(form))
    if users.keys().isdisjoint(asked):
        found = f"users such as {next(iter(users))[:40]!r}"
        raise InputError(f"{path}: column user_id", found, "has no user of the interactions: write ids alike in both")
    return users


def check_hold_out(hold_out: int) -> None:
    if hold_out < 1:
        raise InputError("hold_out", hold_out, "must be 1 or more: at least one interaction of each user is predicted")


def predicted(data: Path, hold_out: int, form: TableFormat, limit: int | None = None) -> tuple[Any, Any, Any]:
    """Interactions; the newest of each user, or of `limit` users, as examples to predict; and which users, if not all.

    What was read and what is to be predicted is said on stderr.
    """
    from octorec.data.sampled import sampled_users
    from octorec.data.splits import leave_last_out
    from octorec.evaluate.predictions import require_examples

    interactions = leads.reading(data, form)
    of, sample = (interactions, None) if limit is None else sampled_users(interactions, limit)
    _, examples = leave_last_out(of, hold_out)
    require_examples(examples)
    users = sample.line("users") if sample else "each user"
    say(f"to predict: {len(examples):,} interactions, {leads.newest(hold_out)} of {users}")
    return interactions, examples, sample
