"""Examples become the requests that an engine is asked: with what its catalog knows of a history, or a row's prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from octorec.data.splits import Example
from octorec.engine.request import Request
from octorec.errors import InputError


@dataclass(frozen=True)
class Asked:
    """An Asked makes the requests of one evaluation. fields: of every request, such as k. users: fields by user id.

    domain, task: of a model that reads prompts, as `Request` has them.
    """

    engine: Any
    fields: Mapping[str, Any]
    users: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    domain: str = ""
    task: str | None = None

    def request(self, example: Example, history: Sequence[str]) -> Request:
        """Return the request of an example. history: those items of its own that the catalog knows.

        Messages become the prompt's token ids here: what they tell of items need not be of the catalog, as product
        prompts name videos. Raises InputError where the model reads no prompts, and as `Prompts.of_messages`.
        """
        if not example.messages:
            task: dict[str, Any] = {"task": self.task} if self.task else {}
            return Request(history, user=self.users.get(example.user_id, {}), **self.fields, **self._domain, **task)
        return Request(input_ids=self._prompt(example), **self.fields, **self._domain)

    @property
    def _domain(self) -> dict[str, Any]:
        return {"domain": self.domain} if self.domain else {}

    def _prompt(self, example: Example) -> Any:
        prompts = getattr(self.engine, "prompts", None)
        if prompts is None:
            raise InputError("data", "rows with prompts", "the model reads items' codes, not a prompt: give histories")
        try:
            return prompts.of_messages(list(example.messages), self.domain, None, self.engine.longest).ids
        except InputError as error:
            raise InputError(f"a row of user {example.user_id}: {error.field}", error.value, error.allowed) from error


def engine_of(engine: Any, domain: str) -> Any:
    """Return the engine whose catalog answers for a domain; the same one where it has no others.

    Raises InputError for a domain that it has no catalog of, and where one must be named.
    """
    return engine.of(Request(domain=domain)) if getattr(engine, "domains", None) else engine
