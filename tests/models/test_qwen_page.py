"""docs/qwen.md: each example of octorec.json is read with the tokenizer it speaks of, and every key stands there."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from octorec.models.layout_file import KEYS, STAMP
from octorec.models.prompt_openonerec import TASKS
from octorec.models.prompts import Prompts
from tests.models.made_tokenizers import onerec_think_tokens, write_tokenizer

PAGE = (Path(__file__).parents[2] / "docs" / "qwen.md").read_text()
EXAMPLES = dict(re.findall(r"\*\*([\w-]+)\*\*[^\n]*(?:\n[^\n`*]*)*?\n\n```json\n(.*?)```", PAGE, re.S))
LETTERED = sorted(f"<{letter}_{code}>" for letter in "abcd" for code in range(12))
SIDS = [f"<|sid_{code}|>" for code in range(1024)]
TOKENS = {
    "LC-Rec": ["</s>", *LETTERED],
    "OneRec-Think": onerec_think_tokens(),
    "MIMIGenRec": LETTERED[:36],
    "semantic-ids-llm": ["<|rec|>", "<|sid_start|>", "<|sid_end|>", *SIDS],
    "TorchEasyRec": [f"C{code}" for code in range(768)],
    "Anybody": ["<red>", "<blue>", "<|toy|>", "<|book|>", *(f"<shape_{code}>" for code in range(5))],
}
JINJA = PAGE[PAGE.index("```jinja\n") + 9 :].partition("```")[0]


def test_each_family_that_needs_a_file_has_an_example() -> None:
    assert set(EXAMPLES) == set(TOKENS)


@pytest.mark.parametrize("name", TOKENS)
def test_an_example_makes_prompts(name: str, tmp_path: Path) -> None:
    """The last token is the begin token where it has one, and items come back as they were given."""
    said = json.loads(EXAMPLES[name])
    folder = write_tokenizer(tmp_path, TOKENS[name], special=name == "OneRec-Think", said=said)
    (folder / "prompt.jinja").write_text(JINJA)
    prompts = Prompts(folder)
    codes = np.array([[0] * len(prompts.sids.levels), [1] * len(prompts.sids.levels)])
    domain = next(iter(prompts.sids.begin), "")
    prompt = prompts.of_history(codes, domain)
    assert prompt.codes.tolist() == codes.tolist()
    assert prompt.appended == bool(prompts.sids.begin)
    assert len(prompts.sids.end) == len(said.get("end", ()))
    assert all((ids >= 0).all() for ids in prompts.sids.levels)


def test_every_key_and_task_stands_on_the_page() -> None:
    for key in (*set(KEYS) - set(STAMP), *TASKS):
        assert f"| `{key}` |" in PAGE, key
