"""Small tokenizers as families of language models with semantic IDs have them: which tokens, in which order.

OpenOneRec: all codes of each level, then a begin and an end token. OneReason: a begin token a domain, no end.
MiniOneRec: the codes in use alone, sorted as texts; an item ends with a newline and the end of the text.
All of these tokens are ordinary added ones, on top of a byte-level BPE with Qwen's pieces and control tokens.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from octorec.models.sid_tokens import EndToken, SidTokens

PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ORDINARY = ("<think>", "</think>")
DOMAINS = {"video": "video", "product": "prod", "ad": "ad", "live": "living", "sid": "sid"}
SYSTEM = "你是一个智能推荐助手，能够根据用户的浏览历史预测用户可能感兴趣的下一个内容。"
WATCHED = "根据以下用户浏览记录，请预测用户接下来可能观看的内容：\n"
CHAT = (
    f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{WATCHED}",
    "/no_think<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
)
ALPACA = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request. \n\n### Instruction:\n"
    "Can you predict the next possible item that the user may expect?\n\n",
    "### User Input: \nCan you predict the next possible item the user may expect, given the following chronological "
    "interaction history: ",
    "\n\n### Response:\n",
)
CHAT_TEMPLATE = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""


@dataclass(frozen=True, eq=False)
class Layout:
    """A Layout is a tokenizer with the tokens of its items. before, after: texts around a prompt's items, tokenised
    apart. between: what separates two items.
    """

    name: str
    tokenizer: Tokenizer
    sids: SidTokens
    before: tuple[str, ...]
    after: str
    between: str = ""

    @property
    def vocabulary(self) -> int:
        """Return the number of ids that have a token."""
        return int(self.tokenizer.get_vocab_size(with_added_tokens=True))

    def ids(self, text: str) -> list[int]:
        """Return the ids of a text, remembered: training asks for the same few thousands of times."""
        return encoded(self.tokenizer, text)

    def item(self, codes: Sequence[int], domain: str) -> list[int]:
        """Return an item's tokens within a history."""
        begin = [self.sids.begin[domain]] if self.sids.begin else []
        tokens = [int(level[code]) for level, code in zip(self.sids.levels, codes, strict=True)]
        return begin + tokens + self.closing()

    def closing(self) -> list[int]:
        """Return what closes an item of a history: OpenOneRec's end token, which its answers do not need."""
        found = self.tokenizer.token_to_id("<|sid_end|>")
        return [] if found is None else [found]

    def prompt(self, history: np.ndarray, domain: str | None = None) -> np.ndarray:
        """Return the ids of a prompt for a history [n, L] of codes, int64; it ends with the domain's begin token."""
        domain = domain if domain is not None else next(iter(self.sids.begin), "")
        out = [token for text in self.before for token in self.ids(text)]
        for place, codes in enumerate(history):
            out += (self.ids(self.between) if place else []) + self.item(codes, domain)
        out += self.ids(self.after)
        return np.array(out + ([self.sids.begin[domain]] if self.sids.begin else []), np.int64)

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, tokenizer_config.json and the chat template."""
        self.tokenizer.save(str(folder / "tokenizer.json"))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
        (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


@lru_cache(maxsize=256)
def encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def byte_level(vocabulary: int = 680) -> Tokenizer:
    """Train a byte-level BPE on the prompts' texts, with Qwen's pieces; the newline is a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PIECES), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*CHAT, *ALPACA, ", "], trainer)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in CONTROL])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ORDINARY])
    assert len(tokenizer.encode("\n").ids) == 1
    return tokenizer


def openonerec(codebook_sizes: Sequence[int]) -> Layout:
    """Return `<s_a_0>` to the last code of the last level, then `<|sid_begin|>` and `<|sid_end|>`."""
    tokenizer = byte_level()
    levels = _added(tokenizer, [[f"<s_{'abcdefgh'[level]}_{code}>" for code in range(size)]
                                for level, size in enumerate(codebook_sizes)])  # fmt: skip
    begin, _ = _added(tokenizer, [["<|sid_begin|>"], ["<|sid_end|>"]])
    return Layout("openonerec", tokenizer, SidTokens(levels, {"": int(begin[0])}), CHAT[:1], CHAT[1])


def onereason(codebook_sizes: Sequence[int]) -> Layout:
    """Return the same codes, then a begin token for each of several domains, and none that ends an item."""
    tokenizer = byte_level()
    levels = _added(tokenizer, [[f"<s_{'abcdefgh'[level]}_{code}>" for code in range(size)]
                                for level, size in enumerate(codebook_sizes)])  # fmt: skip
    (begin,) = _added(tokenizer, [[f"<|{word}_begin|>" for word in DOMAINS.values()]])
    domains = dict(zip(DOMAINS, map(int, begin), strict=True))
    return Layout("onereason", tokenizer, SidTokens(levels, domains), CHAT[:1], CHAT[1])


def minionerec(codes: np.ndarray, codebook_sizes: Sequence[int]) -> Layout:
    """Return `<a_N>` of the codes in use [n, L] alone, sorted as texts; items end with a newline and the text's end."""
    tokenizer = byte_level()
    texts = {f"<{'abcdefgh'[level]}_{code}>" for row in codes.tolist() for level, code in enumerate(row)}
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in sorted(texts)])
    levels = tuple(
        np.array([_id_or_none(tokenizer, f"<{'abcdefgh'[level]}_{code}>") for code in range(size)], np.int64)
        for level, size in enumerate(codebook_sizes)
    )
    end = tuple(EndToken(tokenizer.encode(text).ids[0]) for text in ("\n", "<|im_end|>"))
    return Layout("minionerec", tokenizer, SidTokens(levels, {}, end), ALPACA[:2], ALPACA[2], between=", ")


def _added(tokenizer: Tokenizer, lists: list[list[str]]) -> tuple[np.ndarray, ...]:
    """Add ordinary tokens, and return the ids of each list of them."""
    for texts in lists:
        tokenizer.add_tokens([AddedToken(text, normalized=False) for text in texts])
    return tuple(np.array([tokenizer.token_to_id(text) for text in texts], np.int64) for texts in lists)


def _id_or_none(tokenizer: Tokenizer, text: str) -> int:
    found = tokenizer.token_to_id(text)
    return -1 if found is None else int(found)
