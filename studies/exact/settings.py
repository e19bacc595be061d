"""What the study of exact answers asks, of which widths, and how long each part of it may take."""

from octorec.engine.widths import BeamWidth

WIDTHS = (32, 64, 128, 256, 512)  # beams of the engine that serves
WIDEST = 1024  # measured beside them
SCHEDULE = (128, 256, 512)
FILLING = (128, 512, 512)  # fills lists of 512 where most prefixes of two codes have one item, as in the shops
SCHEDULES = (SCHEDULE, FILLING)
KS = (10, 50, 100, 512)  # items whose certificates are counted
CUTOFFS = (10, 100, 512)  # items that recall, NDCG and verdicts are taken of
REFERENCE = 512  # beams that every policy is compared with
Policy = tuple[BeamWidth, int]  # a policy, and how many items
POLICIES: tuple[Policy, ...] = (
    (32, 10),
    (64, 10),
    (128, 10),
    ("auto", 10),
    ("auto", 100),
    (SCHEDULE, 512),
    (FILLING, 512),
)
OF_MANY: tuple[Policy, ...] = ((SCHEDULE, 512), (FILLING, 512))  # asked of the catalog with neighbours
TIMED: tuple[Policy, ...] = ((512, 512), (SCHEDULE, 512), (FILLING, 512), (512, 10), (64, 10), ("auto", 10))
MARGIN = 0.01
NEAR = 1e-6  # nats between scores that a tie may have
BATCH_SIZES = (8, 32, 128)
MAX_ROWS = 32 * WIDEST
MILLION = 1_000_000
