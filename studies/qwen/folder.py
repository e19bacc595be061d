"""A folder in OpenOneRec's layout: codes <s_a_0> to the last, then begin and end, on a tokenizer without merges.

An item of a history is its begin token and its codes, so that a begin token always stands before the next item; the
prompt is the history alone.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from octorec.catalog.catalog import Catalog
from octorec.models.sid_tokens import SidTokens, read
from octorec.output.write import new_folder
from studies.qwen import settings

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
BEGIN, END = "<|sid_begin|>", "<|sid_end|>"
ITEM = BEGIN + "{}"
PROMPT = "prompt.jinja"
ROWS = 64  # the vocabulary's rows are a multiple of it


def made_tokenizer(codebook_sizes: Sequence[int]) -> Tokenizer:
    """Return a tokenizer of bytes, Qwen's control tokens, and the tokens of semantic IDs."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in CONTROL])
    for level, size in enumerate(codebook_sizes):
        texts = [f"<s_{'abc'[level]}_{code}>" for code in range(size)]
        tokenizer.add_tokens([AddedToken(text, normalized=False) for text in texts])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (BEGIN, END)])
    return tokenizer


def rows_of(tokenizer: Tokenizer) -> int:
    """Return how many rows the embeddings of a tokenizer have."""
    return -(-tokenizer.get_vocab_size(with_added_tokens=True) // ROWS) * ROWS


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Write all but weights, config.json and catalog."""
    tokenizer.save(str(folder / "tokenizer.json"))
    tokens = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": CONTROL[2], "pad_token": CONTROL[0]}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens, indent=1))
    (folder / PROMPT).write_text("{{ history }}")
    (folder / "octorec.json").write_text(json.dumps({"item": ITEM, "prompt": PROMPT}, indent=1))


def sids_of(tokenizer: Tokenizer) -> SidTokens:
    """Return the tokens of semantic IDs as they are recognised in a folder of this tokenizer."""
    with tempfile.TemporaryDirectory() as scratch:
        write_tokenizer(Path(scratch), tokenizer)
        return read(scratch)


def new_model(tokenizer: Tokenizer, shape: dict[str, Any], seed: int) -> Any:
    """Return an untrained Qwen3 of transformers' with tied embeddings, in float32 on the CPU."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    rope = {"rope_type": "default", "rope_theta": settings.ROPE_THETA}
    config = Qwen3Config(
        vocab_size=rows_of(tokenizer), rope_parameters=rope, max_position_embeddings=settings.POSITIONS,
        tie_word_embeddings=True, **shape,
    )  # fmt: skip
    return Qwen3ForCausalLM(config)


def save(out: Path, model: Any, tokenizer: Tokenizer, catalog: Catalog, training: dict[str, Any]) -> None:
    """Write the folder that `octorec serve` opens, its weights in bfloat16; over what stands there."""
    import torch

    with new_folder(out, force=True) as scratch:
        model.to(torch.bfloat16).save_pretrained(scratch)
        write_tokenizer(scratch, tokenizer)
        catalog.save(scratch / "catalog")
        (scratch / "training.json").write_text(json.dumps(training, indent=1))
