"""Which dimensions and training generalise? Recall of validation targets, one change of the settings at a time.

    python -m studies.quality.sweep --data FOLDER --catalogs runs/catalogs --out runs/sweep.jsonl

Trains variant after variant until the time is up and appends a row as each is done. A variant is a name of VARIANTS or
changes such as `dropout=0.3,d_model=384,codebook_sizes=512x256x256`.
"""

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import records
from benchmarks.program import run
from benchmarks.rows.quality import SweepRow
from octorec.kernels.device import open_device
from octorec.models.onerec_config import OneRecConfig
from octorec.training.config import TrainConfig
from studies.quality.data import SETS, catalog_of, read_shop
from studies.quality.settings import CODEBOOK_SIZES, MOE, TRAINING
from studies.quality.train import trained

VARIANTS = [
    "",
    "codebook_sizes=2048x64x64,dropout=0.4",
    "batch_size=512,steps=8000",
    "d_model=256,n_head=2,d_expert=256",
    "d_model=512,n_head=4,d_expert=512",
    "n_layer=1",
    "dropout=0.6",
    "history_drop=0.7",
    "label_smoothing=0.0",
    "codebook_start=0",
    "learning_rate=2e-3",
    "weight_decay=0.5",
]


def parsed(variant: str) -> dict[str, Any]:
    """`name=value,name=value`; a value is a number, `AxBxC` (a tuple of them), or else a text."""
    return {name: _value(value) for name, _, value in (part.partition("=") for part in variant.split(",") if part)}


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    parts = text.split("x")
    return tuple(map(int, parts)) if len(parts) > 1 and all(part.isdigit() for part in parts) else text


def settings(variant: str) -> tuple[tuple[int, ...], OneRecConfig, TrainConfig]:
    changes = parsed(variant)
    sizes = changes.pop("codebook_sizes", CODEBOOK_SIZES)
    of_model = {field.name for field in dataclasses.fields(OneRecConfig)} & set(changes)
    model = dataclasses.replace(MOE, codebook_sizes=sizes, **{name: changes[name] for name in of_model})
    rest = {name: value for name, value in changes.items() if name not in of_model}
    training = dataclasses.replace(TRAINING, **rest)
    return sizes, model, dataclasses.replace(training, validate_every=max(1, training.steps // 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=SETS, default="beauty")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--variants", nargs="*", default=VARIANTS)
    parser.add_argument("--base", default="", help="changes to put before every variant's")
    parser.add_argument("--catalogs", type=Path, help="of catalogs made before (studies.quality.data)")
    parser.add_argument("--users", type=int, help="judge only so many")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    open_device(options.device)
    torch.set_float32_matmul_precision("high")
    start = time.perf_counter()
    shop = read_shop(options.data, options.set, options.users)
    catalogs: dict[tuple[int, ...], Any] = {}
    longest = 0.0
    for variant in options.variants:
        began = time.perf_counter()
        if began - start + longest > options.seconds:
            print(f"time is up before {variant!r}", flush=True)
            break
        sizes, model, training = settings(",".join(filter(None, [options.base, variant])))
        print(f"{variant or 'as it stands'} (at {began - start:.0f} s)", flush=True)
        try:
            if sizes not in catalogs:
                catalogs[sizes] = catalog_of(shop, sizes, options.catalogs)
            subject, history = trained(
                shop.train, catalogs[sizes], model, training, shop.validation, options.device, say
            )
        except (RuntimeError, ValueError) as error:  # a variant that cannot run must not take the others with it
            print(f"  failed: {error}", flush=True)
            continue
        params = sum(parameter.numel() for parameter in subject.parameters())
        longest = max(longest, time.perf_counter() - began)
        row = SweepRow(
            set=options.set,
            base=options.base,
            variant=variant,
            params=params,
            recall_10=history[-1]["recall@10"],
            ndcg_10=history[-1]["ndcg@10"],
            seconds=round(time.perf_counter() - began, 1),
            history=tuple(history),
        )
        records.append(options.out, row)
        found = f"recall@10 {row.recall_10}, ndcg@10 {row.ndcg_10}"
        print(f"  {params / 1e6:.1f} M parameters, validation {found}", flush=True)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    run(main)
