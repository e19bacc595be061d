"""Items come and go between batches: after every switch the engine answers as one that started with that version."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from made_up import MadeUpModel

from octorec.catalog.build import withdraw
from octorec.catalog.catalog import Catalog
from octorec.catalog.codebook import Codebook
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Request
from octorec.errors import InputError, MismatchError
from octorec.kernels import fused, reference
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset

SIZES = (6, 5, 7)
INTERPRETED = pytest.mark.skipif(torch.cuda.is_available(), reason="interprets kernels, which is done without a GPU")
SETS = ("red", "blue")


def version(n: int, seed: int, codebook: int = 0, sets: tuple[str, ...] = SETS) -> Catalog:
    """`n` random items of one codebook: other versions share only the ids and the fingerprint."""
    generator = np.random.default_rng(seed)
    centroids = tuple(np.full((size, 2), codebook, np.float32) for size in SIZES)
    codes = np.stack([generator.integers(0, size, n) for size in SIZES], 1)
    columns = {
        "item_id": [f"i{number}" for number in range(n)],
        "codes": pa.array(codes.tolist(), pa.list_(pa.int32())),
        "live": generator.random(n) >= 0.2,
        "sets": pa.array([[s for s in sets if generator.random() < 0.4] for _ in range(n)], pa.list_(pa.string())),
    }
    return Catalog.of_items(pa.table(columns), SIZES, Codebook(centroids))


def engine(catalog: Catalog, ops: object = reference, **options: object) -> Engine:
    config = {"max_context": 8, "batch_sizes": (4,), "beam_widths": (32,), "default_beam_width": 32, **options}
    return Engine(MadeUpModel(SIZES), catalog, EngineConfig(**config), ops=ops)


def requests() -> list[Request]:
    exclude = [f"i{n}" for n in range(0, 100, 3)]
    return [
        Request(["i3"], k=20),
        Request(["i5", "i9"], k=20, exclude=exclude),
        Request(["i1"], k=20, allow=["red"]),
        Request(["i2"], k=30, allow=["blue"], exclude=exclude),
    ]


@pytest.mark.parametrize(
    ("ops", "order"),
    [
        pytest.param(reference, (1, 2, 0, 3, 1, 0), id="references"),
        pytest.param(fused, (1, 2, 3), id="kernels", marks=[pytest.mark.slow, INTERPRETED]),
    ],
)
def test_every_version_answers_as_if_it_were_the_only_one(ops: object, order: tuple[int, ...]) -> None:
    versions = [version(150, 1), version(220, 2), version(101, 3), withdraw(version(150, 1), ["i3", "i7"])]
    subject = engine(versions[0], ops, max_items=220)
    memory = [level.child_start.data_ptr() for level in subject.device_catalog.levels]
    for number in order:
        subject.replace_catalog(versions[number])
        expected = engine(versions[number]).recommend(requests())
        for answer, alone in zip(subject.recommend(requests()), expected, strict=True):
            assert answer.items == alone.items
            np.testing.assert_allclose(answer.scores, alone.scores, rtol=1e-5)
        assert subject.catalog.version == versions[number].version
    assert memory == [level.child_start.data_ptr() for level in subject.device_catalog.levels]


@pytest.mark.gpu
def test_a_captured_search_answers_for_every_version() -> None:
    model = OneRecV2(preset("demo", codebook_sizes=SIZES), fused)
    initialize(model, seed=0)
    model = model.to("cuda", torch.bfloat16)

    def on_gpu(catalog: Catalog) -> Engine:
        config = EngineConfig(max_context=8, batch_sizes=(4,), beam_widths=(32,), default_beam_width=32, max_items=220)
        return Engine(model, catalog, config, "cuda", fused)

    versions = [version(150, 1), version(220, 2), version(101, 3), withdraw(version(150, 1), ["i3", "i7"])]
    subject = on_gpu(versions[0])
    subject.warm_up()
    captured = dict(subject._graphs)
    for number in (1, 2, 0, 3, 1, 0):
        subject.replace_catalog(versions[number])
        assert subject.recommend(requests()) == on_gpu(versions[number]).recommend(requests())
    assert subject._graphs == captured


def test_node_numbers_ascend_over_both_sets() -> None:
    subject = engine(version(150, 1), max_items=300)
    for number in (2, 3):
        for level in subject.device_catalog.levels:
            assert (level.child_start.diff() >= 0).all()
        subject.replace_catalog(version(150 + number, number))


def test_what_does_not_fit_is_refused_and_the_old_version_goes_on() -> None:
    old = version(150, 1)
    subject = engine(old, max_items=160)
    expected = subject.recommend(requests())
    with pytest.raises(InputError, match=r"catalog: got '161 items'; at most max_items = 160: raise it"):
        subject.replace_catalog(version(161, 2))
    with pytest.raises(MismatchError, match=r"fingerprint: got .*the engine's model reads and writes"):
        subject.replace_catalog(version(150, 2, codebook=1))
    with pytest.raises(InputError, match=r"catalog: named sets: got 70; the engine started with room for 64"):
        subject.replace_catalog(version(150, 2, sets=tuple(f"s{n}" for n in range(70))))
    assert subject.catalog is old
    assert subject.recommend(requests()) == expected


def test_there_is_room_for_a_tenth_more_unless_said() -> None:
    subject = engine(version(100, 1))
    subject.replace_catalog(version(110, 2))
    with pytest.raises(InputError, match="at most max_items = 110"):
        subject.replace_catalog(version(111, 2))
    with pytest.raises(InputError, match="at most max_items = 90"):
        engine(version(100, 1), max_items=90)
    with pytest.raises(InputError, match="max_items: got 0; must be an integer from 1 to 1073741822"):
        engine(version(100, 1), max_items=0)


def test_memory_is_for_two_versions() -> None:
    subject = engine(version(100, 1), max_items=1000)
    leaves = subject.device_catalog.levels[-1].child_live
    assert leaves.shape == (2 * (6 * 5 * 7 + 1),)  # no more leaves than tuples
    assert leaves.dtype == torch.int32
