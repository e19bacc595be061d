"""Whatever a ModelInfer call brings, it is refused as over HTTP, in words, and nothing is left behind."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from struct import pack
from typing import Any

import grpc
import pytest

from octorec.serve.oip_messages import SERVICE, ModelInferRequest
from octorec.serve.refusal import LONGEST
from octorec.serve.schemas import MOST_KEYS
from tests.serve.inferred import call, columns, histories, inferring, refused, request
from tests.serve.served import make_engine, run, until

ONE = histories(["i1"])
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def changed(change: Callable[[Any], object], tensors: Any = ONE, **parameters: Any) -> Any:
    message = request(tensors, k=3, **parameters)
    change(message)
    return message


def bytes_of(shape: list[int], raw: bytes) -> Any:
    """A history whose raw bytes are these."""
    message = ModelInferRequest(model_name="octorec", raw_input_contents=[raw])
    message.inputs.add(name="history", datatype="BYTES", shape=shape)
    return message


def typed(shape: list[int], **contents: Any) -> Any:
    message = ModelInferRequest(model_name="octorec")
    message.inputs.add(name="history", datatype="BYTES", shape=shape, contents=contents)
    return message


def tensor(name: str, datatype: str, shape: list[int], values: Any) -> Any:
    return request({**ONE, name: (datatype, shape, values)}, k=3)


HISTORY = {"history": ("BYTES", [1, 1], ["i1"])}
CASES: dict[str, tuple[Any, str, str]] = {  # the message, the field that is named, a word of what is said
    "no inputs": (ModelInferRequest(model_name="octorec"), "history", "required"),
    "another datatype": (changed(lambda m: setattr(m.inputs[0], "datatype", "FP16")), "history", "allowed: BYTES"),
    "no datatype": (changed(lambda m: setattr(m.inputs[0], "datatype", "")), "history", "datatype"),
    "floats as ids": (request({"history": ("FP32", [1, 1], [1.0])}, k=3), "history", "BYTES, or integers"),
    "no shape": (bytes_of([], b""), "history", "shape"),
    "a shape below 0": (bytes_of([1, -1], b""), "history", "none below 0"),
    "six axes": (bytes_of([1] * 6, b"\1\0\0\0x"), "history", "1 to 5"),
    "three axes": (bytes_of([1, 1, 1], b"\1\0\0\0x"), "history", "[rows, longest]"),
    "one axis without lengths": (bytes_of([1], b"\1\0\0\0x"), "history", "history.lengths"),
    "a shape of more than there is": (bytes_of([1, 3], b"\1\0\0\0x" * 2), "history", "10 bytes"),
    "a shape of less than there is": (bytes_of([1, 1], b"\1\0\0\0x" * 2), "history", "got 2 BYTES"),
    "a huge shape": (bytes_of([2**62, 2**62], b"\1\0\0\0x"), "history", "..."),
    "a huge shape of nothing": (bytes_of([2**62, 0], b""), "history", "is empty"),
    "many histories of nothing": (bytes_of([65, 0], b""), "history", "65 requests; 1 to 64"),
    "no history at all": (bytes_of([0, 0], b""), "history", "0 requests"),
    "an element that is cut off": (bytes_of([1, 1], b"\5\0\0\0x"), "history", "within an element"),
    "a length that is cut off": (bytes_of([1, 1], b"\1\0\0\0x\1\0"), "history", "within an element"),
    "a length of 4 GB": (bytes_of([1, 1], b"\xff\xff\xff\xffx"), "history", "within an element"),
    "no UTF-8": (bytes_of([1, 1], b"\1\0\0\0\xff"), "history", "UTF-8"),
    "half of a surrogate pair": (bytes_of([1, 1], b"\3\0\0\0\xed\xa0\x80"), "history", "UTF-8"),
    "contents of another type": (typed([1, 1], int64_contents=[5]), "history", "got 0 BYTES"),
    "contents and raw contents": (
        changed(lambda m: m.inputs[0].contents.bytes_contents.append(b"i1")), "history", "give one of them"
    ),
    "raw contents for some": (changed(lambda m: m.raw_input_contents.pop()), "raw_input_contents", "got 1 for 2"),
    "a parameter of an input": (
        changed(lambda m: m.inputs[0].parameters["shared_memory_region"].MergeFrom(m.parameters["k"])),
        "history", "no parameters",
    ),
    "an input that is given twice": (
        changed(lambda m: (m.inputs.append(m.inputs[0]), m.raw_input_contents.append(m.raw_input_contents[0]))),
        "history", "twice",
    ),
    "many inputs": (
        changed(lambda m: [m.inputs.add(name=str(n), datatype="BYTES", shape=[0]) for n in range(MOST_KEYS)]),
        "inputs", "at most 256",
    ),
    "an unknown input": (tensor("hist", "BYTES", [1], ["i1"]), "hist", "no such field"),
    "an input without a name": (tensor("", "BYTES", [1], ["i1"]), "inputs", "no such field"),
    "lengths of nothing": (tensor("exclude.lengths", "INT64", [1], [1]), "exclude.lengths", "no such field"),
    "user without a name": (tensor("user.", "BYTES", [1], ["x"]), "user.", "no such field"),
    "an unknown user field": (tensor("user.plum", "BYTES", [1], ["x"]), "user", "plum"),
    "a user field for two": (tensor("user.plan", "BYTES", [2], ["free", "paid"]), "user.plan", "each of the 1"),
    "a user field that is a list": (tensor("user.age", "FP32", [1, 2], [1.0, 2.0]), "user.age", "text, numbers"),
    "a user field that is NaN": (tensor("user.age", "FP64", [1], [float("nan")]), "user.age", "finite"),
    "a feature that there is not": (tensor("features.hour", "INT64", [1], [3]), "features.hour", "no feature"),
    "a feature of text": (tensor("features.hour", "BYTES", [1], ["3"]), "features.hour", "numbers"),
    "a feature of many empty lists": (
        tensor("features.hour", "FP32", [1, 10**9, 0], []), "features.hour", "is empty"
    ),
    "an unknown item set": (
        request({**HISTORY, "allow": ("BYTES", [1, 1], ["green"])}, k=3), "allow", "green"
    ),
    "exclusions for two": (
        request({**HISTORY, "exclude": ("BYTES", [2, 1], ["i2", "i3"])}, k=3), "exclude", "each of the 1"
    ),
    "too many exclusions": (
        request({**HISTORY, "exclude": ("INT64", [1, 10_001], range(10_001))}, k=3), "exclude", "max_exclude"
    ),
    "lengths of another number": (
        request({**HISTORY, "history.lengths": ("INT64", [2], [1, 0])}, k=3), "history.lengths", "must be 1"
    ),
    "lengths beyond the row": (
        request({**HISTORY, "history.lengths": ("INT64", [1], [2])}, k=3), "history.lengths", "at most 1"
    ),
    "lengths below 0": (
        request({**HISTORY, "history.lengths": ("INT64", [1], [-1])}, k=3), "history.lengths", "below 0"
    ),
    "lengths of text": (
        request({**HISTORY, "history.lengths": ("BYTES", [1], ["1"])}, k=3), "history.lengths", "INT32 or INT64"
    ),
    "lengths of too few ids": (
        request({"history": ("BYTES", [3], ["i1"] * 3), "history.lengths": ("INT64", [2], [1, 1])}),
        "history.lengths", "2 in all, of 3",
    ),
    "lengths that are more than 64 bits": (
        request({"history": ("BYTES", [1], ["i1"]), "history.lengths": ("INT64", [2], [2**63 - 1, 2**63 - 1])}),
        "history.lengths", "in all",
    ),
    "an unknown parameter": (request(ONE, k=3, top_k=3), "top_k", "no such parameter"),
    "many parameters": (
        changed(lambda m: [m.parameters[str(n)].SetInParent() for n in range(300)]), "parameters", "at most 256"
    ),
    "a parameter without a value": (changed(lambda m: m.parameters["k"].Clear()), "k", "no value"),
    "k is text": (request(ONE, k="3"), "k", "integer"),
    "k is true": (request(ONE, k=True), "k", "integer"),
    "k is 0": (request(ONE, k=0), "k", "greater than or equal to 1"),
    "k is more than beams": (request(ONE, k=17), "k", "at most"),
    "a beam that no bucket holds": (request(ONE, k=3, beam_width=64), "beam_width", "64"),
    "a beam of words": (request(ONE, k=3, beam_width="wide"), "beam_width", "must be"),
    "a deadline of words": (request(ONE, k=3, deadline_ms="soon"), "deadline_ms", "number"),
    "a deadline below 0": (request(ONE, k=3, deadline_ms=-1), "deadline_ms", "greater than 0"),
    "a deadline that is NaN": (request(ONE, k=3, deadline_ms=float("nan")), "deadline_ms", "less than"),
    "a domain": (request(ONE, k=3, domain="video"), "domain", ""),
    "an unknown output": (request(ONE, outputs=["titles"]), "outputs", "'titles'; allowed: item_indices"),
    "an output that is named twice": (request(ONE, outputs=["scores", "scores"]), "outputs", "once each"),
    "many outputs": (request(ONE, outputs=["scores"] * 100_000), "outputs", "once each"),
    "a parameter of an output": (
        changed(lambda m: m.outputs.add(name="scores").parameters["classification"].SetInParent()),
        "outputs", "without parameters",
    ),
    "an id with a space": (changed(lambda m: setattr(m, "id", "a b")), "id", "printable"),
    "a name without end": (tensor("x" * 100_000, "BYTES", [1], ["i1"]), "x" * 100, "no such field"),
}  # fmt: skip


def test_wrong_messages_name_what_is_wrong_and_leave_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)

    async def test() -> None:
        async with inferring(make_engine()) as (service, _, channel):
            for name, (message, field, word) in CASES.items():
                code, said, outcome, trailers = await refused(channel, message)
                assert (code, outcome) == (INVALID, "invalid"), (name, said)
                assert (trailers["octorec-field-bin"].decode(), word in said) == (field, True), (name, said)
                assert 0 < len(said) <= LONGEST
                assert "Traceback" not in said
            counted = service.metrics.registry.get_sample_value("octorec_requests_total", {"outcome": "invalid"})
            assert counted == len(CASES)
            for message in (
                ModelInferRequest(model_name="other"),
                changed(lambda m: setattr(m, "model_version", "second")),
                ModelInferRequest(model_name="x" * 100_000),
            ):
                code, said, outcome, _ = await refused(channel, message)
                assert (code, outcome) == (grpc.StatusCode.NOT_FOUND, "not_found"), said
            assert columns(await call(channel, "ModelInfer")(request(ONE, k=3)))["counts"].tolist() == [3]
            assert (service.accepted, service.batcher.waiting) == (0, 0)
        assert not [record.getMessage() for record in caplog.records]

    run(test())


@pytest.mark.slow
def test_messages_are_bounded_in_bytes_time_and_coding() -> None:
    async def test() -> None:
        settings = {"max_body_bytes": 6 * 2**20, "body_timeout_s": 0.3, "max_list": 1}
        async with inferring(make_engine(), **settings) as (service, _, channel):
            infer = channel.stream_unary(f"/{SERVICE}/ModelInfer")
            said = await refused(channel, changed(lambda m: setattr(m, "model_version", "x" * 6 * 2**20)))
            assert said[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
            many = ["i1"] * 700_000
            for ids in (many, many[:3]):  # of more than 4 MiB, as much as gRPC takes by itself
                found = await call(channel, "ModelInfer")(request(histories(ids), k=3))
                assert columns(found)["counts"].tolist() == [3]
            said = await refused(channel, request(histories(["i1"], ["i2"]), k=3))
            assert said[2] == "invalid"
            said = await refused(channel, request(ONE), compression=grpc.Compression.Gzip)
            assert said[0] is grpc.StatusCode.UNIMPLEMENTED
            code = infer().code()  # sends nothing
            assert await asyncio.wait_for(code, 10) is grpc.StatusCode.DEADLINE_EXCEEDED
            for body in (b"", b"\xff", b"\x0a\xff", pack("<Q", 2**63) * 9):
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await infer(iter([body]))
                assert error.value.code() in (INVALID, grpc.StatusCode.NOT_FOUND)
            await until(lambda: not len(service.way_out), "no call is open")
            counts = {
                outcome: service.metrics.registry.get_sample_value("octorec_requests_total", {"outcome": outcome})
                for outcome in ("too_large", "timeout", "malformed", "not_found", "ok")
            }
            assert counts == {"too_large": 1, "timeout": 1, "malformed": 3, "not_found": 1, "ok": 2}

    run(test())


def test_calls_that_are_open_are_few_enough() -> None:
    async def test() -> None:
        async with inferring(make_engine(), max_connections=4) as (service, _, channel):
            silent = [channel.stream_unary(f"/{SERVICE}/ModelInfer")() for _ in range(4)]
            await until(lambda: len(service.way_out) == 4, "four are open")
            apart = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
            async with grpc.aio.insecure_channel(f"127.0.0.1:{channel.port}", apart) as other:
                code, said, outcome, _ = await refused(other, request(ONE, k=3))
                assert (code, outcome) == (grpc.StatusCode.UNAVAILABLE, "queue_full"), said
                for one in silent:
                    one.cancel()
                await until(lambda: not len(service.way_out), "they are gone")
                assert columns(await call(other, "ModelInfer")(request(ONE, k=3)))["counts"].tolist() == [3]

    run(test())


@dataclass(frozen=True)
class Frames:
    """Frames of HTTP/2 to one server, by hand: what no client library sends."""

    writer: asyncio.StreamWriter

    def send(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        self.writer.write(len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body)

    def ask(self, stream: int, message: bytes, **more: bytes) -> None:
        """Send a whole ModelInfer call. more: further headers."""
        heads = {":method": "POST", ":scheme": "http", ":path": f"/{SERVICE}/ModelInfer", ":authority": "x"}
        heads |= {"te": "trailers", "content-type": "application/grpc"}
        pairs = [(name.encode(), value.encode()) for name, value in heads.items()]
        pairs += [(name.encode(), value) for name, value in more.items()]
        block = b"".join(b"\0" + bytes([len(one)]) + one + bytes([len(two)]) + two for one, two in pairs)
        self.send(1, 4, stream, block)
        self.send(0, 1, stream, b"\0" + len(message).to_bytes(4, "big") + message)


def test_a_client_that_reads_nothing_holds_no_place(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    async def test() -> None:
        async with inferring(make_engine(), answer_timeout_s=0.2) as (service, _, channel):
            _, writer = await asyncio.open_connection("127.0.0.1", channel.port)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            frames = Frames(writer)
            frames.send(4, 0, 0, pack(">HI", 4, 0))  # settings: a window of no bytes
            for number in range(5):
                frames.ask(2 * number + 1, request(ONE, k=3).SerializeToString())
            unread = {"why": "unread"}
            value = service.metrics.registry.get_sample_value
            await until(lambda: value("octorec_connections_ended_total", unread) == 5, "all are given up")
            assert len(service.way_out) == 0
            assert columns(await call(channel, "ModelInfer")(request(ONE, k=3)))["counts"].tolist() == [3]
            writer.close()
        assert not [record.getMessage() for record in caplog.records]

    run(test())


def test_a_token_that_is_no_text_is_a_wrong_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("secret\n")
    caplog.set_level(logging.ERROR)

    async def test() -> None:
        async with inferring(make_engine(), token_file=str(tokens)) as (service, _, channel):
            reader, writer = await asyncio.open_connection("127.0.0.1", channel.port)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            frames = Frames(writer)
            frames.send(4, 0, 0, b"")
            for number, token in enumerate((b"Bearer caf\xe9", b"\xff", b"Bearer \xed\xa0\x80", b"", b"Bearer wrong")):
                frames.ask(2 * number + 1, request(ONE, k=3).SerializeToString(), authorization=token)
            value = service.metrics.registry.get_sample_value
            await until(lambda: value("octorec_requests_total", {"outcome": "unauthorized"}) == 5, "all are refused")
            assert b"unauthorized" in await reader.read(10_000)
            writer.close()
        assert not [record.getMessage() for record in caplog.records]

    run(test())


@pytest.mark.slow
def test_connections_without_calls_are_closed_in_time() -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    starts = (
        b"",
        preface[:9],
        preface,
        preface + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    )

    async def test() -> None:
        async with inferring(make_engine(), head_timeout_s=0.5, keep_alive_s=1) as (_, _, channel):

            async def closed(start: bytes) -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", channel.port)
                writer.write(start)
                async with asyncio.timeout(20):
                    while await reader.read(1000):
                        pass

            await asyncio.gather(*map(closed, starts))
            assert columns(await call(channel, "ModelInfer")(request(ONE, k=3)))["counts"].tolist() == [3]

    run(test())


@pytest.mark.slow
def test_no_bytes_and_no_message_break_it(caplog: pytest.LogCaptureFixture) -> None:
    """Messages with bytes changed at random, and messages put together from parts that fit or do not."""
    caplog.set_level(logging.ERROR)
    noise = random.Random(0)
    good = request({**histories(["i1", "i2"], ["i3"]), "user.age": ("FP64", [2], [3.0, 4.0])}, k=3)
    said: Counter[str] = Counter()

    async def test() -> None:
        async with inferring(make_engine()) as (service, _, channel):
            infer = channel.stream_unary(f"/{SERVICE}/ModelInfer")

            async def ask(body: bytes) -> None:
                try:
                    await infer(iter([body]), timeout=60)
                    said["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    said[error.code().name] += 1

            for number in range(3000):
                await ask(broken(good.SerializeToString(), noise) if number % 2 else drawn(noise).SerializeToString())
            assert set(said) <= {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}, said
            assert said["OK"] > 20
            assert said["INVALID_ARGUMENT"] > 500
            assert (service.accepted, service.batcher.waiting, service.not_live) == (0, 0, None)
        assert not [record.getMessage() for record in caplog.records]

    run(test())
    print(dict(said))


def broken(body: bytes, noise: random.Random) -> bytes:
    found = bytearray(body)
    for _ in range(noise.randint(1, 4)):
        at = noise.randrange(len(found))
        found[at : at + noise.randint(0, 3)] = noise.randbytes(noise.randint(0, 3))
    return bytes(found)


def drawn(noise: random.Random) -> Any:
    """A message whose parts are drawn from right ones and wrong ones."""
    names = ["history", "history", "history.lengths", "exclude", "allow", "user.age", "features.x", ""]
    message = ModelInferRequest(model_name="octorec")
    for name in {"history", *noise.sample(names, noise.randint(0, 3))}:
        shape = noise.choice([[1, 2], [2, 1], [2], [1], [0], [1, 0], [2**40, 2], [-1]])
        one = message.inputs.add(
            name=name, datatype=noise.choice(["BYTES", "BYTES", "INT64", "FP32", "X"]), shape=shape
        )
        if noise.random() < 0.5:
            one.contents.bytes_contents.extend([b"i1", b"i2"][: noise.randint(1, 2)])
            one.contents.int64_contents.extend([1, 1][: noise.randint(1, 2)])
    if noise.random() < 0.3:
        message.raw_input_contents.extend(b"\1\0\0\0x" * noise.randint(0, 2) for _ in message.inputs)
    message.parameters["k"].int64_param = noise.choice([1, 3, 16, 17, 0, -(2**63), 2**62])
    return message
