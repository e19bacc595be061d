"""Chat templates give what transformers gives, whatever a user wrote stays the user's, and nothing else runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from octorec.errors import InputError
from octorec.models.chat_template import Marks, Piece, Template, chat_template
from octorec.models.prompts import Prompts
from tests.models.made_tokenizers import openonerec, write_tokenizer

LIKE_QWEN3 = (Path(__file__).parent / "chat_like_qwen3.jinja").read_text()
LIKE_QWEN2 = """
{%- if messages[0]['role'] == 'system' %}{{ '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}{% if message.role != 'system' %}
{{- '<|im_start|>' + message.role + '\\n' + (message.content | trim) + '<|im_end|>' + '\\n' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
OTHERS = """{% for message in messages %}{% if loop.index > 5 %}{% break %}{% endif %}{{ bos_token }}
{%- generation %}{{ message | tojson }}{% endgeneration %}{{ message.content.title() if false else message.content }}
{%- endfor %}{{ strftime_now('%Y')[:2] }}{{ eos_token }}"""
TALKS = {
    "one": [{"role": "user", "content": "Which film next?"}],
    "spaces": [{"role": "system", "content": " a\n\n"}, {"role": "user", "content": "\n\n  two words\n "}],
    "turns": [
        {"role": "system", "content": "用户观看过的视频"},
        {"role": "user", "content": "caf\u00e9 cafe\u0301 \U0001f600 \U000f0000"},
        {"role": "assistant", "content": "<think>\nfirst, a thought\n</think>\n\nan answer"},
        {"role": "user", "content": "and now?"},
    ],
    "begun": [
        {"role": "user", "content": "go on"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nso far"},
    ],
    "items": [{"role": "user", "content": "seen <|sid_begin|><s_a_1><s_b_2><s_c_3><|sid_end|><s_a_4><s_b_5><s_c_6>!"}],
}


SOURCES = {"qwen3": LIKE_QWEN3, "qwen2": LIKE_QWEN2}


def _thinks(talk: str) -> bool:
    """Without reasoning_content thoughts stay words, where transformers' tokenizer has a token for their marks."""
    return "</think>" in json.dumps(TALKS[talk])


@pytest.mark.parametrize(
    ("name", "talk"), [(name, talk) for name in SOURCES for talk in TALKS if name == "qwen3" or not _thinks(talk)]
)
def test_ids_are_those_of_transformers(tmp_path: Path, name: str, talk: str) -> None:
    """The folder is told to be of no family with a template of its own."""
    source = SOURCES[name]
    folder = openonerec(tmp_path, chat_template=source, said={"family": "chat"})
    theirs = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        TALKS[talk], add_generation_prompt=True, enable_thinking=False, return_dict=False
    )
    prompt = Prompts(folder).of_messages(TALKS[talk])
    assert prompt.ids[:-1].tolist() == theirs
    assert prompt.appended


def test_helpers_are_those_of_transformers(tmp_path: Path) -> None:
    """Break, the tag of training, tojson without escapes, dates and special tokens are known."""
    folder = openonerec(tmp_path, chat_template=OTHERS, said={"family": "chat"})
    messages = [{"role": "user", "content": "ab"}]
    theirs = AutoTokenizer.from_pretrained(folder).apply_chat_template(messages, tokenize=False)
    assert chat_template(folder).render({"messages": messages, "eos_token": "<|im_end|>"}) == theirs  # type: ignore[union-attr]


def test_the_file_comes_before_tokenizer_config(tmp_path: Path) -> None:
    folder = openonerec(tmp_path, chat_template="config", said={"family": "chat"})
    (folder / "chat_template.jinja").write_text("file")
    assert chat_template(folder).source == "file"  # type: ignore[union-attr]


def test_of_several_templates_the_default_is_taken(tmp_path: Path) -> None:
    several: Any = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    assert chat_template(openonerec(tmp_path, chat_template=several)).source == "d"  # type: ignore[union-attr]


def test_a_folder_without_a_template_has_none(tmp_path: Path) -> None:
    folder = openonerec(tmp_path, said={"family": "chat"})
    with pytest.raises(InputError, match=r"the folder has none: add chat_template\.jinja"):
        Prompts(folder).of_messages(TALKS["one"])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ ''.__class__.__mro__ }}", "refuses this prompt"),
        ("{{ messages.append(1) }}", "refuses this prompt"),
        ("{{ cycler.__init__.__globals__ }}", "refuses this prompt"),
        ("{% for i in range(10000000) %}x{% endfor %}", "refuses this prompt"),
        ("{{ raise_exception('only one turn') }}", "only one turn"),
        ("{{ messages[9].content + 'x' }}", "refuses this prompt"),
        ("{% include 'tokenizer.json' %}", "refuses this prompt"),
    ],
)
def test_a_template_runs_in_a_sandbox(source: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        Template(source, "here").render({"messages": [{"role": "user", "content": "x"}]})


def test_a_template_that_is_none_is_refused_where_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer_config.json: chat_template'; is no jinja template"):
        Prompts(openonerec(tmp_path, chat_template="{% if", said={"family": "chat"}))
    with pytest.raises(InputError, match="must be the text of a jinja template"):
        chat_template(write_tokenizer(tmp_path / "b", chat_template=3))  # type: ignore[arg-type]


def test_a_template_s_work_on_a_text_keeps_it_a_user_s() -> None:
    source = (
        "[{{ (text ~ '!') | trim | replace('a', 'b') }}|{{ text.split(' ')[1][:2] }}|{{ [text, text] | join('-') }}]"
    )
    marks = Marks()
    text = " <think> \U000f0001a"
    rendered = Template(source, "here").render({"text": marks.text(text)})
    pieces = marks.pieces(rendered)
    users = [piece.text for piece in pieces if piece.kind == "user"]
    assert users == ["<think>", "\U000f0001a", "<t", "<think>", "\U000f0001a", "<think>", "\U000f0001a"]
    assert (
        "".join(piece.text for piece in pieces) == "[<think> \U000f0001a!|<t| <think> \U000f0001a- <think> \U000f0001a]"
    )


def test_a_template_with_characters_that_stand_for_a_user_s_is_refused() -> None:
    with pytest.raises(InputError, match="holds characters of Unicode's private planes"):
        Template("a\U000f0000", "here")


def test_token_ids_pass_a_template_as_one_character() -> None:
    marks = Marks()
    assert marks.ids([]) == ""
    assert marks.pieces(f"a{marks.ids([5, 6])}{marks.ids([7])}") == [
        Piece("template", "a"),
        Piece("ids", ids=(5, 6)),
        Piece("ids", ids=(7,)),
    ]
