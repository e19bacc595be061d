"""Write the prompt of a user's histories as the family was trained to read it, or by the user's own template."""

from collections.abc import Mapping

import numpy as np

from octorec.errors import InputError
from octorec.files import is_own_file
from octorec.models.chat_template import Marks, Piece, Template, read_template, special_tokens
from octorec.models.checkpoint_folder import VERSION
from octorec.models.histories import MAIN, Histories, require_known
from octorec.models.layout_file import PLACE
from octorec.models.layouts import Layout
from octorec.models.prompt_minionerec import BODY, HEAD, SEPARATOR
from octorec.models.prompt_openonerec import DOMAINS, TASKS, Task
from octorec.models.prompt_tokens import PromptTokens

SWITCHED = ("openonerec", "onereason")  # families with tasks, and the template of the soft switch


class HistoryPrompts:
    """HistoryPrompts write histories as token ids. template: that of messages; None: there is none."""

    def __init__(self, layout: Layout, tokens: PromptTokens, template: Template | None):
        self.layout, self.tokens, self.template = layout, tokens, template
        self.special = special_tokens(layout.vocabulary.folder)
        self.own = _own_template(layout)

    @property
    def domains(self) -> tuple[str, ...] | None:
        """Return the domains by which prompts differ; None where the user's own template may read any name."""
        if self.own is not None:
            return None
        return DOMAINS if self.layout.family in SWITCHED else ()

    def task(self, name: str | None, domain: str) -> tuple[str, Task] | None:
        """Return a task by its name, or by the domain; None for a family, or a template, that has one prompt alone."""
        if self.layout.family not in SWITCHED or self.own is not None:
            if name is not None:
                raise InputError("task", name, "this model has one prompt: leave it out")
            return None
        found = name or (domain if domain in TASKS else "video")
        if found not in TASKS:
            raise InputError("task", name, f"allowed: {', '.join(TASKS)}")
        return found, TASKS[found]

    def ids(self, histories: Histories, task: Task | None, texts: Mapping[str, str], domain: str) -> list[int]:
        """Return the token ids of a prompt, without a begin token that its template does not write."""
        marks = Marks()
        if self.own is not None:
            lines = {name: self._items(marks, codes, domain) for name, codes in histories.by_name.items()}
            words = {name: marks.text(text) for name, text in texts.items()}
            variables = {"history": lines[MAIN], "histories": lines, "texts": words, "domain": domain}
            return self.tokens.encode(marks.pieces(self.own.render({**self.special, **variables})))
        if task is not None and self.template is not None:
            said = self._said(task, histories, texts, marks)
            return self.tokens.encode(marks.pieces(self.rendered(self.template, said)))
        require_known(histories, (), "this model's prompt")
        for name in texts:
            raise InputError(f"texts.{name}", texts[name], "this model's prompt has no words of a user")
        items = self._items(marks, histories.by_name[MAIN], domain)
        if self.layout.family == "minionerec":
            body = marks.pieces(BODY.replace("{history}", items))
            return self.tokens.encode([Piece("template", HEAD)]) + self.tokens.encode(body)
        if self.template is not None:
            items = self.rendered(self.template, [{"role": "user", "content": items}])
        return self.tokens.encode(marks.pieces(items))

    def rendered(self, template: Template, messages: list[dict[str, str]]) -> str:
        """Return messages as a chat template writes them, up to where the assistant begins, without thoughts."""
        how = {"add_generation_prompt": True, "enable_thinking": False, "tools": None, "documents": None}
        return template.render({**self.special, **how, "messages": messages})

    def _said(self, task: Task, histories: Histories, texts: Mapping[str, str], marks: Marks) -> list[dict[str, str]]:
        """Return the messages of a task."""
        lines = []
        for line in task.lines:
            if len(codes := histories.by_name[line.history]):
                lines.append(line.words + self._items(marks, codes, line.domain))
        user = task.user.replace("{lines}", "\n".join(lines))
        for name in task.texts:
            words = task.asks[texts[name]] if name == "action" else marks.text(texts[name])
            user = user.replace(f"{{{name}}}", words)
        return [{"role": "system", "content": task.system}, {"role": "user", "content": user}]

    def _items(self, marks: Marks, codes: np.ndarray, domain: str) -> str:
        """Return the marks of a history's items, with the template's words around and between them."""
        separator = self.layout.separator
        if separator is None:
            separator = SEPARATOR if self.layout.family == "minionerec" else ""
        before, after = self._form(domain).split(PLACE)
        items = np.stack([ids[codes[:, level]] for level, ids in enumerate(self.tokens.sids.levels)], 1)
        controls = [self.tokens.controls(part) for part in (before, after, separator)]
        if None in controls:  # words among them, which are split into tokens with what is around
            return separator.join(before + marks.ids(item) + after for item in items.tolist())
        first, last, between = (np.tile(np.array(part, np.int64), (len(items), 1)) for part in controls)
        rows = np.concatenate([between, first, items, last], 1)
        return marks.ids(rows.reshape(-1)[between.shape[1] :].tolist())

    def _form(self, domain: str) -> str:
        """Return how an item of a domain stands in a history."""
        if self.layout.item is not None:
            return self.layout.item
        begin = self.tokens.sids.begin
        if self.layout.family == "onereason" and domain in begin:
            return self.tokens.text([begin[domain]]) + PLACE
        return PLACE


def check_texts(name: str, task: Task, texts: Mapping[str, str]) -> None:
    """Refuse words of the user's that a task lacks, or that it does not read, and an action that there is not."""
    for one in (*task.texts, *texts):
        if one not in texts or one not in task.texts:
            allowed = f"task {name} reads {' and '.join(task.texts) or 'no words of the user'}"
            raise InputError(f"texts.{one}", texts.get(one), allowed)
    if task.asks and texts["action"] not in task.asks:
        raise InputError("texts.action", texts["action"], f"allowed: {', '.join(task.asks)}")


def closers(layout: Layout) -> tuple[str, ...]:
    """Return the tokens that stand after an item's codes in a history."""
    after = (layout.item or PLACE).split(PLACE)[-1]
    return (after,) if after else ()


def _own_template(layout: Layout) -> Template | None:
    """Return the user's own template, a file of the folder that `octorec.json` names."""
    if layout.prompt is None:
        return None
    path = layout.vocabulary.folder / layout.prompt
    if path.name != layout.prompt or not is_own_file(path):
        raise InputError(f"{VERSION}: prompt", layout.prompt, "must be the name of a file in the folder")
    return read_template(path, f"{VERSION}: prompt")
