"""Check messages of a chat, in the form of OpenAI's API, and lay them out as templates read them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from octorec.errors import InputError

ROLES = ("system", "user", "assistant")
MOST_MESSAGES = 1000
THINK, END_THINK, ASKED = "<think>", "</think>", "/think"
REASONING = "reasoning_content"  # where templates that know thoughts look for them
NO_THOUGHTS = (
    f"no stage of thoughts is run: leave {ASKED} and enable_thinking out. Where another server writes the thought, "
    f"give the whole prompt as text, from the template to the line break after {END_THINK}"
)


def checked_messages(messages: Any) -> list[tuple[str, str]]:
    """Return the role and the text of each message. A content is a text, or a list of parts {"type": "text", "text"}.

    Raises InputError for what is no list of messages, another role, and a part that is no text.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise InputError("messages", messages, "must be a list of one message or more")
    if len(messages) > MOST_MESSAGES:
        raise InputError("messages", len(messages), f"must be at most {MOST_MESSAGES} messages")
    out = []
    for place, message in enumerate(messages):
        where = f"messages.{place}"
        if not isinstance(message, Mapping):
            raise InputError(where, message, "must be an object of role and content")
        if message.get("role") not in ROLES:
            raise InputError(f"{where}.role", message.get("role"), f"allowed: {', '.join(ROLES)}")
        out.append((message["role"], _text(message.get("content"), f"{where}.content")))
    return out


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise InputError(where, content, "must be a text, or a list of parts such as {'type': 'text', 'text': '...'}")
    for place, part in enumerate(content):
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise InputError(f"{where}.{place}", part, "must be a part such as {'type': 'text', 'text': '...'}")
    return "".join(part["text"] for part in content)


def refuse_thinking(messages: Sequence[tuple[str, str]], thinking: bool | None) -> None:
    """Refuse a stage of thoughts, whether a flag asks for it or the last user's words end with `/think`."""
    if thinking:
        raise InputError("enable_thinking", thinking, NO_THOUGHTS)
    last = next((text for role, text in reversed(messages) if role == "user"), "")
    if last.rstrip().endswith(ASKED):
        raise InputError("messages", last[-len(ASKED) - 20 :], NO_THOUGHTS)


def laid_out(
    messages: Sequence[tuple[str, str]], mark: Callable[[str], str], thoughts_apart: bool
) -> list[dict[str, str]]:
    """Return messages for a template, each text through `mark`.

    thoughts_apart: the thoughts of an assistant are parted from its answer here, as templates do that find `</think>`
    in a text: in a text that is marked they find none.
    """
    out = []
    for role, text in messages:
        message = {"role": role}
        if thoughts_apart and role == "assistant" and END_THINK in text:
            thoughts = text.split(END_THINK)[0].rstrip("\n").split(THINK)[-1].lstrip("\n")
            message[REASONING] = mark(thoughts)
            text = text.split(END_THINK)[-1].lstrip("\n")
        out.append({**message, "content": mark(text)})
    return out
