"""A verb that loads an engine on a GPU says what it takes."""

import pytest

from octorec.cli.inputs import said_of_gpu


@pytest.mark.parametrize(("device", "said"), [("cpu", ""), ("cuda", "memory: all\n"), ("cuda:1", "memory: all\n")])
def test_a_line_on_stderr_says_what_a_gpus_engine_takes(
    device: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("octorec.cli.inputs.say", lines.append)
    said_of_gpu(device)(0, 1, "memory: all")
    assert "".join(f"{line}\n" for line in lines) == said
