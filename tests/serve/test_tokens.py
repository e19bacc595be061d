"""Token files: as editors save them, read again when they change, and warned of where others may read them."""

import logging
import os
from pathlib import Path

import pytest
from starlette.requests import Request

from octorec.errors import InputError
from octorec.serve import tokens
from octorec.serve.refusal import Refusal
from octorec.serve.tokens import Tokens, warn_if_open


def asked(token: str) -> Request:
    return Request({"type": "http", "headers": [(b"authorization", f"Bearer {token}".encode())]})


def passes(known: Tokens, token: str) -> bool:
    try:
        known.check(asked(token))
    except Refusal:
        return False
    return True


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "LOOK_EVERY_S", 0.0)


@pytest.mark.parametrize(
    "text", [b"\xef\xbb\xbfone\ntwo\n", b"one\r\ntwo\r\n", b"  one \n\n\ttwo", b"\xef\xbb\xbfone\rtwo"]
)
def test_a_mark_and_any_ends_of_lines_are_no_part_of_a_token(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(text)
    known = Tokens(str(tmp_path / "tokens"))
    assert passes(known, "one")
    assert passes(known, "two")
    assert not passes(known, "three")


def test_a_file_of_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes("one\n".encode("utf-16"))
    with pytest.raises(InputError, match="token_file"):
        Tokens(str(tmp_path / "tokens"))


def test_a_changed_file_counts_and_a_broken_one_does_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "tokens"
    path.write_text("one\n")
    known = Tokens(str(path))
    assert passes(known, "one")
    (tmp_path / "new").write_text("two\n")
    os.replace(tmp_path / "new", path)  # as a mounted secret changes
    assert passes(known, "two")
    assert not passes(known, "one")
    for broken in (b"", b"\n \n", b"\xff\xfe\x00"):
        path.write_bytes(broken)
        assert passes(known, "two")
        assert not passes(known, "")
    path.unlink()
    assert passes(known, "two")
    assert "the tokens stay as they were" in caplog.messages
    path.write_text("three\n")
    assert passes(known, "three")
    assert not passes(known, "two")


def test_one_holder_has_one_name_however_it_spells_the_header(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("one\ntwo\n")
    known = Tokens(str(tmp_path / "tokens"))
    names = {
        known.check(Request({"type": "http", "headers": [(b"authorization", text)]}))
        for text in (b"Bearer one", b"bearer one", b"BEARER   one  ")
    }
    assert len(names) == 1
    assert known.check(asked("two")) not in names
    assert "one" not in names.pop()


@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o640, 0), (0o400, 0), (0o644, 1), (0o666, 1), (0o620, 1)])
def test_a_file_that_others_may_read_is_warned_of(
    mode: int, warned: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens"
    path.write_text("one\n")
    path.chmod(mode)
    with caplog.at_level(logging.WARNING):
        warn_if_open(str(path))
    assert len(caplog.records) == warned
