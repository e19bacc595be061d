"""A verb that loads an engine on a GPU says what it takes, and builds it for no wider beams than it asks for."""

import pytest

from octorec.cli.inputs import said_of_gpu, widths_up_to


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(None, (32, 128)), (20, (32, 128)), (128, (32, 128)), (129, (32, 128, 512)), (9000, (32, 128, 512))],
)
def test_beam_widths_are_the_engines_own_up_to_what_is_asked(asked: int | None, expected: tuple[int, ...]) -> None:
    assert widths_up_to(asked) == expected


@pytest.mark.parametrize(("device", "said"), [("cpu", ""), ("cuda", "memory: all\n"), ("cuda:1", "memory: all\n")])
def test_a_line_on_stderr_says_what_a_gpus_engine_takes(
    device: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("octorec.cli.inputs.say", lines.append)
    said_of_gpu(device)(0, 1, "memory: all")
    assert "".join(f"{line}\n" for line in lines) == said
