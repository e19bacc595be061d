"""What is kept of prompts' beginnings makes answers faster and no other, and stays with whom it is of."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import octorec
from octorec import Answer, Request
from octorec.engine.engine import Engine
from octorec.engine.prefix_cache import BLOCK
from octorec.errors import InputError
from octorec.serve.operations import Operations
from tests.qwen.made_models import Made
from tests.qwen.sid2pid_files import sid2pid
from tests.qwen.test_prompted_server import served

SHAPES = {"batch_sizes": (1, 8), "beam_widths": (16,), "default_beam_width": 16}
BOUND = 1e-5  # of a score in float32, between lengths of what was cached: on a CPU none was seen to differ


@pytest.fixture(scope="module")
def folder(made: Callable[[str], Made]) -> Path:
    return made("openonerec").folder


@pytest.fixture(scope="module")
def plain(folder: Path) -> Engine:
    return octorec.load(folder, **SHAPES)


def keeping(folder: Path, blocks: int = 200, **more: Any) -> Engine:
    """Return an engine with room for `blocks` blocks of prompts."""
    size = octorec.load(folder, **SHAPES).reader.model.pool(BLOCK).nbytes  # type: ignore[union-attr]
    return octorec.load(folder, prefix_cache_bytes=blocks * size, **{**SHAPES, **more})


def text(words: int, seed: int = 0) -> str:
    return " ".join(np.random.default_rng(seed).choice(["hello", "world", "what", "next"], words))


def asked(text: str, **more: Any) -> Request:
    return Request(text=text, k=5, **more)


def tokens(engine: Engine, request: Request) -> int:
    found = engine.parse(request).tokens
    assert found is not None
    return len(found)


def same(one: Answer, other: Answer) -> bool:
    """Say whether answers are the same but for what was cached: items, and scores within the bound."""
    return one.items == other.items and bool(np.allclose(one.scores, other.scores, rtol=0, atol=BOUND))


def test_a_prompt_that_comes_again_is_read_from_its_last_whole_block_on(folder: Path, plain: Engine) -> None:
    engine = keeping(folder)
    request = asked(text(40))
    length = tokens(engine, request)
    first, second, third = (engine.recommend([request])[0] for _ in range(3))
    assert (first.cached_tokens, second.cached_tokens) == (0, (length - 1) // BLOCK * BLOCK)
    assert second.cached_tokens > 0
    assert second == third  # the same cached length: the same bits
    assert first == plain.recommend([request])[0]
    assert same(first, second)


def test_a_longer_prompt_uses_what_it_shares_and_another_does_not(folder: Path, plain: Engine) -> None:
    engine = keeping(folder)
    begin = text(60)
    engine.recommend([asked(begin)])
    longer, other = asked(begin + " and " + text(30, 1)), asked(text(60, 2))
    found, none = engine.recommend([longer])[0], engine.recommend([other])[0]
    assert 0 < found.cached_tokens < tokens(engine, longer) - 30
    assert found.cached_tokens % BLOCK == none.cached_tokens == 0
    for request, answer in ((longer, found), (other, none)):
        assert same(answer, plain.recommend([request])[0])


def test_a_request_has_the_same_bits_alone_and_beside_others_with_the_same_cached_length(folder: Path) -> None:
    engine = keeping(folder)
    requests = [asked(text(30 + 13 * n, n)) for n in range(6)] + [Request(engine.catalog.item_ids[:3], k=5)]
    engine.recommend(requests)
    together = engine.recommend(requests)
    assert [answer.cached_tokens > 0 for answer in together] == [True] * 6 + [False]
    for request, there in zip(requests, together, strict=True):
        assert engine.recommend([request])[0] == there


def test_two_requests_of_one_batch_with_one_prompt_are_both_answered(folder: Path, plain: Engine) -> None:
    engine = keeping(folder)
    request = asked(text(40))
    one, other = engine.recommend([request, request])
    assert one == other == plain.recommend([request])[0]
    assert one.cached_tokens == 0
    kept = engine.prefixes
    assert kept is not None
    assert len(kept) == tokens(engine, request) // BLOCK  # once
    again = engine.recommend([request, request])
    assert again[0] == again[1]
    assert again[0].cached_tokens > 0


def test_memory_stays_within_the_budget_and_answers_stay_right(folder: Path, plain: Engine) -> None:
    engine = keeping(folder, blocks=4)
    requests = [asked(text(60, seed)) for seed in range(5)]
    for _ in range(2):
        for request in requests:
            assert same(engine.recommend([request])[0], plain.recommend([request])[0])
    kept = engine.prefixes
    assert kept is not None
    assert kept.nbytes <= engine.config.prefix_cache_bytes
    assert kept.evicted > 5


def test_scopes_share_nothing(folder: Path) -> None:
    engine = keeping(folder)
    for scope in ("a", "b", ""):
        assert engine.recommend([asked(text(40), scope=scope)])[0].cached_tokens == 0
    for scope in ("a", "b", ""):
        assert engine.recommend([asked(text(40), scope=scope)])[0].cached_tokens > 0
    with pytest.raises(InputError, match="scope"):
        asked("a", scope=7)


def test_a_new_engine_starts_empty_and_one_without_a_cache_keeps_nothing(folder: Path, plain: Engine) -> None:
    engine = keeping(folder)
    engine.recommend([asked(text(40))] * 2)
    assert keeping(folder).recommend([asked(text(40))])[0].cached_tokens == 0
    assert plain.prefixes is None
    assert [plain.recommend([asked(text(40))])[0].cached_tokens for _ in range(2)] == [0, 0]


def test_domains_share_what_their_prompts_begin_with(made: Callable[[str], Made], tmp_path: Path) -> None:
    one = made("onereason")
    names = {"video": sid2pid(tmp_path / "a.json", one.catalog, range(100), 1000)}
    names["product"] = sid2pid(tmp_path / "b.json", one.catalog, range(80, 200), 5000)
    engine = octorec.load(one.folder, names, prefix_cache_bytes=10**7, **SHAPES)
    first, other = (engine.recommend([asked(text(40), domain=domain)])[0] for domain in names)
    assert first.cached_tokens == 0 < other.cached_tokens
    assert len({id(each.reader) for each in engine.domains.values()}) == 1


def test_restrictions_and_widths_are_of_the_request_and_not_of_what_was_kept(folder: Path, plain: Engine) -> None:
    engine = keeping(folder)
    engine.recommend([asked(text(40))])
    best = plain.recommend([asked(text(40))])[0].items[:2]
    for more in ({"exclude": best}, {"beam_width": 7}, {"beam_width": "auto"}):
        answer = engine.recommend([asked(text(40), **more)])[0]
        assert answer.cached_tokens > 0
        assert same(answer, plain.recommend([asked(text(40), **more)])[0])


def test_batches_hold_no_more_tokens_than_are_allowed(folder: Path, plain: Engine, monkeypatch: Any) -> None:
    engine = octorec.load(folder, max_tokens=200, batch_tokens=250, **SHAPES)
    assert engine.reader is not None
    sizes: list[int] = []
    read = engine.reader.read
    monkeypatch.setattr(
        engine.reader, "read", lambda prompts, scopes: sizes.append(sum(map(len, prompts))) or read(prompts, scopes)
    )
    requests = [asked(text(10 + 4 * n, n)) for n in range(9)]
    for request, answer in zip(requests, engine.recommend(requests), strict=True):
        assert answer == plain.recommend([request])[0]
    assert max(sizes) <= 250
    assert 1 < len(sizes) < 9
    with pytest.raises(InputError, match="batch_tokens: got 100; at least the longest prompt's, 200"):
        octorec.load(folder, max_tokens=200, batch_tokens=100)


TOKENS = {"a": "first-secret", "b": "other-secret"}


async def cached(client: httpx.AsyncClient, caller: str, body: dict[str, Any]) -> int:
    head = {"authorization": f"Bearer {TOKENS[caller]}"} if caller else {}
    answer = await client.post("/v1/recommend", json=body, headers=head)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["cached_tokens"])


def counted(metrics: str, name: str) -> float:
    (line,) = [line for line in metrics.splitlines() if line.startswith(f"octorec_{name} ")]
    return float(line.split()[1])


def token_file(folder: Path) -> str:
    path = folder / "tokens"
    path.write_text("\n".join(TOKENS.values()))
    return str(path)


def test_a_server_keeps_prompts_apart_by_token_and_counts_them(folder: Path, tmp_path: Path) -> None:
    body, engine = {"text": text(40), "k": 3}, keeping(folder)

    async def test() -> None:
        async with served(engine, token_file=token_file(tmp_path)) as (_, client):
            found = [await cached(client, caller, body) for caller in ("a", "b", "a", "b")]
            assert found[0] == found[1] == 0 < found[2] == found[3]
            metrics = (await client.get("/metrics")).text
            assert counted(metrics, 'prefix_lookups_total{outcome="hit"}') == 2
            assert counted(metrics, 'prefix_lookups_total{outcome="miss"}') == 2
            assert counted(metrics, 'prefix_tokens_total{source="cached"}') == 2 * found[2]
            assert counted(metrics, 'prefix_tokens_total{source="computed"}') > 2 * found[2]
            assert engine.prefixes is not None
            assert counted(metrics, "prefix_cache_bytes") == engine.prefixes.nbytes > 0

    asyncio.run(test())


@pytest.mark.parametrize("how", ["shared", "no tokens"])
def test_a_server_shares_prompts_where_it_may(how: str, folder: Path, tmp_path: Path) -> None:
    config: dict[str, Any] = {"token_file": token_file(tmp_path), "prefix_shared": True} if how == "shared" else {}
    callers = ("a", "b") if how == "shared" else ("", "")

    async def test() -> None:
        async with served(keeping(folder), **config) as (_, client):
            first, second = [await cached(client, caller, {"text": text(40), "k": 3}) for caller in callers]
            assert first == 0 < second

    asyncio.run(test())


def test_a_server_answers_many_that_begin_alike_as_an_engine_without_a_cache(folder: Path, plain: Engine) -> None:
    bodies = [{"text": text(50) + " " + text(n % 5 * 9, n), "k": 3} for n in range(8)]

    async def test() -> None:
        async with served(keeping(folder, blocks=12)) as (_, client):
            for _ in range(2):
                answers = await asyncio.gather(*(client.post("/v1/recommend", json=body) for body in bodies))
                for body, response in zip(bodies, answers, strict=True):
                    offline = plain.recommend([Request(**body)])[0]  # type: ignore[arg-type]
                    assert response.json()["items"] == offline.items
                    np.testing.assert_allclose(response.json()["scores"], offline.scores, rtol=0, atol=BOUND)

    asyncio.run(test())


def test_a_model_that_is_loaded_later_begins_empty(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "second").symlink_to(folder)
    body = {"text": text(40), "k": 3}

    async def test() -> None:
        async with served(keeping(folder), model_root=str(tmp_path), prefix_cache_bytes=10**7) as (service, client):
            assert [await cached(client, "", body) > 0 for _ in range(2)] == [False, True]
            await Operations(service).load_model("second", None)
            assert service.serving.model == "second"
            assert [await cached(client, "", body) > 0 for _ in range(2)] == [False, True]

    asyncio.run(test())
