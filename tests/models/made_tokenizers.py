"""Tokenizers of the families, of small size: a byte-level BPE with Qwen's own added tokens, then those of items."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = [
    "Below is an instruction that describes a task, paired with an input that provides further context.",
    "### Instruction:\nCan you predict the next possible item that the user may expect?\n\n### User Input: \n",
    "user\nassistant\nsystem\n/no_think /think\n\n, , <a_1> <s_a_1> <|im_end|> <think>",
    "用户观看过的视频：请根据用户的观看历史，预测用户接下来可能观看的视频。",
]
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
OTHERS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")


@cache
def base_json(words: bool = True) -> str:
    """A byte-level BPE as Qwen's, of 600 tokens, with Qwen's own added tokens. words: texts are split into words."""
    made = Tokenizer(models.BPE(byte_fallback=False))
    made.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes] if words else [to_bytes])
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False))
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    made.add_tokens([AddedToken(text, normalized=False) for text in OTHERS])
    return made.to_str()


def write_tokenizer(
    folder: Path,
    tokens: Sequence[str] = (),
    special: bool = False,
    model_type: str = "qwen3",
    chat_template: str | None = None,
    said: dict[str, Any] | None = None,
    spare: int = 5,
    words: bool = True,
) -> Path:
    """A folder with a tokenizer of these added tokens, config.json, and octorec.json where `said` is given."""
    made = Tokenizer.from_str(base_json(words))
    added = [AddedToken(text, special=special, normalized=False) for text in tokens]
    made.add_special_tokens(added) if special else made.add_tokens(added)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    if chat_template is not None:
        config["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    rows = made.get_vocab_size() + spare
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, "vocab_size": rows}))
    if said is not None:
        (folder / "octorec.json").write_text(json.dumps(said))
    return folder


def openonerec_tokens(codes: int = 16) -> list[str]:
    """Codes of three levels, then begin and end."""
    return [*(f"<s_{letter}_{code}>" for letter in "abc" for code in range(codes)), "<|sid_begin|>", "<|sid_end|>"]


def onereason_tokens(codes: int = 16) -> list[str]:
    words = ("video", "prod", "ad", "living", "sid", "search")
    return [*openonerec_tokens(codes)[:-2], *(f"<|{word}_begin|>" for word in words)]


def onerec_think_tokens(codes: int = 8) -> list[str]:
    """Begin and end first, then codes of four levels."""
    codes_of = (f"<s_{letter}_{code}>" for letter in "abcd" for code in range(codes))
    return ["<|sid_begin|>", "<|sid_end|>", *codes_of]


MINIONEREC_CODES = {"a": (2, 10, 3, 40), "b": (0, 1, 11, 7), "c": (5, 63, 6)}


def minionerec_tokens() -> list[str]:
    """Only codes in use, sorted as strings: <a_10> comes before <a_2>."""
    return sorted(f"<{letter}_{code}>" for letter, codes in MINIONEREC_CODES.items() for code in codes)


def openonerec(folder: Path, **more: Any) -> Path:
    return write_tokenizer(folder, openonerec_tokens(), **more)


def onereason(folder: Path, **more: Any) -> Path:
    return write_tokenizer(folder, onereason_tokens(), **more)


def minionerec(folder: Path, **more: Any) -> Path:
    return write_tokenizer(folder, minionerec_tokens(), **{"model_type": "qwen2", **more})
