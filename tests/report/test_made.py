"""A report says when, by which version, with which command and on which machine it was written."""

import re
from pathlib import Path

import pytest

import octorec
from octorec.report import made as module
from octorec.report.made import command, made, processor


def test_what_a_page_says_of_itself() -> None:
    said = dict(made())
    assert list(said) == ["Written", "Version", "Command", "Machine"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", said["Written"])
    assert said["Version"].startswith(f"octorec {octorec.__version__}")
    assert "torch" in said["Version"]
    assert re.search(r", \d+ cores?, (no GPU|\d+ x )", said["Machine"])


def test_the_command_is_as_it_was_typed_without_an_index() -> None:
    typed = [
        "/somewhere/bin/octorec",
        "demo",
        "--out",
        "a b",
        "--pip-args",
        "--index-url https://me:secret@host/simple",
    ]
    assert command(typed) == "octorec demo --out 'a b' --pip-args ..."
    assert "secret" not in command(["octorec", "demo", "--pip-args=--index-url https://me:secret@host/simple"])


def test_a_processor_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "cpuinfo")
    assert processor()  # of the platform
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Some CPU @ 2 GHz\n")
    assert processor() == "Some CPU @ 2 GHz"


def test_a_commit_is_that_of_the_checkout_or_none(tmp_path: Path) -> None:
    assert module._commit(tmp_path) == ""
    (tmp_path / ".git").write_text("no repository\n")
    assert module._commit(tmp_path) == ""
