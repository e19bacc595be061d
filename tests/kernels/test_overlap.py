"""A kernel that may start while the one before it runs touches no memory before it has waited for that one."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import sm90
import torch
from test_shared_memory import LAUNCHES

from octorec import kernels
from octorec.kernels import overlap
from octorec.kernels.products import CARDS, HOPPER, INTERPRETER

TREES = [ast.parse(file.read_text()) for file in Path(*kernels.__path__).glob("*.py")]
MEMORY = ("LDG", "LD", "STG", "ST", "UTMALDG", "UTMASTG", "ATOMG", "RED")


def launches(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Each `kernel[grid](...)` of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript):
            yield ast.unparse(node.func.value), node


def test_every_kernel_starts_early_where_the_card_can() -> None:
    calls = [each for tree in TREES for each in launches(tree)]
    assert len(calls) > 15
    for name, call in calls:
        assert any(ast.unparse(word).startswith("launch_pdl=overlaps(") for word in call.keywords), name
    assert {card.name for card in CARDS if card.overlaps} == {"Hopper", "Blackwell", "Blackwell RTX"}
    assert not INTERPRETER.overlaps


def test_every_kernel_waits_whatever_it_is_given() -> None:
    for tree in TREES:
        launched = {name for name, _ in launches(tree)}
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name in launched:
                assert "wait_for_inputs()" in map(ast.unparse, node.body), node.name


@pytest.mark.parametrize(
    "name", [name if name == "norm" else pytest.param(name, marks=pytest.mark.slow) for name in LAUNCHES]
)
def test_no_memory_is_touched_before_the_wait(name: str) -> None:
    call, given = LAUNCHES[name]
    for code in sm90.compile_launches(call, *given):
        order = [*code.instructions]  # by first use
        assert {"ACQBULK", "PREEXIT"} <= {*order}, code.name
        if code.uses("USETMAXREG"):  # other warps' code comes first in the text, and starts at a barrier after the wait
            continue
        assert all(order.index("ACQBULK") < order.index(opcode) for opcode in MEMORY if opcode in order), code.name


def test_an_older_card_knows_no_wait() -> None:
    call, given = LAUNCHES["norm"]
    (code,) = sm90.compile_launches(call, *given, capability=89)
    assert not code.uses("ACQBULK")


def test_kernels_over_many_rows_start_when_the_last_one_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "card_of", lambda device: HOPPER)
    assert overlap.overlaps(torch.device("cuda"), overlap.FEW_ROWS - 1)
    assert not overlap.overlaps(torch.device("cuda"), overlap.FEW_ROWS)
