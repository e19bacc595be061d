"""An experiment's two logs have these rows, as Arrow tables hold them. Times are UTC, in microseconds."""

import pyarrow as pa

TIME = pa.timestamp("us", "UTC")

# One row for each assigned request, whatever became of it.
# group: of `assign.Assignment`, never `outside` or `no_unit`. stage: of the experiment's record, from 0.
# ended: answered; short (fewer than k items); refused (through its sender or a full queue); failed; by_control (the
# variant could not, or an experiment that was stopped: the control's engine answered). items: as they were shown.
# model, catalog: versions that answered, empty where none did. latency_ms: from the body to the encoded answer.
EXPOSURES = pa.schema(
    [
        ("time", TIME),
        ("experiment", pa.string()),
        ("stage", pa.int32()),
        ("unit", pa.string()),
        ("variant", pa.string()),
        ("group", pa.string()),
        ("request_id", pa.string()),
        ("ended", pa.string()),
        ("items", pa.list_(pa.string())),
        ("model", pa.string()),
        ("catalog", pa.string()),
        ("latency_ms", pa.float32()),
    ]
)
ENDED = ("answered", "short", "refused", "failed", "by_control")

# What units did. One of unit and request_id is there; a request_id means that request's unit. value: 1 if not given.
# item: what it was done to, for a person. id: two rows of one id are one; without ids, rows that are equal are one.
OUTCOMES = pa.schema(
    [
        ("time", TIME),
        ("unit", pa.string()),
        ("request_id", pa.string()),
        ("event", pa.string()),
        ("value", pa.float64()),
        ("item", pa.string()),
        ("id", pa.string()),
    ]
)
