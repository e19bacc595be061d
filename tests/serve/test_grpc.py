"""The Open Inference Protocol over gRPC: the answers of HTTP, its refusals, its way from loading to draining."""

import asyncio
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from octorec.engine.engine import Engine
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.serve import oip_health
from octorec.serve.config import ServeConfig
from octorec.serve.oip_answers import OUTPUTS, Answered, encode_batch
from octorec.serve.oip_infer import CODES
from octorec.serve.oip_messages import CALLS, COMPILED, PROTO, SERVICE
from octorec.serve.oip_requests import PARAMETERS
from octorec.serve.oip_server import open_inference
from octorec.serve.refusal import STATUS
from octorec.serve.service import Service
from tests.serve.inferred import call, columns, histories, inferring, refused, request
from tests.serve.served import Gate, Process, make_catalog, make_engine, run, save_checkpoint, served, until

ROWS = [["i1", "i2", "nothing"], ["i3"], ["i4", "i5", "i6", "i7"]]
PADDED = [one for row in ROWS for one in [*row, "", "", "", ""][:4]]
INPUTS = "history", "history.lengths", "exclude", "allow", ".lengths", "user.NAME", "features.NAME"
WIDTHS = "--batch-sizes", "1", "--beam-widths", "16", "--default-beam-width", "16"


def ended(service: Service, outcome: str) -> float:
    return service.metrics.registry.get_sample_value("octorec_requests_total", {"outcome": outcome}) or 0


def gate(engine: Engine) -> Gate:
    assert isinstance(engine.model, Gate)
    return engine.model


def test_the_compiled_description_is_that_of_the_proto(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    out = tmp_path / "new.binpb"
    assert protoc.main(["protoc", f"-I{PROTO.parent}", f"--descriptor_set_out={out}", PROTO.name]) == 0
    assert out.read_bytes() == COMPILED.read_bytes()


def test_answers_are_those_of_http_in_both_forms_of_tensors() -> None:
    users = {"user.age": ("FP64", [3], [31.0, 20.0, 44.5]), "user.plan": ("BYTES", [3], ["free", "paid", "paid"])}
    padded = {"history": ("BYTES", [3, 4], PADDED), "history.lengths": ("INT32", [3], [3, 1, 4])}
    without = {"exclude": ("BYTES", [3], ["i8", "i9", "i10"]), "exclude.lengths": ("INT64", [3], [0, 2, 1])}
    allowed = {"allow": ("BYTES", [3, 1], ["red", "blue", "red"])}
    bodies: list[dict[str, Any]] = [
        {"history": ROWS[0], "user": {"age": 31.0, "plan": "free"}, "exclude": [], "allow": ["red"]},
        {"history": ROWS[1], "user": {"age": 20.0, "plan": "paid"}, "exclude": ["i8", "i9"], "allow": ["blue"]},
        {"history": ROWS[2], "user": {"age": 44.5, "plan": "paid"}, "exclude": ["i10"], "allow": ["red"]},
    ]

    async def test() -> None:
        async with inferring(make_engine()) as (_, client, channel):
            for shared in ({"k": 9, "beam_width": 32}, {"k": 32, "beam_width": "16-32-32", "exclude_seen": True}):
                answers = (await client.post("/v1/recommend", json=[{**one, **shared} for one in bodies])).json()
                for lists in (histories(*ROWS), padded):
                    for raw in (True, False):
                        asked = request({**lists, **users, **without, **allowed}, raw, **shared)
                        found = await call(channel, "ModelInfer")(asked)
                        same(found, answers["answers"], int(shared["k"]))

    run(test())


def same(found: Any, answers: list[dict[str, Any]], k: int) -> None:
    """The tensors say what the answers over HTTP say."""
    got = columns(found)
    assert found.model_version == answers[0]["model"]
    assert found.parameters["catalog"].string_param == answers[0]["catalog"]
    catalog = make_catalog()
    for row, answer in enumerate(answers):
        n = len(answer["items"])
        assert got["counts"][row] == n
        assert got["item_ids"][row].tolist() == answer["items"] + [""] * (k - n)
        assert [catalog.item_ids[index] for index in got["item_indices"][row][:n]] == answer["items"]
        assert (got["item_indices"][row][n:] == -1).all()
        assert np.array_equal(got["scores"][row][:n], np.float32(answer["scores"]))
        assert (got["scores"][row][n:] == -np.inf).all()
        assert (got["bound"][row] == -np.inf) if answer["bound"] is None else (got["bound"][row] == answer["bound"])
        for name in ("exact", "near_tie", "source", "model", "catalog"):
            assert got[name][row] == answer[name], name
        assert got["notes"][row] == "\n".join(answer["notes"])


def test_histories_of_numbers_are_read_as_text_and_outputs_are_those_that_are_asked_for() -> None:
    engine = make_engine(make_catalog(ids=[str(number) for number in range(90)]))

    async def test() -> None:
        async with inferring(engine) as (_, client, channel):
            asked = request({"history": ("INT64", [1, 2], [5, 7])}, outputs=["scores", "item_indices"], k=4)
            asked.id = "mine"
            found = await call(channel, "ModelInfer")(asked)
            answer = (await client.post("/v1/recommend", json={"history": ["5", "7"], "k": 4})).json()
            assert [(one.name, one.datatype, [*one.shape]) for one in found.outputs] == [
                ("scores", "FP32", [1, 4]),
                ("item_indices", "INT64", [1, 4]),
            ]
            assert [engine.catalog.item_ids[one] for one in columns(found)["item_indices"][0]] == answer["items"]
            assert (found.id, found.model_name) == ("mine", "octorec")

    run(test())


def test_an_empty_history_is_answered_by_popularity_and_a_batch_may_mix_both() -> None:
    async def test() -> None:
        async with inferring(make_engine(make_catalog(counted=True))) as (_, client, channel):
            found = columns(await call(channel, "ModelInfer")(request(histories([], ["i1"]), k=5)))
            answer = (await client.post("/v1/recommend", json={"history": [], "k": 5})).json()
            assert found["source"].tolist() == ["popularity", "model"]
            assert found["item_ids"][0].tolist() == answer["items"]
            empty = columns(await call(channel, "ModelInfer")(request({"history": ("BYTES", [2, 0], [])}, k=5)))
            assert empty["item_ids"][1].tolist() == answer["items"]

    run(test())


def test_metadata_and_health() -> None:
    async def test() -> None:
        async with inferring(make_engine(), model_name="octorec") as (service, _, channel):
            health = health_pb2_grpc.HealthStub(channel)
            assert (await call(channel, "ServerLive")(CALLS["ServerLive"][0]())).live
            assert (await call(channel, "ServerReady")(CALLS["ServerReady"][0]())).ready
            assert (await call(channel, "ServerMetadata")(CALLS["ServerMetadata"][0]())).name == "octorec"
            ready, about = CALLS["ModelReady"][0], CALLS["ModelMetadata"][0]
            assert (await call(channel, "ModelReady")(ready(name="octorec", version="first"))).ready
            said = await call(channel, "ModelMetadata")(about(name="octorec"))
            assert ([*said.versions], said.platform) == (["first"], "octorec")
            shapes = {one.name: (one.datatype, [*one.shape]) for one in [*said.inputs, *said.outputs]}
            assert shapes["history"] == ("BYTES", [-1, -1])
            assert shapes["user.age"] == ("FP64", [-1])
            assert shapes["item_indices"] == ("INT64", [-1, -1])
            for asked in (ready(name="other"), about(name="octorec", version="second")):
                name = "ModelReady" if isinstance(asked, ready) else "ModelMetadata"
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await call(channel, name)(asked)
                assert error.value.code() is grpc.StatusCode.NOT_FOUND
            for name in ("", SERVICE):
                assert (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == 1
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await health.Check(health_pb2.HealthCheckRequest(service="other"))
            assert error.value.code() is grpc.StatusCode.NOT_FOUND
            watching = health.Watch(health_pb2.HealthCheckRequest())
            assert (await watching.read()).status == 1
            service.state = "ending"
            assert (await watching.read()).status == 2
            assert not (await call(channel, "ServerReady")(CALLS["ServerReady"][0]())).ready
            assert (await call(channel, "ServerLive")(CALLS["ServerLive"][0]())).live
            service.state = "ready"

    run(test())


def test_watches_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oip_health, "MOST_WATCHES", 2)

    async def test() -> None:
        async with inferring(make_engine()) as (_, _, channel):
            health = health_pb2_grpc.HealthStub(channel)
            watching = [health.Watch(health_pb2.HealthCheckRequest(service="x")) for _ in range(2)]
            assert [(await one.read()).status for one in watching] == [3, 3]
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await health.Watch(health_pb2.HealthCheckRequest()).read()
            assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    run(test())


def test_every_outcome_that_a_call_may_have_has_a_code() -> None:
    of_http_alone = {"ok", "forbidden", "method_not_allowed", "busy", "unsupported_media", "head_too_large", "not_live"}
    assert set(CODES) == set(STATUS) - of_http_alone


def test_a_token_is_asked_for_before_the_message_is_read(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("secret\n")
    tokens.chmod(0o600)

    async def test() -> None:
        async with inferring(make_engine(), token_file=str(tokens)) as (service, _, channel):
            good = request(histories(["i1"]), k=3)
            for given in ((), (("authorization", "Bearer wrong"),), (("authorization", "secret"),)):
                code, _, outcome, _ = await refused(channel, good, metadata=given)
                assert (code, outcome) == (grpc.StatusCode.UNAUTHENTICATED, "unauthorized")
            silent = channel.stream_unary(f"/{SERVICE}/ModelInfer")(metadata=())  # sends nothing
            assert await asyncio.wait_for(silent.code(), 10) is grpc.StatusCode.UNAUTHENTICATED
            assert ended(service, "unauthorized") == 4
            found = await call(channel, "ModelInfer")(good, metadata=(("authorization", "Bearer secret"),))
            assert columns(found)["counts"].tolist() == [3]
            assert (await call(channel, "ServerReady")(CALLS["ServerReady"][0]())).ready

    run(test())


def test_clients_have_a_share_each_and_a_full_queue_says_when_to_ask_again() -> None:
    engine = make_engine(gate=True, batch_sizes=(1,), beam_widths=(16,))
    proxies = {"trusted_proxies": "127.0.0.1", "client_header": "X-Client"}

    async def test() -> None:
        async with inferring(engine, max_queued_requests=2, **proxies) as (service, _, channel):
            gate(engine).shut()
            good, ask = request(histories(["i1"]), k=3), call(channel, "ModelInfer")
            of_one, of_another = (("x-client", "one"),), (("x-client", "another"),)
            calls = [ask(good, metadata=of_one)]
            await until(gate(engine).entered.is_set, "the device is held")
            calls += [ask(good, metadata=of_one) for _ in range(2)]
            await until(lambda: service.batcher.waiting == 2, "the queue is full")
            code, said, outcome, trailers = await refused(channel, good, metadata=of_one)
            assert (code, outcome) == (grpc.StatusCode.UNAVAILABLE, "queue_full"), said
            assert int(trailers["grpc-retry-pushback-ms"]) == 1000 * int(trailers["retry-after"]) >= 1000
            calls.append(ask(good, metadata=of_another))  # takes the place of one of the first client's
            with pytest.raises(grpc.aio.AioRpcError):
                await calls.pop(2)
            gate(engine).open.set()
            for one in calls:
                assert columns(await one)["counts"].tolist() == [3]
            assert (ended(service, "queue_full"), ended(service, "ok")) == (2, 3)

    run(test())


def test_the_deadline_is_that_of_the_call_or_the_parameter_and_a_client_that_goes_frees_its_places() -> None:
    engine = make_engine(gate=True, batch_sizes=(4,), beam_widths=(16,))

    async def test() -> None:
        async with inferring(engine) as (service, _, channel):
            gate(engine).shut()
            ask = call(channel, "ModelInfer")
            held = asyncio.ensure_future(ask(request(histories(["i1"]), k=3)))
            await until(gate(engine).entered.is_set, "the device is held")
            for options in ({"timeout": 0.15}, {"timeout": 60}):
                asked = request(histories(["i2"], ["i3"]), k=3, deadline_ms=60_000 if options["timeout"] < 1 else 150)
                start = time.monotonic()
                code, *_ = await refused(channel, asked, **options)
                assert code is grpc.StatusCode.DEADLINE_EXCEEDED
                assert time.monotonic() - start < 5
            await until(lambda: service.batcher.waiting == 0, "nobody waits for them")
            assert ended(service, "deadline") + ended(service, "cancelled") == 4
            leaving = ask(request(histories(["i4"], ["i5"], ["i6"]), k=3))
            await until(lambda: service.batcher.waiting == 3, "they wait")
            before = ended(service, "cancelled")
            leaving.cancel()
            await until(lambda: service.batcher.waiting == 0, "they left")
            assert ended(service, "cancelled") - before == 3
            gate(engine).batches.clear()
            gate(engine).open.set()
            assert columns(await held)["counts"].tolist() == [3]
            assert (gate(engine).batches, service.accepted) == ([1], 0)

    run(test())


def test_one_wrong_row_refuses_the_call_and_says_which() -> None:
    async def test() -> None:
        async with inferring(make_engine(), unknown_items="refuse") as (service, client, channel):
            code, said, outcome, trailers = await refused(channel, request(histories(["i1"], ["nothing"]), k=3))
            body = (await client.post("/v1/recommend", json={"history": ["nothing"], "k": 3})).json()["error"]
            assert (code, outcome) == (grpc.StatusCode.INVALID_ARGUMENT, body["type"])
            assert said == f"row 1: {body['message']}"
            assert trailers["octorec-field-bin"].decode() == body["field"]
            await until(lambda: service.accepted == 0, "the other row has ended")
            assert service.batcher.waiting == 0

    run(test())


def test_a_poisoned_batch_and_a_fault_of_ours_are_internal_errors(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(gate=True)
    gate(engine).poison = tuple(engine.catalog.codes[engine.catalog.index["i5"]].tolist())

    async def test() -> None:
        async with inferring(engine) as (_, _, channel):
            code, _, outcome, _ = await refused(channel, request(histories(["i5"]), k=3))
            assert (code, outcome) == (grpc.StatusCode.INTERNAL, "failed")
            monkeypatch.setattr("octorec.serve.oip_infer.encode_batch", lambda *_: 1 / 0)
            code, said, outcome, _ = await refused(channel, request(histories(["i1"]), k=3))
            assert (code, outcome) == (grpc.StatusCode.INTERNAL, "failed")
            assert "division" not in said
            assert "a call failed" in caplog.messages

    run(test())


def test_a_port_that_another_has_is_refused_and_the_other_goes_on() -> None:
    async def test() -> None:
        async with served(make_engine()) as (service, _), open_inference(service) as port:
            with socket.create_server(("127.0.0.1", 0)) as taken:
                for other in (taken.getsockname()[1], port):
                    second = Service(make_engine, "second", ServeConfig.of(grpc_port=other))
                    with pytest.raises(InputError, match="grpc_port"):
                        async with open_inference(second):
                            pass
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                assert (await call(channel, "ServerReady")(CALLS["ServerReady"][0]())).ready

    run(test())


def test_before_it_is_ready_and_after_it_drains_calls_are_unavailable() -> None:
    engine = make_engine(gate=True)

    async def test() -> None:
        async with inferring(engine) as (service, _, channel):
            good = request(histories(["i1"]), k=3)
            service.state = "loading"
            code, _, outcome, trailers = await refused(channel, good)
            assert (code, outcome, trailers["retry-after"]) == (grpc.StatusCode.UNAVAILABLE, "not_ready", "1")
            service.state = "ready"
            gate(engine).shut()
            held = asyncio.ensure_future(call(channel, "ModelInfer")(good))
            await until(gate(engine).entered.is_set, "the device is held")
            service.drain()
            code, _, outcome, trailers = await refused(channel, good)
            assert (code, outcome, trailers["retry-after"]) == (grpc.StatusCode.UNAVAILABLE, "draining", "1")
            gate(engine).open.set()
            assert columns(await held)["counts"].tolist() == [3]

    run(test())


def test_what_is_given_up_on_the_way_out_is_told_so() -> None:
    engine = make_engine(gate=True, batch_sizes=(1,))

    async def test() -> None:
        async with inferring(engine, drain_timeout_s=5) as (service, _, channel):
            gate(engine).shut()
            good = request(histories(["i1"]), k=3)
            held = asyncio.ensure_future(refused(channel, good))
            await until(gate(engine).entered.is_set, "the device is held")
            waits = asyncio.ensure_future(refused(channel, good))
            silent = channel.stream_unary(f"/{SERVICE}/ModelInfer")()
            await until(lambda: len(service.way_out) == 3, "all are open")
            service.drain()
            await service.give_up()
            for one in (held, waits):
                code, _, outcome, _ = await one
                assert (code, outcome) == (grpc.StatusCode.UNAVAILABLE, "draining")
            assert await asyncio.wait_for(silent.code(), 10) is grpc.StatusCode.UNAVAILABLE
            assert ended(service, "draining") == 3
            gate(engine).open.set()

    run(test())


@pytest.mark.slow
def test_a_process_drains_and_a_second_one_on_its_port_ends(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", make_catalog())
    first = Process(tmp_path / "model", "--grpc-port", "0", *WIDTHS)
    port = first.line("listening")["port"]
    first.line("ready")
    second = Process(tmp_path / "model", "--grpc-port", str(port))
    said = second.process.stderr.read() if second.process.stderr else ""
    assert second.end() == 2, said
    assert said.splitlines()[-1].startswith("error: grpc_port: got ")

    async def test() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            ask = call(channel, "ModelInfer")
            asked = request(histories(["i1"]), k=3)
            answered, refusals = [], []

            async def keep_asking() -> None:
                while not refusals:
                    try:
                        answered.append(columns(await ask(asked))["counts"].tolist())
                    except grpc.aio.AioRpcError as error:
                        refusals.append(error.code())

            asking = [asyncio.create_task(keep_asking()) for _ in range(4)]
            await until(lambda: len(answered) > 20, "answers come")
            os.kill(first.process.pid, signal.SIGTERM)
            await asyncio.gather(*asking)
            assert set(refusals) == {grpc.StatusCode.UNAVAILABLE}
            assert answered.count([3]) == len(answered)

    asyncio.run(test())
    assert first.end() == 0
    assert "Traceback" not in str(first.lines)


def test_rows_of_two_versions_say_their_own() -> None:
    old, new = (make_engine(make_catalog(seed=seed)) for seed in (0, 1))
    named = {"old": old, "new": new}
    rows = [Answered(one.lists([Request(["i1"], k=3)], lambda ranked: ranked)[0], name) for name, one in named.items()]
    both = encode_batch(rows, ("item_ids", "model", "catalog"), "octorec", "")
    found = columns(both)
    assert (both.model_version, [*both.parameters]) == ("", [])
    assert found["model"].tolist() == ["old", "new"]
    assert found["catalog"].tolist() == [old.catalog.version, new.catalog.version]
    alone = encode_batch(rows[:1], ("item_ids",), "octorec", "")
    assert alone.model_version == "old"
    assert columns(alone)["item_ids"][0].tolist() == found["item_ids"][0].tolist()


def test_the_page_has_every_output_parameter_and_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "grpc.md").read_text()
    for name in (*OUTPUTS, *PARAMETERS, *INPUTS):
        assert f"`{name}`" in page, name
    for outcome in set(CODES) - {"cancelled"}:  # which nobody reads
        row = next(line for line in page.splitlines() if line.startswith(f"| `{CODES[outcome].name}` |"))
        assert f"`{outcome}`" in row


def test_the_unit_of_an_experiment_may_be_named_whatever_the_model_reads() -> None:
    async def test() -> None:
        async with inferring(make_engine()) as (_, _, channel):
            asked = request({**histories(["i1"], ["i2"]), "user.user_id": ("BYTES", [2], ["u1", "u2"])}, k=3)
            assert columns(await call(channel, "ModelInfer")(asked))["counts"].tolist() == [3, 3]

    run(test())
