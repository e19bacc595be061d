"""Layouts are told from added tokens, or from a few lines of octorec.json; what cannot be told is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from octorec.errors import InputError, MismatchError
from octorec.models import sid_tokens
from octorec.models.layouts import read_layout
from octorec.models.sid_tokens import EndToken
from tests.models.made_tokenizers import (
    MINIONEREC_CODES,
    minionerec,
    minionerec_tokens,
    onereason,
    onerec_think_tokens,
    openonerec,
    openonerec_tokens,
    write_tokenizer,
)


def ids_of(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def agree(folder: Path, level: int, form: str, codes: range | tuple[int, ...]) -> None:
    """Each code of a level has the id that the tokenizer gives its text, and all others have none."""
    ids, tokenizer = sid_tokens.read(folder).levels[level], ids_of(folder)
    for code in codes:
        assert ids[code] == tokenizer.token_to_id(form.format(code))
    assert (ids >= 0).sum() == len(codes)


def test_openonerec_is_recognised(tmp_path: Path) -> None:
    layout = read_layout(openonerec(tmp_path))
    assert (layout.family, layout.sids.codebook_sizes, layout.sids.end) == ("openonerec", (16, 16, 16), ())
    assert dict(layout.sids.begin) == {"": ids_of(tmp_path).token_to_id("<|sid_begin|>")}
    for level, letter in enumerate("abc"):
        agree(tmp_path, level, f"<s_{letter}_{{}}>", range(16))


def test_onereason_is_recognised_with_a_begin_token_a_domain(tmp_path: Path) -> None:
    layout = read_layout(onereason(tmp_path))
    assert (layout.family, layout.sids.end) == ("onereason", ())
    begin = {"video": "video", "product": "prod", "ad": "ad", "live": "living", "sid": "sid", "search": "search"}
    assert dict(layout.sids.begin) == {
        domain: ids_of(tmp_path).token_to_id(f"<|{word}_begin|>") for domain, word in begin.items()
    }


def test_minionerec_is_recognised_with_gaps_and_its_two_ends(tmp_path: Path) -> None:
    layout, tokenizer = read_layout(minionerec(tmp_path)), ids_of(tmp_path)
    assert layout.family == "minionerec"
    assert dict(layout.sids.begin) == {}
    (newline,) = tokenizer.encode("\n").ids
    assert layout.sids.end == (EndToken(newline), EndToken(tokenizer.token_to_id("<|im_end|>")))
    assert layout.sids.codebook_sizes == (41, 12, 64)
    for level, (letter, codes) in enumerate(MINIONEREC_CODES.items()):
        agree(tmp_path, level, f"<{letter}_{{}}>", codes)
    assert layout.sids.levels[0][10] < layout.sids.levels[0][2]  # sorted as strings: no base and code


LEVELS4 = ["<s_a_{}>", "<s_b_{}>", "<s_c_{}>", "<s_d_{}>"]
THINK = {"levels": LEVELS4, "begin": "<|sid_begin|>", "end": ["<|sid_end|>"]}
COUNTED = {"levels": ["<|sid_{}|>"] * 4, "numbers": "run_on", "codebook_sizes": [8] * 4, "begin": "<|sid_start|>"}
EASY = {"levels": ["C{}"] * 3, "numbers": "run_on", "codebook_sizes": [6, 4, 5]}


def test_onerec_think_is_a_few_lines(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, onerec_think_tokens(), special=True, said=THINK)
    layout, tokenizer = read_layout(folder), ids_of(folder)
    assert layout.family == "chat"
    assert dict(layout.sids.begin) == {"": tokenizer.token_to_id("<|sid_begin|>")}
    assert layout.sids.end == (EndToken(tokenizer.token_to_id("<|sid_end|>")),)
    for level, letter in enumerate("abcd"):
        agree(folder, level, f"<s_{letter}_{{}}>", range(8))


def test_numbers_that_run_on_are_told_apart_by_sizes(tmp_path: Path) -> None:
    """Such are the tokens of semantic-ids-llm."""
    tokens = ["<|rec|>", "<|sid_start|>", "<|sid_end|>", *(f"<|sid_{code}|>" for code in range(32))]
    layout = read_layout(write_tokenizer(tmp_path, tokens, said={**COUNTED, "end": ["<|sid_end|>"]}))
    first = ids_of(tmp_path).token_to_id("<|sid_0|>")
    assert [ids.tolist() for ids in layout.sids.levels] == [
        [first + 8 * level + code for code in range(8)] for level in range(4)
    ]


def test_torcheasyrec_s_tokens_are_found_where_the_vocabulary_had_some_before(tmp_path: Path) -> None:
    """A tokenizer that has `C1` among its own words gives it no second id."""
    folder = write_tokenizer(tmp_path, [f"C{code}" for code in range(15) if code != 1], said=EASY)
    raw = json.loads((folder / "tokenizer.json").read_text())
    word = next(text for text in raw["model"]["vocab"] if len(text) > 1)
    raw["model"]["vocab"]["C1"] = raw["model"]["vocab"].pop(word)
    raw["model"]["merges"] = []
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    levels = read_layout(folder).sids.levels
    assert [len(ids) for ids in levels] == [6, 4, 5]
    assert levels[0][1] == raw["model"]["vocab"]["C1"]
    assert (np.concatenate(levels) >= 0).all()


def test_lc_rec_s_four_levels_end_as_its_file_says(tmp_path: Path) -> None:
    tokens = sorted(f"<{letter}_{code}>" for letter in "abcd" for code in range(4))
    said = {"family": "chat", "levels": ["<a_{}>", "<b_{}>", "<c_{}>", "<d_{}>"], "end": ["<|endoftext|>"]}
    layout = read_layout(write_tokenizer(tmp_path, tokens, said=said))
    assert layout.sids.codebook_sizes == (4, 4, 4, 4)
    assert layout.sids.end == (EndToken(ids_of(tmp_path).token_to_id("<|endoftext|>")),)


def test_what_a_file_does_not_say_stays_as_recognised(tmp_path: Path) -> None:
    """MIMIGenRec has MiniOneRec's tokens, a chat template and one end."""
    said = {"family": "chat", "end": [{"token": "<|im_end|>", "scored": False}], "scores_over": "level"}
    layout = read_layout(minionerec(tmp_path, said=said))
    assert (layout.family, layout.sids.scores_over) == ("chat", "level")
    assert layout.sids.end == (EndToken(ids_of(tmp_path).token_to_id("<|im_end|>"), scored=False),)
    assert layout.sids.codebook_sizes == (41, 12, 64)


def test_tokens_may_be_listed_and_shared_between_levels(tmp_path: Path) -> None:
    said = {"levels": [["red", "blue"], "n{}", "n{}"], "numbers": "each_level", "codebook_sizes": [3, 4, 4]}
    levels = read_layout(write_tokenizer(tmp_path, ["blue", "red", "n0", "n3"], said=said)).sids.levels
    tokenizer = ids_of(tmp_path)
    assert levels[0].tolist() == [tokenizer.token_to_id("red"), tokenizer.token_to_id("blue"), -1]
    assert (
        levels[1].tolist() == levels[2].tolist() == [tokenizer.token_to_id("n0"), -1, -1, tokenizer.token_to_id("n3")]
    )


def test_a_slow_tokenizer_s_files_are_read(tmp_path: Path) -> None:
    """vocab.json, added_tokens.json and tokenizer_config.json, as older folders have them."""
    folder = minionerec(tmp_path)
    expected = read_layout(folder)
    raw = json.loads((folder / "tokenizer.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(raw["model"]["vocab"]))
    half = len(raw["added_tokens"]) // 2
    (folder / "added_tokens.json").write_text(
        json.dumps({one["content"]: one["id"] for one in raw["added_tokens"][:half]})
    )
    decoder = {str(one["id"]): {"content": one["content"], "special": False} for one in raw["added_tokens"][half:]}
    config = {"eos_token": {"content": "<|im_end|>"}, "added_tokens_decoder": decoder}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").unlink()
    assert read_layout(folder).sids.to_dict() == expected.sids.to_dict()


def test_a_folder_of_ours_says_its_format_beside(tmp_path: Path) -> None:
    layout = read_layout(openonerec(tmp_path, said={"format": 1, "written_by": "0.1"}))
    assert layout.recognised == "openonerec, by its added tokens"


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        read_layout(folder)
    return str(error.value)


def test_a_tokenizer_without_tokens_of_items_says_what_it_has(tmp_path: Path) -> None:
    said = refused(write_tokenizer(tmp_path))
    assert "no token of semantic IDs was found" in said
    assert "tokenizer.json, tokenizer_config.json: 9 added tokens, among them <|endoftext|>, <|im_start|>" in said
    assert "octorec.json" in said


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    assert "tokenizer.json, or vocab.json with added_tokens.json" in refused(tmp_path)


@pytest.mark.parametrize(
    ("tokens", "special", "expected"),
    [
        (onerec_think_tokens(), True, "codes were found at 4 levels, <s_a_{}> to <s_d_{}>, special tokens"),
        (openonerec_tokens()[:-2], False, "these are neither"),
        ([f"<|sid_{code}|>" for code in range(8)], False, "8 tokens <|sid_{}|> were found; their numbers run on"),
        (["C0", "C1"], False, '"numbers": "run_on", "codebook_sizes"'),
        (["<s_a_0>", "<s_c_0>"], False, "no token <s_b_...>: a level has no tokens"),
        (["<b_0>", "<c_0>"], False, "no token <a_...>: a level has no tokens"),
        ([*minionerec_tokens(), "C0"], False, "tokens of several kinds were found, <a_{}> and C{}"),
        ([*openonerec_tokens(), "<s_b_07>"], False, "levels.1: got '<s_b_07>'; is a second token of code 7, beside"),
    ],
)
def test_what_cannot_be_inferred_is_refused_with_what_was_found(
    tmp_path: Path, tokens: list[str], special: bool, expected: str
) -> None:
    assert expected in refused(write_tokenizer(tmp_path, tokens, special=special))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"lvels": []}, "unknown key; known: family, levels, numbers"),
        ({"levels": []}, "octorec.json: levels: got []; must be 1 to 64"),
        ({"levels": "<a_{}>"}, "octorec.json: levels: got '<a_{}>'; must be a list"),
        ({"levels": ["<a_>"]}, "octorec.json: levels.0: got '<a_>'; must have {} once"),
        ({"levels": ["<s_a_{}>", "<x_{}>"]}, "octorec.json: levels.1: got '<x_{}>'; no token of the vocabulary"),
        ({"levels": ["<s_a_{}>"] * 2}, "octorec.json: numbers: got None; two levels have one pattern"),
        ({"levels": ["<s_a_{}>"] * 2, "numbers": "run_on"}, "octorec.json: codebook_sizes: got None; is needed"),
        ({"codebook_sizes": [16]}, "codebook_sizes: got [16]; must be 3 integers"),
        ({"codebook_sizes": [16, 8, 16]}, "numbers of this level's tokens are below 8"),
        ({"levels": [["<s_a_0>", "nope nope"]]}, "octorec.json: levels.0.1: got 'nope nope'; must be one token"),
        ({"levels": [["<s_a_0>", "<s_a_0>"]]}, "octorec.json: levels.0.1: got '<s_a_0>'; stands for an earlier code"),
        ({"begin": "<|nope|>"}, "octorec.json: begin: got '<|nope|>'; must be one token"),
        ({"numbers": "run_on"}, "octorec.json: codebook_sizes: got None; is needed where numbers run on"),
        ({"codebook_sizes": [4, 16, 16]}, "octorec.json: levels.0: got '<s_a_4>'; numbers of this level's tokens are"),
        ({"begin": {"my toys": "<|sid_begin|>"}}, "octorec.json: begin: got 'my toys'; must be a name of letters"),
        ({"end": ["<|nope|>"]}, "octorec.json: end: got '<|nope|>'; must be one token"),
        ({"end": ["<s_a_0>"]}, "a token of a code can neither begin nor end an item"),
        ({"family": "llama"}, "octorec.json: family: got 'llama'; must be openonerec, onereason, minionerec or chat"),
        ({"scores_over": "beam"}, "octorec.json: scores_over: got 'beam'; must be vocabulary or level"),
        ({"end": [{"token": "<|im_end|>", "score": True}]}, "octorec.json: end:"),
    ],
)
def test_a_wrong_line_of_the_file_is_named(tmp_path: Path, said: dict[str, Any], expected: str) -> None:
    assert expected in refused(openonerec(tmp_path, said=said))


def test_tokens_beyond_the_model_s_vocabulary_are_refused(tmp_path: Path) -> None:
    folder = openonerec(tmp_path, spare=-4)
    with pytest.raises(MismatchError, match=r"vocab_size: got \d+; 3 tokens of items lie beyond it.*<s_c_14>"):
        read_layout(folder)


def test_one_text_with_two_ids_is_refused(tmp_path: Path) -> None:
    folder = openonerec(tmp_path)
    (folder / "added_tokens.json").write_text('{"<s_a_0>": 3}')
    assert "token '<s_a_0>' has the id" in refused(folder)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("tokenizer.json", '{"added_tokens": [{"id": "x", "content": "<s_a_0>"}]}'),
        ("tokenizer.json", '{"model": {"vocab": {"a": -1}}}'),
        ("tokenizer.json", "[]"),
        ("tokenizer.json", "{"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {"content": "y"}}}'),
        ("added_tokens.json", '{"y": 1.5}'),
        ("octorec.json", "[]"),
    ],
)
def test_broken_files_are_refused_by_name(tmp_path: Path, name: str, raw: str) -> None:
    folder = openonerec(tmp_path)
    (folder / name).write_text(raw)
    assert name in refused(folder)


def test_an_end_of_text_that_is_no_token_is_the_tokenizer_s_fault(tmp_path: Path) -> None:
    config = minionerec(tmp_path) / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "eos_token": "<|nope|>"}))
    said = refused(tmp_path)
    assert f"tokenizer {tmp_path}: eos_token: got '<|nope|>'; must be one token of the vocabulary" in said
    assert "octorec.json" not in said
