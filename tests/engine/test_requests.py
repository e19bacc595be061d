"""Files of requests: JSON lines, each checked, each fault named with its line."""

import os
from pathlib import Path
from typing import Any

import pytest

from octorec.engine.request import MOST_LINE, Request, read_requests
from octorec.errors import InputError


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(content)
    return path


def test_requests_are_read_with_every_line_break_and_mark(tmp_path: Path) -> None:
    text = '\ufeff{"history": ["a\u2028b", 2]}\r\n\n  {"history": [], "k": 3, "user": {"plan": "free"}}'
    requests = read_requests(written(tmp_path, text.encode()))
    assert requests == [Request(["a\u2028b", "2"]), Request([], 3, user={"plan": "free"})]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"history": ["1"], "user": null}', "line 2: user: got None; must be an object"),
        (b'{"history": ["1"], "user": [1]}', "line 2: user"),
        (b'{"history": null}', "line 2: history: got None; must be a list of ids"),
        (b'{"history": "1"}', "line 2: history"),
        (b'{"history": {"1": 2}}', "line 2: history"),
        (b'{"history": [1.5]}', "line 2: history: got 1.5"),
        (b'{"history": [["1"]]}', "line 2: history"),
        (b'{"history": ["1"], "k": "3"}', "line 2: k: got '3'; must be an integer above 0"),
        (b'{"history": ["1"], "k": true}', "line 2: k"),
        (b'{"history": ["1"], "k": 0}', "line 2: k"),
        (b'{"history": ["1"], "k": NaN}', "NaN is no number of JSON"),
        (b'{"history": ["1"], "k": 3, "k": 4}', "'k' stands twice"),
        (b'{"history": ["1"], "k": 3, "beam_width": 2}', "at most beam_width = 2"),
        (b'{"history": ["1"], "kk": 3}', "must be an object with history (or messages, text, input_ids) and any of k"),
        (b'{"k": 3}', "must be an object with history"),
        (b"[1]", "must hold an object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"history": [' + b"9" * 5000 + b"]}", "is no JSON"),
        (b'{"history": ["\xff"]}', "is no JSON"),
        (b'{"history": ["1"]', "is no JSON"),
        (b'"' + b"x" * MOST_LINE, "is too long for a request"),
    ],
    ids=lambda value: value[:40],
)  # fmt: skip
def test_a_wrong_request_is_refused_with_its_line(tmp_path: Path, line: bytes, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_requests(written(tmp_path, b'{"history": ["1"]}\n' + line))
    assert "line 2" in str(caught.value)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_what_holds_no_request_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "nothing", tmp_path, tmp_path / "pipe", written(tmp_path, b"\n \n")):
        with pytest.raises(InputError, match="^requests: got"):  # noqa: RUF043
            read_requests(path)


@pytest.mark.parametrize("user", [None, [], "plan=free", 3])
def test_a_request_of_python_needs_a_mapping_of_user_fields(user: Any) -> None:
    with pytest.raises(InputError, match="user"):
        Request(["1"], user=user)
