"""The rooms import one way only, as docs/architecture.md says, and heavy packages wait until they are needed."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src/octorec"
# every room may import them
LEAVES = {"errors", "files", "formats", "output", "progress", "reading", "settings", "threads", "__init__"}
MAY_IMPORT = {
    "output": set(),
    "data": set(),
    "catalog": {"data"},
    "kernels": set(),
    "models": {"kernels"},
    "quant": {"kernels", "models"},
    "numerics": {"kernels", "models", "quant"},
    "engine": {"kernels", "models", "quant", "catalog"},
    "evaluate": {"engine", "catalog", "data"},
    "parity": {"kernels", "models", "quant", "catalog", "engine"},
    "training": {"kernels", "models", "catalog", "data", "evaluate"},
    "serve": {"engine", "catalog", "evaluate"},
    "offline": {"kernels", "models", "quant", "catalog", "data", "engine"},
    "bench": {"engine", "serve"},
    "client": set(),
    "doctor": {"engine", "kernels", "models"},
    "prove": {"data", "kernels", "quant", "numerics", "engine", "evaluate"},
    "report": {"catalog", "data", "kernels", "models", "quant", "numerics", "engine", "evaluate", "parity", "prove"},
}
VERBS = {"demo", "cli"}  # use many rooms, and what people see: progress_bar, terminal, extras


def rooms() -> list[str]:
    return sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__")


def imported_rooms(path: Path) -> set[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]
    parts = [name.split(".") for name in names]
    return {p[1] for p in parts if p[0] == "octorec" and len(p) > 1}


@pytest.mark.parametrize("room", sorted(set(rooms()) - VERBS))
def test_imports_run_one_way(room: str) -> None:
    assert room in MAY_IMPORT, f"{room} is a new room: say in docs/architecture.md what it may import"
    for path in (PACKAGE / room).rglob("*.py"):
        foreign = imported_rooms(path) - MAY_IMPORT[room] - LEAVES - {room}
        assert not foreign, f"{path.relative_to(PACKAGE)} imports {', '.join(sorted(foreign))}"


def knows_onerec(path: Path) -> bool:
    """Whether a file imports OneRec-V2's own modules, or branches on a family by its name."""
    tree = ast.parse(path.read_text())
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return "octorec.models.onerec" in path.read_text() or bool(texts & {"onerec_v2", "OneRec-V2"})


def test_only_its_own_files_know_onerec() -> None:
    """The family's own files, its presets, its trainer, and the table of families."""
    found = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if knows_onerec(path)}
    own = {str(path.relative_to(PACKAGE)) for path in (PACKAGE / "models").glob("onerec*.py")}
    may = own | {"models/presets.py", "models/families.py"}
    assert {name for name in found - may if not name.startswith("training/")} == set()
    assert found >= may


def test_serving_imports_the_online_verdict_and_the_shadow_of_live_traffic_alone_of_their_room() -> None:
    may = tuple(f"from octorec.evaluate{what}" for what in (".online.", ".online ", ".live "))
    for path in (PACKAGE / "serve").rglob("*.py"):
        for line in path.read_text().splitlines():
            if line.lstrip().startswith(("from octorec.evaluate", "import octorec.evaluate")):
                assert line.lstrip().startswith(may), f"{path}: {line}"


def test_leaves_import_no_room() -> None:
    for leaf in ("errors", "files", "formats", "progress", "reading", "settings", "threads"):
        assert imported_rooms(PACKAGE / f"{leaf}.py") <= LEAVES


@pytest.mark.slow
def test_triton_waits_until_a_kernel_is_launched() -> None:
    code = "import sys, octorec.engine.load, octorec.cli.app, octorec.training.trainer; print('triton' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_the_package_itself_imports_in_a_moment() -> None:
    code = "import sys, octorec; print('torch' in sys.modules, octorec.__version__)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split()[0] == "False"


def test_no_two_files_of_tests_have_one_name() -> None:
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, times in names.items() if times > 1] == []  # pytest could not collect them together


def inner_names(tree: ast.AST) -> set[str]:
    """Names with one underscore in front that a file defines: functions, methods, classes, variables, attributes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def borrowed(path: Path, inner: set[str]) -> list[str]:
    """The package's inner names that a file imports, or reads as an attribute."""
    tree = ast.parse(path.read_text())
    used = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            used += [alias.name for alias in node.names]
    others = inner - inner_names(tree)
    return [name for name in used if name in others]


def test_what_measures_uses_public_names_of_the_package() -> None:
    inner = set().union(*(inner_names(ast.parse(path.read_text())) for path in PACKAGE.rglob("*.py")))
    assert "_graphs" in inner
    for room in ("benchmarks", "studies"):
        for path in (PACKAGE.parent.parent / room).rglob("*.py"):
            assert borrowed(path, inner) == [], path


def test_no_file_of_the_package_is_long() -> None:
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: n for name, n in lines.items() if n > 400} == {}
