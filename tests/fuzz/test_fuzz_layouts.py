"""A folder of a tokenizer, and what people say of it: tokenizer.json and its companions, octorec.json, templates."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from checkpoints import rewritten_json
from harness import fuzz
from mutate import broken_bytes

from octorec.models.inspected import inspect_folder
from octorec.models.prompts import Prompts
from octorec.models.vocabulary import read_vocabulary
from tests.models.made_tokenizers import openonerec
from tests.models.test_chat_template import LIKE_QWEN3

SAID = {
    "family": "chat",
    "levels": ["<s_a_{}>", "<s_b_{}>", ["<s_c_0>", "<s_c_1>"]],
    "numbers": "each_level",
    "codebook_sizes": [16, 20, 3],
    "begin": {"": "<|sid_begin|>"},
    "end": ["\n", {"token": "<|im_end|>", "scored": True}],
    "scores_over": "level",
    "item": "<|sid_begin|>{}<|sid_end|>",
    "separator": ", ",
    "prompt": "mine.jinja",
}


def make(folder: Path) -> None:
    made = openonerec(folder / "input", said=SAID, chat_template=LIKE_QWEN3)
    (made / "mine.jinja").write_text("<|im_start|>{{ history }}{% for one in texts %}{{ texts[one] }}{% endfor %}")
    (made / "added_tokens.json").write_text(json.dumps({"<|more|>": read_vocabulary(made).largest + 1}))
    (made / "generation_config.json").write_text(json.dumps({"top_k": 20}))


def broken(folder: Path, rng: random.Random) -> str:
    files = sorted((folder / "input").iterdir())
    path = rng.choice([*files, folder / "input" / "octorec.json", folder / "input" / "octorec.json"])
    if path.suffix == ".json" and rng.random() < 0.9:
        return f"{path.name}: {rewritten_json(path, rng)}"
    content = broken_bytes(path.read_bytes(), rng)
    path.write_bytes(content)
    return f"{path.name}: {content[:1000]!r}"


def read(folder: Path) -> object:
    found = inspect_folder(folder / "input")
    prompts = Prompts(folder / "input")
    codes = np.zeros((2, len(prompts.sids.levels)), np.int64)
    prompts.of_messages([{"role": "user", "content": "a <s_a_1><s_b_2><s_c_1><|im_end|>"}])
    return len(found.to_dict()), len(prompts.of_history(codes, texts={"name": "x"}).ids)


@pytest.mark.slow
def test_a_broken_tokenizer_or_layout_is_refused_in_one_line() -> None:
    fuzz("test_fuzz_layouts")
