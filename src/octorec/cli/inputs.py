"""Several verbs read these inputs: users, interactions to predict, requests to measure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octorec.cli import leads
from octorec.cli.tables import users_format
from octorec.data.hold_out import HOLD_OUT
from octorec.data.table_format import OURS, TableFormat
from octorec.errors import InputError
from octorec.progress import Progress, silent
from octorec.terminal import console, say


def measured_requests(
    checkpoint: Path,
    data: Path,
    users: Path | None,
    catalog: str | list[str] | None,
    count: int,
    unknown_items: str,
    form: TableFormat,
    context_module: str | None = None,
    domain: str = "",
    base: Path | None = None,
) -> tuple[Any, list[str]]:
    """Return the newest interaction of `count` users as requests with their true answers, as a model reads them; or
    `count` rows of a benchmark.

    And what was left out of them, in words.
    """
    from octorec.engine.load import load
    from octorec.evaluate.asked import Asked, engine_of
    from octorec.evaluate.unknown import askable

    if count < 1:
        raise InputError("requests", count, "must be an integer above 0")
    engine = engine_of(load(checkpoint, catalog, context_module=context_module, base=base), domain)
    without_features(engine.features)
    every = to_predict(data, HOLD_OUT, form).examples
    known = known_users(users, engine.user_fields, (example.user_id for example in every), form)
    examples, unknown = askable(every, engine.catalog.item_ids, known, unknown_items)
    sample = examples[:: max(1, len(examples) // count)][:count]
    asked = Asked(engine, {}, known, domain)
    requests = [asked.request(example, example.history) for example in sample]
    return engine.forced_batch(requests, [example.target for example in sample]), unknown.lines()


def said_of_gpu(device: str) -> Progress:
    """Return the Progress of a load: a remark says what the engine takes of a GPU. Of a CPU nothing is said."""
    return silent if device == "cpu" else lambda done, total, what="": say(what)


def known_users(
    path: Path | None, fields: Iterable[Any], asked: Iterable[str], form: TableFormat = OURS
) -> dict[str, dict[str, Any]]:
    """Return what a table says about the users, each of a model's `fields` read as its kind; some of
    `asked` must be in it.

    What `fields` cannot hold of the users `asked` is an InputError that names the user. What is known of nobody, and of
    how many users nothing is known, is said on stderr: they all count as not given.
    """
    from octorec.data.users import read_users

    of_model = {field.name: field for field in fields}
    if path is None:
        if of_model:
            say(f"note: no --users: the model's user fields ({', '.join(of_model)}) count as not given for everybody")
        return {}
    users = read_users(path, {name: field.kind for name, field in of_model.items()}, users_format(form))
    every = list(dict.fromkeys(asked))
    known = {user: users[user] for user in every if user in users}
    if not known:
        found = f"users such as {next(iter(users))[:40]!r}"
        raise InputError(f"{path}: column user_id", found, "has no user of the interactions: write ids alike in both")
    _check_values(path, of_model, known)
    if len(known) < len(every):
        say(f"note: {path}: lacks {len(every) - len(known):,} of {len(every):,} users, whose fields count as not given")
    never = [name for name in of_model if not any(name in values for values in known.values())]
    if never:
        say(f"note: {path}: has no value of {', '.join(never)} for any of them, which counts as not given")
    return users


def without_features(features: Mapping[str, Any]) -> None:
    """Say that interactions bring no features, which then all count as left out; refuse where one must be given."""
    for name, feature in features.items():
        if feature.blank is None:
            allowed = "every request must give it, and interactions have none: declare a blank for it, or ask with"
            raise InputError(f"features.{name}", None, f"{allowed} `octorec evaluate --requests`, whose lines may")
    if features:
        say(f"note: interactions have no features: {', '.join(features)} count as left out in every request")


def _check_values(path: Path, fields: Mapping[str, Any], users: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a column that is no field of the model, and a value that its field does not hold."""
    for user, values in users.items():
        for name, value in values.items():
            if name not in fields:
                allowed = f"allowed: {', '.join(fields) or 'no field: the model declares none'}"
                raise InputError(f"{path}: columns", name, f"{allowed}; leave other columns out")
            try:
                fields[name].encode(value)
            except InputError as error:
                raise InputError(f"{path}: column {name}, user {user[:40]!r}", value, error.allowed) from None


def check_hold_out(hold_out: int) -> None:
    if hold_out < 1:
        raise InputError("hold_out", hold_out, "must be 1 or more: at least one interaction of each user is predicted")


def warned(origin: Any) -> Any:
    """Return `origin` after its warnings were said on stderr."""
    from octorec.report.verdict import warning

    for sentence in origin.warnings:
        console.print(warning(sentence), soft_wrap=True)
    return origin


@dataclass(frozen=True)
class ToPredict:
    """A ToPredict is what an evaluation predicts. interactions: None where the file has a benchmark's rows, of `name`.

    train: what floors learn from, if anything. sample: which users are asked, if not all.
    """

    interactions: Any
    examples: Sequence[Any]
    train: Any = None
    sample: Any = None
    name: str = ""

    def origin(self, hold_out: int, sides: Mapping[str, Any]) -> Any:
        """Return where the targets come from, and whether `sides` had learned from them."""
        from octorec.evaluate.origin import Origin, origin_of

        if self.interactions is not None:
            return origin_of(self.interactions, hold_out, sides, self.sample)
        sentence = f"whether the {' and the '.join(sides)} learned from these rows of {self.name} cannot be told"
        return Origin(0, 0, {}, (sentence,), self.sample)


def to_predict(
    data: Path, hold_out: int, form: TableFormat, limit: int | None = None, floors: bool = False
) -> ToPredict:
    """Return the newest interactions of each user, see `predicted`; or the rows of a benchmark.

    floors: say what floors learn from.
    """
    from octorec.data.benchmark import read_benchmark
    from octorec.data.splits import training_part

    rows = read_benchmark(data, form, limit)
    if rows is None:
        interactions, examples, sample = predicted(data, hold_out, form, limit)
        return ToPredict(interactions, examples, training_part(interactions, hold_out), sample)
    users = f", {rows.sample.line('users')}" if rows.sample else ""
    say(f"to predict: {len(rows.examples):,} rows of {rows.name}{users}")
    if not floors:
        return ToPredict(None, rows.examples, rows.train, rows.sample, rows.name)
    if rows.train is None:
        say("note: these rows have no histories of items for floors to learn from")
    else:
        say("note: floors learn from the shortest history of each user in the file")
    return ToPredict(None, rows.examples, rows.train, rows.sample, rows.name)


def predicted(data: Path, hold_out: int, form: TableFormat, limit: int | None = None) -> tuple[Any, Any, Any]:
    """Return interactions; the newest of each user, or of `limit` users, as examples to predict; and
    which users, if not all.

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
