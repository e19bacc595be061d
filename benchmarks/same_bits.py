"""Whether a row of a product, and a code tuple's score, has the same bits whatever stands beside it on a GPU.

    python -m benchmarks.same_bits --out results/same_bits.jsonl

For each weight of a model: the first rows of x times it, among more and more rows. For whole searches: the scores of
the code tuples that beams of different widths both found.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import records
from benchmarks.program import run
from benchmarks.random_model import random_catalog, random_model, random_requests
from benchmarks.rows import ProductBits, SearchBits
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Request
from octorec.kernels import fused
from octorec.models.layers import Head
from octorec.models.presets import preset

PRESET = "moe-4b-a0.5b"
ROWS = (4, 32, 128, 512, 1024, 2048, 4096, 16384)  # of x
LOOKED_AT = 4  # of them
WIDTHS = (32, 64, 128, 512, 1024)
BATCH, CONTEXT, N_ITEMS, CODES = 8, 128, 400_000, (64, 64, 64)
LOGITS = 5.0  # standard deviation: so sharp that narrow beams are certified too


def modules(precision: str) -> dict[tuple[str, int, int], tuple[str, Any]]:
    """One module of each kind and shape among those with a weight, by kind, N and K: its name and itself."""
    found: dict[tuple[str, int, int], tuple[str, Any]] = {}
    for name, module in random_model(preset(PRESET, n_layer=3), precision).named_modules():
        kind = type(module).__name__
        if kind in ("Linear", "FP8Linear", "Head"):
            n, k = module.weight.shape  # type: ignore[union-attr, misc]
            found.setdefault((kind, int(n), int(k)), (name, module))
    return found


@torch.inference_mode()
def products(precision: str) -> Iterator[ProductBits]:
    """What each product does with its first rows, by how many stand below them; with a residual too."""
    generator = torch.Generator("cuda").manual_seed(0)
    for (kind, n, k), (name, module) in modules(precision).items():
        x = torch.randn(ROWS[-1], k, device="cuda", generator=generator).bfloat16()
        residual = torch.randn(ROWS[-1], n, device="cuda", generator=generator).bfloat16()

        def product(rows: int, added: bool, x: Any = x, module: Any = module, residual: Any = residual) -> Tensor:
            some = x[:rows].contiguous()
            if isinstance(module, Head):
                return fused.head(some, module.weight)[:LOOKED_AT]
            into = residual[:rows].clone() if added else None
            return module(some, into)[:LOOKED_AT].float()

        for added in (False, True) if kind != "Head" else (False,):
            found = [product(rows, added) for rows in ROWS]
            differs = tuple(rows for rows, out in zip(ROWS, found, strict=True) if not torch.equal(out, found[-1]))
            most = max(float((out - found[-1]).abs().max()) for out in found)
            yield ProductBits(PRESET, precision, name, kind, added, n, k, ROWS, differs, most)


@torch.inference_mode()
def searches(precision: str) -> SearchBits:
    """What scores do, by the width of the beam that found them."""
    config = preset(PRESET, codebook_sizes=CODES)
    model = random_model(config, precision)
    heads: Any = model.head
    for head in heads:
        head.weight.mul_(LOGITS / (0.02 * config.d_model**0.5))
    limits = EngineConfig(CONTEXT, (BATCH,), WIDTHS, default_beam_width=WIDTHS[-1])
    engine = Engine(model, random_catalog(config, N_ITEMS), limits, "cuda", fused)
    requests = random_requests(64, N_ITEMS, CONTEXT, WIDTHS[0])
    answers = {w: engine.recommend([Request(r.history, k=32, beam_width=w) for r in requests]) for w in WIDTHS}
    *narrow, widest = answers.values()
    compared = differing = exact = wrong = 0
    most = 0.0
    for at_width in narrow:
        for answer, wide in zip(at_width, widest, strict=True):
            known = dict(zip(wide.codes, wide.scores, strict=True))
            both = [
                (score, known[codes])
                for codes, score in zip(answer.codes, answer.scores, strict=True)
                if codes in known
            ]
            compared += len(both)
            differing += sum(one != other for one, other in both)
            most = max([most, *(abs(one - other) for one, other in both)])
            exact += answer.exact
            wrong += answer.exact and set(answer.codes) != set(wide.codes)
    return SearchBits(PRESET, precision, WIDTHS, compared, differing, most, exact, wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "same_bits.jsonl")
    options = parser.parse_args()
    for precision in ("bf16", "fp8", "fp8-channel"):
        for row in products(precision):
            records.append(options.out, row)
            where = f"{precision} {row.kind} {row.n}x{row.k}{' with a residual' if row.residual else ''}"
            print(f"{where}: differs at {row.differing_rows} rows, by {row.most:.2g}", flush=True)
        search = searches(precision)
        records.append(options.out, search)
        said = f"{search.differing} of {search.compared} scores differ, at most by {search.most:.2g}"
        print(
            f"{precision}: {said}; {search.exact} exact, of which {search.wrong} are others than the widest's",
            flush=True,
        )
        torch.cuda.empty_cache()


if __name__ == "__main__":
    run(main, "cuda")
