"""Rows of programs on a CPU: `benchmarks.quantize`, `analyze`, `steady`, `semantic_ids` and `catalog_load`."""

from dataclasses import dataclass
from typing import Literal

from benchmarks.records import Row, key


@dataclass(frozen=True)
class QuantizeRow(Row):
    """One conversion of a random checkpoint to FP8, as a process of its own."""

    what: Literal["quantize"]
    preset: str
    recipe: str
    seconds: float  # the process's whole life
    peak_rss_anon_mb: int  # most anonymous memory, 2^20 bytes
    bytes_before: int
    bytes_after: int
    quantized_ratio: float  # bytes after / before, over the quantized parts
    cores: int
    load_before: float  # the machine's load average when it began
    cpu_model: str


@dataclass(frozen=True)
class AnalyzeRow(Row):
    """One `octorec analyze` of a random checkpoint, as a process of its own."""

    what: Literal["analyze"]
    layout: str  # whose names and shapes the checkpoint has
    layers: int
    parameters: int
    seconds: float  # the process's whole life
    seconds_per_billion: float  # parameters
    peak_rss_anon_mb: int  # most anonymous memory, 2^20 bytes
    held: bool  # whether both targets were met
    cores: int
    load_before: float  # the machine's load average when it began
    cpu_model: str


@dataclass(frozen=True)
class SteadyRow(Row):
    """Seconds of three jobs under one rule of threads, alone or beside neighbours."""

    rule: str
    neighbours: int  # processes that never rest
    cores: int
    threads: int  # that torch computes with
    requests: float  # seconds of 96 requests
    training: float  # seconds of 20 training steps
    evaluate: float  # seconds of evaluating 100 users


@dataclass(frozen=True)
class CatalogLoadRow(Row):
    """One made-up file of semantic IDs read as a catalog, in a process of its own."""

    form: str  # sid2pid or pid2sid
    megabytes: float  # of the file, 10^6 bytes
    sids: int
    items: int
    seconds: float  # of reading it, up to the trie
    cpu_seconds: float  # of these, those of the process
    look_up_seconds: float  # of the look-ups that a server makes then
    peak_rss_mb: int  # 2^20 bytes
    cores: int
    load_before: float  # the machine's load average when it began


@dataclass(frozen=True)
class CodebookRow(Row):
    """One codebook of semantic IDs fitted to vectors."""

    method: str  # faiss or scikit-learn
    vectors: str  # mixture, demo, or a file's name
    items: int
    width: int  # of a vector
    codebook_sizes: tuple[int, ...]  # codes a level
    seed: int
    threads: int
    seconds: float  # of the fit
    cpu_seconds: float  # of the fit, all threads
    assign_seconds: float  # of giving every item its codes
    used: tuple[int, ...]  # vectors that each level was fitted to
    iterations: tuple[int, ...]  # of k-means, a level
    errors: tuple[float, ...]  # mean squared length of what is left: before the first level, then after each
    tuples: int  # different code tuples
    sharing: int  # items whose tuple another item has
    fingerprint: str  # of the codebook
    peak_rss_mb: int  # most resident memory of the process so far, 2^20 bytes
    faiss: str  # version


@dataclass(frozen=True)
class CodebookRecall(Row):
    """The demo's model in BF16, trained over the catalog of one method."""

    method: str  # faiss or scikit-learn
    demo_seed: int  # of catalog and training
    sharing: int  # items whose tuple another item has
    recall_5: float = key("recall@5")
    ndcg_5: float = key("ndcg@5")
    recall_10: float = key("recall@10")
    ndcg_10: float = key("ndcg@10")
