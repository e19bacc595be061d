"""On a GPU a small Qwen folder is answered by CUDA graphs as without them, alone and beside others, cached or not."""

import asyncio
from typing import Any

import numpy as np
import pytest

import octorec
from octorec import Answer, Request
from octorec.engine import reader as reading
from octorec.engine.batch import ParsedRequest
from octorec.engine.engine import Engine
from octorec.engine.memory import free_bytes
from octorec.engine.needs import Needs, needs_of
from octorec.engine.prefix_cache import BLOCK
from octorec.engine.reader import ROWS
from octorec.engine.search import Searched
from tests.qwen.made_models import Made, untrained_folder
from tests.qwen.test_prompted_server import served

pytestmark = pytest.mark.gpu

WIDTHS = (8, 32, 128)
SHAPES = {"batch_sizes": (1, 4, 8), "beam_widths": WIDTHS, "default_beam_width": 32, "max_tokens": 12_000}
SHAPE = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 128, "max_position_embeddings": 16_384}
PROMPTS = (1, 40, 65, 130, 300, 700, 1000, 1)  # tokens
BOUND = 0.1  # of a score in bfloat16, between sizes of batches and lengths of what was cached
ROUNDED = (
    0.025  # of a score, which bfloat16 moves by up to 0.02 from float32 on a CPU: weights are random, logits large
)


@pytest.fixture(scope="module", params=["openonerec", "minionerec"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    shape = {**SHAPE, "hidden_size": 512} if request.param == "minionerec" else SHAPE  # its heads are a fourth of it
    return untrained_folder(tmp_path_factory.mktemp(request.param), request.param, **shape)


@pytest.fixture(scope="module")
def engine(made: Made) -> Engine:
    return octorec.load(made.folder, device="cuda", **SHAPES)


def prompt(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 300, length).tolist()


def asked(length: int, seed: int = 0, **more: Any) -> Request:
    return Request(input_ids=prompt(length, seed), k=5, **more)


def some(engine: Engine, lengths: tuple[int, ...], **more: Any) -> list[ParsedRequest]:
    return [engine.parse(asked(length, seed, **more)) for seed, length in enumerate(lengths)]


def eagerly(engine: Engine, parsed: list[ParsedRequest], monkeypatch: pytest.MonkeyPatch) -> Searched:
    """Search as `launch` does, but launch each kernel from Python; prompts are filled up as a graph's are."""
    reader, bucket = engine.reader, engine.bucket_of(parsed)
    assert reader is not None
    room = reader.room(sum(len(one.tokens) for one in parsed if one.tokens is not None))
    with monkeypatch.context() as patched:
        patched.setattr(reader, "rooms", ())
        patched.setattr(reader, "least", room)
        found, _ = engine._searched(engine.staged(parsed, bucket.size), parsed, bucket.widths)
    return Searched(*(column.cpu() for column in found))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("count", [1, 3, 8])
def test_graphs_give_the_bits_of_eager_code(
    width: int, count: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine.reader is not None
    monkeypatch.setattr(engine.reader, "least", ROWS)
    for lengths in (PROMPTS[:count], PROMPTS[-count:], (1000,) * count):
        parsed = some(engine, lengths, beam_width=width)
        graphed, eager = engine.search(parsed), eagerly(engine, parsed, monkeypatch)
        rows = slice(0, count)
        assert np.array_equal(graphed.scores[rows], eager.scores.numpy()[rows])
        assert np.array_equal(graphed.nodes[rows], eager.nodes.numpy()[rows])
        assert np.array_equal(graphed.bounds[rows], eager.bounds.numpy()[rows])


def test_a_request_has_the_same_bits_whoever_is_beside_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one bucket, and in one room for tokens."""
    assert engine.reader is not None
    monkeypatch.setattr(engine.reader, "least", 4096)
    mine = engine.parse(asked(300, 7))
    known = None
    for place, lengths in enumerate((PROMPTS[:7], (1,) * 7, (500,) * 7, PROMPTS[1:])):
        parsed = some(engine, lengths)
        parsed.insert(place, mine)
        found = engine.search(parsed)
        own = found.scores[place].tolist(), found.nodes[place].tolist(), found.bounds[place].tolist()
        known = known or own
        assert own == known


def test_answers_are_those_of_the_cpu(engine: Engine, made: Made) -> None:
    there = octorec.load(made.folder, **SHAPES)
    requests = [asked(length, seed, beam_width=128) for seed, length in enumerate(PROMPTS)]
    for found, expected in zip(engine.recommend(requests), there.recommend(requests), strict=True):
        known = dict(zip(expected.items, expected.scores, strict=True))
        both = [item for item in found.items if item in known]
        assert len(both) >= 2
        for item, score in zip(found.items, found.scores, strict=True):
            assert score == pytest.approx(known.get(item, score), rel=ROUNDED)


def test_long_prompts_are_read_in_chunks(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [asked(11_000), asked(9_000, 1), asked(3, 2)]
    whole = engine.recommend(requests)
    monkeypatch.setattr(reading, "CHUNK", 4 * ROWS)
    monkeypatch.setattr(reading, "GRAPHED", ())
    fresh = octorec.load(engine.checkpoint, device="cuda", **SHAPES)  # memory is laid out for chunks
    for one, other in zip(whole, fresh.recommend(requests), strict=True):
        assert_close(one, other)
    alone = fresh.recommend(requests[:1])[0]
    assert_close(alone, whole[0])


def assert_close(one: Answer, other: Answer) -> None:
    known = dict(zip(other.items, other.scores, strict=True))
    assert len(set(one.items) & set(known)) >= 3
    for item, score in zip(one.items, one.scores, strict=True):
        assert score == pytest.approx(known.get(item, score), abs=BOUND)


@pytest.mark.parametrize("length", [70, 1000, 6000])
def test_a_cached_beginning_gives_the_same_bits_each_time_and_nearly_those_of_none(
    length: int, made: Made, engine: Engine
) -> None:
    keeps = octorec.load(made.folder, device="cuda", prefix_cache_bytes=10**9, **SHAPES)
    first, second, third = (keeps.recommend([asked(length)])[0] for _ in range(3))
    assert (first.cached_tokens, second.cached_tokens) == (0, cached(engine, length))
    assert second == third
    assert first == engine.recommend([asked(length)])[0]
    assert_close(second, first)
    assert keeps.recommend([asked(length, scope="another")])[0] == first


def test_what_is_taken_was_said_and_warm_up_leaves_nothing_to_capture(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Needs] = []
    monkeypatch.setattr("octorec.engine.load.needs_of", lambda *given: said.append(needs_of(*given)) or said[0])
    before = free_bytes("cuda")
    fresh = octorec.load(made.folder, device="cuda", prefix_cache_bytes=5 * 10**8, **SHAPES)
    fresh.warm_up()
    taken = before - free_bytes("cuda")
    assert said[0].context + said[0].prefixes < taken < 1.15 * said[0].total + 500 * 10**6
    assert 0 <= fresh.margin < 2 * BOUND
    assert fresh.reader is not None
    captured = len(fresh.reader.graphs), len(fresh._graphs)
    assert captured == (len(fresh.rooms), len(fresh.buckets()))
    fresh.recommend([asked(length, width, beam_width=width) for length in PROMPTS for width in WIDTHS])
    assert (len(fresh.reader.graphs), len(fresh._graphs)) == captured


def test_a_server_answers_many_prompts_at_once(made: Made) -> None:
    engine = octorec.load(made.folder, device="cuda", prefix_cache_bytes=10**8, **SHAPES)
    bodies = [{"input_ids": prompt(length, seed), "k": 4} for seed, length in enumerate(PROMPTS * 4)]

    async def test() -> None:
        async with served(engine) as (_, client):
            for _ in range(2):
                answers = await asyncio.gather(*(client.post("/v1/recommend", json=body) for body in bodies))
                found = [answer.json() for answer in answers]
                assert [answer.status_code for answer in answers] == [200] * len(bodies), found
            for body, answer in zip(bodies, found, strict=True):
                assert answer["cached_tokens"] == cached(engine, len(body["input_ids"]))
                known = engine.recommend([Request(**body)])[0]
                assert len(set(answer["items"]) & set(known.items)) >= 2

    asyncio.run(test())


def cached(engine: Engine, length: int) -> int:
    """Return how much of a prompt is there when it comes again: whole blocks of it and of the begin token."""
    assert engine.prompts is not None
    return (length + min(1, len(engine.prompts.sids.begin)) - 1) // BLOCK * BLOCK
