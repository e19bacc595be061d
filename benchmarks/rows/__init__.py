"""The kinds of rows that `results/` holds, a dataclass each: what every field is, and in which unit.

Programs append rows of these kinds (`benchmarks.records.append`); pages are rendered from them (`recorded`). A field
with a default is one that older rows lack; its comment says what the default means.
"""

from typing import TypeVar

from benchmarks import records
from benchmarks.records import Row
from benchmarks.rows.attacks import AttackAnswerRow, AttackRow
from benchmarks.rows.checks import EngineCheck, LayerCheck
from benchmarks.rows.cpu import AnalyzeRow, CatalogLoadRow, CodebookRecall, CodebookRow, QuantizeRow, SteadyRow
from benchmarks.rows.engine import (
    AblationFailure,
    AblationRow,
    EngineFailure,
    EngineRow,
    HeadlineBatch,
    HeadlineBounds,
    HeadlineBoundsFailure,
    HeadlineCeilings,
    HeadlineFailure,
    ProductBits,
    SearchBits,
)
from benchmarks.rows.exact import (
    BatchTimesRow,
    CertifiedRow,
    ExactDifferenceRow,
    PolicyAnswersRow,
    ScheduleVerdict,
    ShopRow,
    StartsRow,
    TemperatureRow,
)
from benchmarks.rows.families import FamilyRow
from benchmarks.rows.goodput import FloodRow, GoodputRow, ProcessesRow, WorkersRateRow
from benchmarks.rows.host import CallRow, EncodingRow, HostRow, JudgingRow
from benchmarks.rows.kernels import AttentionRow, KernelCeilings, KernelFailure, KernelRow, ProductFailure, ProductRow
from benchmarks.rows.policies import AutoRow, MixedRow, PolicyRow, PrefillRow, RateRow
from benchmarks.rows.quality import FloorRow, PooledVerdict, SetVerdict, TrainingRow
from benchmarks.rows.qwen import QwenAnswersRow, QwenCertifiedRow, QwenParityRow, QwenTrainingRow, QwenVerdictRow
from benchmarks.rows.qwen_speed import ProbeFailure, ProbeRow, QwenSpeedFailure, QwenSpeedRow, QwenStepRow
from benchmarks.rows.refresh import RefreshRow
from benchmarks.rows.serving import (
    LimitsCostRow,
    LoadToolRow,
    OfflineRow,
    OverheadRow,
    OverloadRow,
    RayOverheadRow,
    ServeRow,
    SoakRow,
    StartRow,
)
from benchmarks.rows.verdicts import DemoRow, NllRow, OnlineCellRow, PopulationRow, ReplayRow, SampleRatioRow

R = TypeVar("R", bound=Row)

FILES: dict[str, tuple[type[Row], ...]] = {
    "ablation.jsonl": (AblationRow, AblationFailure),
    "analyze.jsonl": (AnalyzeRow,),
    "attacks.jsonl": (AttackRow, AttackAnswerRow),
    "attention_and_beam.jsonl": (AttentionRow,),
    "before_after.jsonl": (EngineRow, MixedRow),
    "calibration.jsonl": (PopulationRow, NllRow),
    "catalog_load.jsonl": (CatalogLoadRow,),
    "correctness.jsonl": (EngineCheck, LayerCheck),
    "demo.jsonl": (DemoRow,),
    "encodings.jsonl": (EncodingRow, CallRow),
    "engine.jsonl": (EngineRow, EngineFailure),
    "exact.jsonl": (
        TemperatureRow,
        StartsRow,
        CertifiedRow,
        PolicyAnswersRow,
        ExactDifferenceRow,
        ScheduleVerdict,
        BatchTimesRow,
        ShopRow,
    ),
    "families.jsonl": (FamilyRow,),
    "headline.jsonl": (HeadlineBatch, HeadlineFailure, HeadlineBounds, HeadlineBoundsFailure, HeadlineCeilings),
    "host.jsonl": (HostRow,),
    "judging.jsonl": (JudgingRow,),
    "kernels.jsonl": (KernelRow, KernelCeilings, KernelFailure),
    "loadgen.jsonl": (LoadToolRow,),
    "offline.jsonl": (OfflineRow,),
    "online_calibration.jsonl": (OnlineCellRow, SampleRatioRow),
    "online_replay.jsonl": (ReplayRow,),
    "overload.jsonl": (OverloadRow, LimitsCostRow),
    "policies.jsonl": (PolicyRow, RateRow, AutoRow, PrefillRow),
    "products.jsonl": (ProductRow, ProductFailure),
    "quality.jsonl": (TrainingRow, FloorRow, SetVerdict, PooledVerdict),
    "quantize.jsonl": (QuantizeRow,),
    "qwen.jsonl": (QwenTrainingRow, QwenAnswersRow, QwenCertifiedRow, QwenVerdictRow, QwenParityRow),
    "qwen_ablation.jsonl": (QwenStepRow, QwenSpeedFailure),
    "qwen_kernels.jsonl": (ProbeRow, ProbeFailure),
    "qwen_overlap.jsonl": (QwenParityRow,),
    "qwen_speed.jsonl": (QwenSpeedRow, QwenSpeedFailure),
    "ray_overhead.jsonl": (RayOverheadRow,),
    "same_bits.jsonl": (ProductBits, SearchBits),
    "semantic_ids.jsonl": (CodebookRow, CodebookRecall),
    "serve.jsonl": (ServeRow,),
    "serve_goodput.jsonl": (GoodputRow, FloodRow, OverheadRow),
    "serve_overhead.jsonl": (OverheadRow,),
    "serve_processes.jsonl": (ProcessesRow, WorkersRateRow),
    "serve_refresh.jsonl": (RefreshRow,),
    "serve_soak.jsonl": (SoakRow,),
    "start.jsonl": (StartRow,),
    "steady.jsonl": (SteadyRow,),
}


def recorded(file: str, kind: type[R]) -> list[R]:
    """The rows of `kind` in a file of `results/`, oldest first; its other rows must be of its other kinds."""
    return [row for row in records.read(records.RESULTS / file, *FILES[file]) if isinstance(row, kind)]
