"""A server answers for language models as their engine does: by history, by prompts, by domain."""

import asyncio
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octorec
from octorec import Request
from octorec.engine.engine import Engine
from octorec.errors import InputError
from octorec.serve.config import ServeConfig
from octorec.serve.workers.private import PREFIX
from octorec.serve.workers.run import CrewService
from tests.qwen.made_models import Made
from tests.qwen.sid2pid_files import sid2pid
from tests.serve.served import run, served

SHAPES = {"batch_sizes": (1, 8), "beam_widths": (16,), "default_beam_width": 16}


@pytest.fixture(scope="module")
def engine(made: Callable[[str], Made]) -> Engine:
    return octorec.load(made("openonerec").folder, **SHAPES)


@pytest.fixture(scope="module")
def of_domains(made: Callable[[str], Made], tmp_path_factory: pytest.TempPathFactory) -> Engine:
    one, folder = made("onereason"), tmp_path_factory.mktemp("domains")
    video = sid2pid(folder / "a.json", one.catalog, range(0, 120), 1000)
    product = sid2pid(folder / "b.json", one.catalog, range(80, 200), 5000)
    return octorec.load(one.folder, {"video": video, "product": product}, **SHAPES)


def test_answers_to_prompts_of_many_lengths_have_the_bits_of_each_alone(engine: Engine) -> None:
    items = engine.catalog.item_ids
    bodies: list[dict[str, Any]] = [{"history": items[first : first + 1 + first % 7], "k": 4} for first in range(14)]
    bodies += [{"text": "word " * (9 * n + 1), "k": 4} for n in range(6)]
    bodies += [{"messages": [{"role": "user", "content": "hi " * n}], "k": 3} for n in range(1, 4)]
    bodies += [{"input_ids": [n, n + 1], "k": 2} for n in range(3)]

    async def test() -> None:
        async with served(engine) as (_, client):
            answers = await asyncio.gather(*(client.post("/v1/recommend", json=body) for body in bodies))
            for body, response in zip(bodies, answers, strict=True):
                answer, request = response.json(), Request(**body)
                offline = engine.recommend([request])[0]
                tokens = engine.parse(request).tokens
                assert response.status_code == 200, answer
                assert (answer["items"], answer["source"]) == (offline.items, "model")
                assert np.float32(answer["scores"]).tolist() == offline.scores
                assert tokens is not None
                assert answer["prompt_tokens"] == len(tokens)

    run(test())


def test_each_domain_is_answered_from_its_catalog_in_one_server(of_domains: Engine) -> None:
    bodies: list[dict[str, Any]] = [{"history": [1003 + n], "domain": "video", "k": 3} for n in range(6)]
    bodies += [{"history": [5003 + n], "domain": "product", "k": 3} for n in range(6)]

    async def test() -> None:
        async with served(of_domains) as (_, client):
            answers = await asyncio.gather(*(client.post("/v1/recommend", json=body) for body in bodies))
            for body, response in zip(bodies, answers, strict=True):
                answer = response.json()
                assert answer["items"] == of_domains.recommend([Request(**body)])[0].items
                assert answer["catalog"] == of_domains.domains[body["domain"]].catalog.version
            refused = await client.post("/v1/recommend", json={"history": [1003]})
            assert refused.status_code == 422
            assert refused.json()["error"]["field"] == "domain"
            assert refused.json()["error"]["message"] == "domain: got ''; must be named: video, product"
            about = (await client.get("/v2/models/octorec")).json()
            assert about["max_tokens"] == 510
            assert about["domains"] == {name: one.catalog.version for name, one in of_domains.domains.items()}

    run(test())


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({}, "history", "history: is required"),
        ({"history": ["m1"], "text": "hi"}, "text", "give it or history, not both"),
        ({"input_ids": []}, "input_ids", "must be a list of 1 to"),
        ({"input_ids": ["a"]}, "input_ids.0", "integer"),
        ({"input_ids": [10**7]}, "input_ids.0", "must be a token id from 0 to"),
        ({"messages": "hi"}, "messages", "must be a list"),
        ({"messages": [{"role": "x", "content": "hi"}]}, "messages.0.role", "allowed: system, user, assistant"),
        ({"messages": [{"role": "user", "content": "hi"}], "enable_thinking": True}, "enable_thinking", "no stage of"),
        ({"text": "hi", "histories": {"like": [1.5]}}, "histories.like.0", "ids are text, or integers"),
        ({"text": "x " * 900}, "prompt", "the model has no more positions"),
        ({"history": ["m1"], "domain": "a b"}, "domain", "must be a name"),
        ({"history": ["m1"], "user": {"age": "3"}}, "user.age", "reads no words of the user"),
    ],
)
def test_a_wrong_body_is_answered_422_by_its_field(body: dict[str, Any], field: str, said: str, engine: Engine) -> None:
    async def test() -> None:
        async with served(engine) as (_, client):
            response = await client.post("/v1/recommend", json=body)
            error = response.json()["error"]
            assert (response.status_code, error["field"]) == (422, field)
            assert said in error["message"]

    run(test())


def test_unknown_items_are_dropped_with_a_note_or_refused(engine: Engine) -> None:
    async def test() -> None:
        for rule in ("drop", "refuse"):
            async with served(engine, unknown_items=rule) as (_, client):
                response = await client.post("/v1/recommend", json={"history": ["m1", "gone"], "k": 2})
                if rule == "drop":
                    assert response.json()["notes"] == ["history: 1 unknown dropped, such as 'gone'"]
                else:
                    assert response.json()["error"]["message"] == "history: got 'gone'; is no item of the catalog"

    run(test())


def test_prompts_are_logged_where_that_is_asked_for(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def test() -> None:
        for shown in (False, True):
            async with served(engine, show_prompt=shown) as (_, client):
                await client.post("/v1/recommend", json={"text": "hello you", "k": 2, "request_id": f"r{shown}"})

    run(test())
    (line,) = [vars(record) for record in caplog.records if record.message == "prompt"]
    assert line["request_id"] == "rTrue"
    assert 'words "hello you"' in line["prompt"]
    assert "<|sid_begin|>" in line["prompt"]


def test_requests_that_name_no_domain_and_no_task_get_the_servers(engine: Engine, of_domains: Engine) -> None:
    asked = {"history": [5003, 5004], "k": 3}
    chat = {"messages": [{"role": "user", "content": "hi"}], "k": 3}
    begin = {"input_ids": [1, of_domains.prompts.sids.begin["video"]], "k": 3}  # type: ignore[union-attr]
    named = [Request(**asked, domain="product", task="video"), Request(**chat, domain="product"), Request(**begin)]
    offline = [answer.items for answer in of_domains.recommend(named)]

    async def test() -> None:
        async with served(of_domains, domain="product", task="video") as (_, client):
            found = [(await client.post("/v1/recommend", json=body)).json()["items"] for body in (asked, chat, begin)]
            assert found == offline
            other = (await client.post("/v1/recommend", json={"history": [1003], "domain": "video", "k": 3})).json()
            assert all(item.startswith("1") for item in other["items"])

    run(test())
    for settings, said in (
        ({"domain": "vidoe"}, "domain: got 'vidoe'; allowed"),
        ({"task": "news"}, "task: got 'news'"),
    ):

        async def refused(settings: dict[str, Any] = settings) -> None:
            async with served(engine, **settings):
                pass

        with pytest.raises(InputError, match=said):
            run(refused())


def test_items_of_several_domains_are_not_changed_by_the_admin_port(of_domains: Engine) -> None:
    async def test() -> None:
        async with served(of_domains, admin_port=9):
            pass

    with pytest.raises(InputError, match="admin_port: got 9; changes one catalog, and this model answers from several"):
        run(test())


def test_an_experiment_is_not_run_with_several_catalogs(tmp_path: Path) -> None:
    from octorec.serve.variants import read_variants

    settings = {"experiment": "ab.yaml", "experiment_root": str(tmp_path), "catalog": ["video=a", "ad=b"]}
    with pytest.raises(InputError, match="is not run with several catalogs: give one"):
        read_variants(tmp_path, ServeConfig.of(**settings))


@pytest.mark.parametrize("catalog", [5, "", [], [""], {"video": 3}, {}])
def test_a_setting_that_names_no_catalog_is_refused(catalog: Any) -> None:
    with pytest.raises(InputError, match=r"catalog: got .*; must be a path, texts such as video=PATH, or an object"):
        ServeConfig.of(catalog=catalog)
    assert ServeConfig.of(catalog=["one"]).engine.catalog == "one"
    assert ServeConfig.of(catalog={"video": "a"}).engine.catalog == {"video": "a"}


WORKERS = "http_workers: got 2; 0: a model that reads tokens needs all in one process"


def test_http_workers_refuse_a_model_that_reads_tokens(engine: Engine) -> None:
    async def test() -> None:
        service = CrewService(lambda: engine, "first", ServeConfig.of(http_workers=2))
        await service.start()
        await service.loaded
        assert service.state == "failed"
        assert str(service.error) == WORKERS

    run(test())


@pytest.mark.slow
def test_that_refusal_ends_the_verb_with_one_line_and_leaves_nothing(engine: Engine) -> None:
    command = [sys.executable, "-m", "octorec", "serve", str(engine.checkpoint), "--port", "0", "--http-workers", "2"]
    with tempfile.TemporaryDirectory() as folder:  # of its own, as other servers come and go beside this one
        environment = {**os.environ, "TMPDIR": folder}
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
        assert not [*Path(folder).glob(f"{PREFIX}*")]
    assert ended.returncode == 2
    assert [line for line in ended.stderr.splitlines() if not line.startswith("{")] == [f"error: {WORKERS}"]
