"""The same checkpoint in transformers: teacher forcing, and its beam search with and without our trie.

What a folder's generation_config.json says reaches even a GenerationConfig that is passed, wherever that leaves a field
open: so the model's own is replaced by one without any value, and every field that ranks is given.

A beam's score is divided there by (tokens after the prompt) ** length_penalty, those that are forced included; here it
is a sum again. Where the legal paths are fewer than the beams, rows of about -1e9 fill up: they are left out.

Letters: n sequences, T tokens of a prompt, V rows of the vocabulary.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from octorec.errors import InputError
from octorec.models.checkpoint_folder import is_adapter
from octorec.models.hf_folder import Checkpoint
from octorec.models.lora import EMBEDDING, open_checkpoint
from octorec.models.sid_tokens import SidTokens
from octorec.parity.beams import Beam, counted, item_tokens, token_steps
from octorec.parity.token_trie import TokenTrie
from octorec.quant.format import METHOD
from octorec.reading import reason

NO_PATH = -1e6  # below this a score is no sum of log-probabilities but a row that fills up
ROWS = 64  # sequences in one forward pass

Processor = Callable[[Tensor, Tensor], Tensor]  # (ids [W, T + t], log-probabilities [W, V]) -> log-probabilities


def open_model(folder: str | Path, device: str = "cpu", base: str | Path | None = None) -> Any:
    """Return the folder's model as transformers reads it, in float32, with a generation configuration of no values.

    base: the folder of an adapter's base, as in `lora.open_checkpoint`; PEFT merges the adapter. No code of a folder
    runs. An FP8 folder in compressed-tensors' form runs by that library, which quantizes activations too.
    Raises InputError for another quantized one, for a folder that OctoRec would not read, and for one that transformers
    or PEFT does not.
    """
    from transformers import GenerationConfig

    checkpoint = open_checkpoint(folder, base)
    if checkpoint.quantized is not None:
        _check_quantized(checkpoint)
    try:
        model = _read(checkpoint, Path(folder))
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # whatever they raise for a stranger's folder
        raise InputError("checkpoint", str(folder), f"is not read by transformers ({reason(error)})") from error
    model.generation_config = GenerationConfig()
    return model.eval().to(device)


def _check_quantized(checkpoint: Checkpoint) -> None:
    """Refuse an FP8 folder that transformers does not read on every device."""
    method = (checkpoint.quantization or {}).get("quant_method")
    if method != METHOD:
        allowed = f"transformers runs quant_method {METHOD} on every device, and {method!r} not: compare the 16-bit one"
        raise InputError(f"checkpoint {checkpoint.path}", checkpoint.quantized, allowed)
    import compressed_tensors  # noqa: F401 (the error of a missing one says how to install it)


def _read(checkpoint: Checkpoint, folder: Path) -> Any:
    """Return what transformers reads, and PEFT merges. An adapter with rows for new tokens needs a base that has as
    many: they are replaced by the adapter's.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        checkpoint.folder, dtype=torch.float32, trust_remote_code=False, attn_implementation="eager"
    )
    if not is_adapter(folder):
        return model
    from peft import PeftModel

    rows = checkpoint.shape(EMBEDDING)[0]
    if rows != model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(rows, mean_resizing=False)
    return PeftModel.from_pretrained(model, folder).merge_and_unload()


@torch.inference_mode()
def teacher_forced(model: Any, prompts: Sequence[np.ndarray], codes: np.ndarray, sids: SidTokens) -> np.ndarray:
    """Return the log-probabilities [n, scored steps] float32 of items with `codes` [n, L] int64, one after each prompt.

    The scored steps are the levels, then the tokens that end an item where they count. Every code must have a token.
    """
    steps, tokens = token_steps(sids), item_tokens(sids, torch.from_numpy(codes))
    assert bool((tokens >= 0).all()), "a code without a token has no probability"
    out = np.zeros((len(prompts), sum(step.scored for step in steps)), np.float32)
    lengths = np.array([len(prompt) for prompt in prompts])
    for length in np.unique(lengths):  # prompts of one length are a batch without padding
        places = np.flatnonzero(lengths == length)
        for start in range(0, len(places), ROWS):
            some = places[start : start + ROWS]
            before = torch.from_numpy(np.stack([prompts[place] for place in some]))
            out[some] = _forced(model, before, tokens[some], sids).cpu().numpy()
    return out


def _forced(model: Any, prompts: Tensor, tokens: Tensor, sids: SidTokens) -> Tensor:
    """Return the log-probabilities [n, scored steps] of `tokens` [n, steps] after prompts [n, T]."""
    steps = token_steps(sids)
    ids = torch.cat([prompts, tokens[:, :-1]], 1).to(model.device)
    logits = model(ids, use_cache=False, logits_to_keep=len(steps)).logits.float()
    tokens = tokens.to(model.device)
    found = []
    for place, step in enumerate(steps):
        if step.scored:
            log_p = counted(sids, step, logits[:, place].log_softmax(-1))
            found.append(log_p.gather(1, tokens[:, place : place + 1]))
    return torch.cat(found, 1)


def constrained_beams(
    model: Any, prompt: np.ndarray, trie: TokenTrie, sids: SidTokens, beam_width: int, length_penalty: float = 0.0
) -> list[Beam]:
    """Return the beams of transformers' search among the items of `trie`, the best first: at most `beam_width`.

    It runs to the end of the last forced token: all beams have one length, so that neither its early stopping nor its
    length penalty changes which are returned. model: as `open_model` makes it.
    """
    from transformers import PrefixConstrainedLogitsProcessor

    steps, length = token_steps(sids), len(prompt)

    def allowed(_: int, ids: Tensor) -> list[int]:
        return list(trie.children(tuple(ids[length:].tolist()))) or [0]  # a beam that is dead already

    def scores(ids: Tensor, log_p: Tensor) -> Tensor:
        return counted(sids, steps[ids.shape[1] - length], log_p)

    processors: list[Processor] = [scores, PrefixConstrainedLogitsProcessor(allowed, beam_width)]
    return _beams(model, prompt, processors, len(steps), beam_width, length_penalty, ())


def free_beams(
    model: Any,
    prompt: np.ndarray,
    steps: int,
    beam_width: int,
    length_penalty: float = 0.0,
    vocabulary: int | None = None,
    stop: Sequence[int] = (),
) -> list[Beam]:
    """Return the beams of transformers' search among all tokens, the best first, of at most `steps` tokens.

    vocabulary: ids from this one on have no token, and are never chosen; their part of the softmax stays. stop: tokens
    that end a beam before that.
    """

    def with_a_token(_: Tensor, log_p: Tensor) -> Tensor:
        if vocabulary is None:
            return log_p
        ids = torch.arange(log_p.shape[1], device=log_p.device)
        return log_p.masked_fill(ids >= vocabulary, -torch.inf)

    return _beams(model, prompt, [with_a_token], steps, beam_width, length_penalty, stop)


@torch.inference_mode()
def _beams(
    model: Any,
    prompt: np.ndarray,
    processors: Sequence[Processor],
    steps: int,
    beam_width: int,
    length_penalty: float,
    stop: Sequence[int],
) -> list[Beam]:
    """Run the beam search of `generate` after one prompt, and undo its length penalty."""
    from transformers import GenerationConfig, LogitsProcessorList

    config = GenerationConfig(
        do_sample=False, num_beams=beam_width, num_return_sequences=beam_width, max_new_tokens=steps,
        length_penalty=float(length_penalty), early_stopping=False, eos_token_id=list(stop) or None, pad_token_id=0,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    ids = torch.from_numpy(prompt)[None].to(model.device)
    mask = torch.ones_like(ids)  # without it an id of the prompt that is the padding's would count as padding
    found = model.generate(
        ids, attention_mask=mask, generation_config=config, logits_processor=LogitsProcessorList(processors)
    )
    beams = []
    for row, score in zip(found.sequences[:, len(prompt) :].tolist(), found.sequences_scores.tolist(), strict=True):
        tokens = up_to(row, stop)
        total = score * len(tokens) ** length_penalty
        if total > NO_PATH:
            beams.append(Beam(tokens, total))
    return beams


def up_to(tokens: Sequence[int], stop: Sequence[int]) -> tuple[int, ...]:
    """Return the tokens up to the first of `stop`, with it; all where none of them stops."""
    ends = [place + 1 for place, token in enumerate(tokens) if token in stop]
    return tuple(tokens[: ends[0]] if ends else tokens)
