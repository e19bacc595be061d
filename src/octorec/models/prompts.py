"""Prompts are made of items' codes, never through text for items, or of messages, text or token ids that clients give.

docs/qwen.md has the rules: how each family's prompt looks, where a begin token comes from, and what is left out of a
history that is too long.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from octorec.errors import InputError
from octorec.models.begin_token import ONLY, begun, require_domain
from octorec.models.chat_template import Marks, Piece, Template, chat_template
from octorec.models.histories import checked_histories
from octorec.models.layouts import read_layout, vocabulary_size
from octorec.models.messages import REASONING, THINK, checked_messages, laid_out, refuse_thinking
from octorec.models.prompt_history import SWITCHED, HistoryPrompts, check_texts, closers
from octorec.models.prompt_openonerec import SOFT_SWITCH
from octorec.models.prompt_shown import shown_prompt
from octorec.models.prompt_tokens import PromptTokens
from octorec.models.sid_tokens import SidTokens

MOST_IDS = 2**22  # of a prompt
AROUND = 8  # tokens around an item's codes in a history, at most: what is left out of a long one is counted with it


class Prompt(NamedTuple):
    """A Prompt is what a model reads.

    ids int64 [n]: token ids; the last is the begin token where the family has one. codes int64 [m, L]: of the whole
    semantic IDs in it, in their order. domain: whose catalog answers; "" for the only one. appended: whether the begin
    token was added, and not given. left_out: items of the history that are not in it, the oldest.
    """

    ids: np.ndarray
    codes: np.ndarray
    domain: str = ""
    appended: bool = False
    left_out: int = 0


class Prompts:
    """Prompts make what a folder's model reads.

    folder: of the tokenizer, with `octorec.json` where it has one. sids: the model's tokens; as the tokenizer says
    where None. domains: those that have a catalog; None: all.
    Raises InputError as `layouts.read_layout`, for a folder without tokenizer.json, and for a template that is none.
    """

    def __init__(self, folder: str | Path, sids: SidTokens | None = None, domains: Collection[str] | None = None):
        self.layout, self.domains = read_layout(folder), domains
        self.sids = self.layout.sids if sids is None else sids
        self.tokens = PromptTokens(self.layout.vocabulary, self.sids, closers(self.layout))
        self._rows = vocabulary_size(Path(folder)) or self.layout.vocabulary.largest + 1
        switched = self.layout.family in SWITCHED
        self._chat = Template(SOFT_SWITCH, "soft switch") if switched else chat_template(Path(folder))
        self._histories = HistoryPrompts(self.layout, self.tokens, self._chat)

    def of_history(
        self,
        codes: np.ndarray,
        domain: str = "",
        task: str | None = None,
        *,
        others: Mapping[str, np.ndarray] | None = None,
        texts: Mapping[str, str] | None = None,
        longest: int | None = None,
    ) -> Prompt:
        """Return the prompt of a user's items.

        codes int64 [n, L]: the history, the newest last; it may be empty. task: which of the family's prompts; by the
        domain where None. others: further histories by name, as `codes`. texts: words of the user's by name. longest:
        tokens at most; the oldest items of the longest history are left out until the prompt fits.
        Raises InputError: a code without a token, an unknown task, history or text, one that is needed and not there,
        and a prompt that is too long without any item.
        """
        self._require_domain(domain)
        histories, words = checked_histories(self.sids, codes, others or {}), dict(texts or {})
        for name, text in words.items():
            if not isinstance(text, str):
                raise InputError(f"texts.{name}", text, "must be a text")
        given, found = len(histories), self._histories.task(task, domain)
        if found is not None:
            check_texts(*found, words)
            histories = histories.of_task(*found)
        while True:
            ids = self._histories.ids(histories, found[1] if found else None, words, domain)
            prompt = self._begun(ids, domain, None if len(histories) else longest)
            over = 0 if longest is None else len(prompt.ids) - longest
            if over <= 0:
                return prompt._replace(left_out=given - len(histories))
            histories = histories.without_oldest(max(1, over // (len(self.sids.levels) + AROUND)))

    def of_messages(
        self, messages: Any, domain: str = "", thinking: bool | None = None, longest: int | None = None
    ) -> Prompt:
        """Return the prompt of messages of a chat, by the family's template or the folder's chat template.

        Whole semantic IDs in the texts become their tokens; no other word becomes a token that was added.
        thinking: whether a stage of thoughts is asked for, which is refused.
        Raises InputError: messages that are none, a stage of thoughts, no template, a prompt that is too long.
        """
        found = checked_messages(messages)
        if thinking or THINK in self.layout.vocabulary.added:
            refuse_thinking(found, thinking)
        if self._chat is None:
            allowed = (
                "need a chat template, and the folder has none: add chat_template.jinja, or give text or input_ids"
            )
            raise InputError("messages", len(found), allowed)
        marks = Marks()
        rendered = self._histories.rendered(self._chat, laid_out(found, marks.text, REASONING in self._chat.source))
        return self._begun(self.tokens.encode(marks.pieces(rendered)), domain, longest)

    def of_text(self, text: str, domain: str = "", longest: int | None = None) -> Prompt:
        """Return the prompt of a text that is one already: the tokens in it count, its template's and all others."""
        if not isinstance(text, str) or not text:
            raise InputError("text", text, "must be a text that is not empty")
        return self._begun(self.tokens.encode([Piece("template", text)]), domain, longest)

    def of_ids(self, ids: Sequence[int] | np.ndarray, domain: str = "", longest: int | None = None) -> Prompt:
        """Return the prompt of token ids."""
        found = ids.tolist() if isinstance(ids, np.ndarray) else ids
        if not isinstance(found, list | tuple) or not 1 <= len(found) <= MOST_IDS:
            raise InputError("input_ids", found, f"must be a list of 1 to {MOST_IDS:,} token ids")
        self._check_ids(found)
        return self._begun(found, domain, longest)

    def domain_of(self, domain: str = "") -> str:
        """Return the domain whose catalog answers where `domain` is asked for; raises InputError as a prompt would."""
        self._require_domain(domain)
        return begun((), self.sids.begin, domain, self.domains, self.tokens.text)[1]

    def require_task(self, task: str, domain: str = "") -> None:
        """Raise InputError for a task that the family's prompts do not have."""
        self._histories.task(task, domain)

    def shown(self, codes: np.ndarray) -> str:
        """Return the tokens of one item's codes [L], as text."""
        return self.tokens.text([int(ids[code]) for ids, code in zip(self.sids.levels, codes, strict=True)])

    def answers(self, codes: np.ndarray) -> tuple[list[list[int]], list[str]]:
        """Return what the model writes for items' codes [n, L]: token ids with those after the last code, and texts.

        A text has the tokens of the codes alone.
        """
        ids = np.stack([level[codes[:, place]] for place, level in enumerate(self.sids.levels)], 1).tolist()
        end = [token.id for token in self.sids.end]
        return [[*row, *end] for row in ids], self.tokens.texts(ids)

    def describe(self, ids: Sequence[int] | np.ndarray) -> str:
        """Say what a prompt holds, a line each: tokens that were added, items, and between them words in quotes.

        Raises InputError for what is no token id.
        """
        found = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        self._check_ids(found)
        return "\n".join(shown_prompt(self.tokens, found))

    def _require_domain(self, domain: str) -> None:
        """Refuse a domain that would change nothing: no catalog, begin token, task or template knows it."""
        require_domain(domain)
        begin, known = self.sids.begin, self._histories.domains
        if self.domains is not None or known is None or (begin and ONLY not in begin):  # then `begun` knows them
            return
        if domain not in ("", *begin, *known):
            names = ", ".join(known)
            raise InputError("domain", domain, f"allowed: {names}" if names else "this model has none: leave it out")

    def _check_ids(self, ids: Sequence[Any]) -> None:
        for place, one in enumerate(ids):
            if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one < self._rows:
                raise InputError(f"input_ids.{place}", one, f"must be a token id from 0 to {self._rows - 1:,}")

    def _begun(self, ids: Sequence[int], domain: str, longest: int | None) -> Prompt:
        """Return a prompt with its one begin token."""
        self._require_domain(domain)
        found, whose, appended = begun(ids, self.sids.begin, domain, self.domains, self.tokens.text)
        if longest is not None and len(found) > longest:
            allowed = f"must be at most {longest:,}: the model has no more positions"
            raise InputError("prompt", f"{len(found):,} tokens", allowed)
        return Prompt(np.array(found, np.int64), self.tokens.codes(found), whose, appended)
