"""docs/context.md is run: a context module with three features, from its file to answers over HTTP."""

import json
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from octorec.catalog.build import build_catalog
from octorec.engine.load import load
from octorec.engine.request import Request
from octorec.models.hf_folder import Checkpoint
from octorec.serve.config import ServeConfig
from octorec.serve.versions import load_engine
from tests.cli.test_cli import octorec
from tests.serve.served import run, served

PAGE = (Path(__file__).parents[2] / "docs" / "context.md").read_text()
MODULE, MAKE, USE = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
LINES = re.sub(r"\\\n\s*", "", re.findall(r"^```bash\n(.*?)^```", PAGE, re.S | re.M)[0]).splitlines()
NAMED = "three_features.py:ThreeFeatures"
WITH = ("--context-module", NAMED)
GIVEN: dict[str, Any] = {"hour": 20, "tags": [3, 8]}
BUCKETS: dict[str, Any] = {"batch_sizes": (1, 8), "beam_widths": (16,), "default_beam_width": 16}


def recipe(*targets: str) -> str:
    return f"name: own\ngroups:\n  - targets: {json.dumps(targets)}\n    weights: channel\n    activations: token\n"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which each line of the page but the server's was run; VERB.txt holds what a verb printed."""
    folder = tmp_path_factory.mktemp("context")
    vectors = np.random.default_rng(0).normal(size=(190, 3)).astype(np.float32)
    items = pa.table({"item_id": [str(number) for number in range(190)], "vector": list(vectors)})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        build_catalog(None, items, (7, 5, 6)).save("runs/catalog")
        Path("three_features.py").write_text(MODULE)
        Path("make_checkpoint.py").write_text(MAKE)
        for line in LINES:
            words = shlex.split(line)
            if words[0] == "python":
                runpy.run_path(words[1])
            elif words[0] == "echo":
                Path(words[-1]).write_text(words[1])
            elif words[0] == "octorec" and words[1] != "serve":
                Path(f"{words[1]}.txt").write_text(octorec(*words[1:], expect=None).stdout)
    return folder


@pytest.fixture(autouse=True)
def here(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)


def test_each_line_of_the_page_does_what_it_says() -> None:
    verbs = [shlex.split(line)[1] for line in LINES if line.startswith("octorec ")]
    assert verbs == ["recommend", "quantize", "analyze", "evaluate", "serve"]
    *items, certified = Path("recommend.txt").read_text().splitlines()
    assert len(items) == 10
    assert certified.startswith(("exact: ", "not exact: "))
    assert "wrote runs/mine-fp8" in Path("quantize.txt").read_text()
    assert Path("runs/numbers/report.html").exists()
    assert "overlap 100" in Path("evaluate.txt").read_text()


def test_the_lines_of_python_answer(capsys: pytest.CaptureFixture[str]) -> None:
    exec(USE, {})
    assert len(json.loads(capsys.readouterr().out.replace("'", '"'))) == 5


def test_each_of_the_three_features_changes_an_answer() -> None:
    engine = load("runs/mine", context_module=NAMED, **BUCKETS)

    def scores(**features: Any) -> list[float]:
        return engine.recommend([Request(["50"], features={**GIVEN, **features})])[0].scores

    first = scores()
    assert first == scores(tags=np.array([3, 8], np.int32), hour=np.int64(20))
    for features in ({"hour": 3}, {"tags": [3]}, {"tags": []}, {"profile": [1] * 16}, {"profile": np.full(16, -1.5)}):
        assert scores(**features) != first, features
    assert scores(tags=[]) == scores(tags=None)


@pytest.mark.parametrize("checkpoint", ["runs/mine", "runs/mine-fp8"])
def test_a_request_with_features_has_the_same_bits_alone_and_in_a_batch(checkpoint: str) -> None:
    engine = load(checkpoint, context_module=NAMED, **BUCKETS)
    rng = np.random.default_rng(0)
    asked = [
        Request(
            [str(item) for item in rng.integers(0, 190, place)],
            features={"hour": place, "tags": list(range(place)), "profile": rng.normal(size=16)},
        )
        for place in range(7)
    ]
    together = engine.recommend(asked)
    assert together == [engine.recommend([request])[0] for request in asked]
    assert together[0].source == "model"  # without a history
    assert len({tuple(answer.scores) for answer in together}) == 7


def test_http_takes_features_and_lists_them() -> None:
    curls = [shlex.split(line) for line in LINES if line.startswith("curl ")]
    bodies = [words[words.index("-d") + 1] for words in curls if "-d" in words]
    engine = load_engine("runs/mine-fp8", None, ServeConfig.of(context_module=NAMED, **BUCKETS))

    async def test() -> None:
        async with served(engine) as (_, client):
            (answer,) = [(await client.post("/v1/recommend", content=body)).json() for body in bodies]
            assert answer["source"] == "model"
            alone = {"history": [], "features": GIVEN}
            listed = (await client.post("/v1/recommend", json=[alone, json.loads(bodies[0]), alone])).json()["answers"]
            assert listed[1]["scores"] == answer["scores"]
            assert listed[0]["scores"] == listed[2]["scores"] != answer["scores"]
            about = (await client.get("/v2/models/octorec")).json()["inputs"]
            assert [(one["name"], one["datatype"], one["shape"], one["required"]) for one in about] == [
                ("profile", "FP32", [16], False),
                ("tags", "INT64", [8], False),
                ("hour", "INT64", [], True),
            ]
            assert about[1]["allowed"] == "must be a list of at most 8 integers from 0 to 99"
            schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
            assert schemas["RecommendRequest"]["properties"]["features"]["type"] == "object"
            for name, value, words in (
                ("hour", None, "is required"),
                ("hour", 24, "0 to 23"),
                ("hour", 2.5, "got 2.5"),
                ("hour", True, "numbers, lists of numbers or null"),
                ("tags", [True], "got True"),
                ("tags", [1] * 9, "got 'shape [9]'"),
                ("tags", [100], "got 100"),
                ("profile", [0.0] * 15, "got 'shape [15]'"),
                ("profile", ["x"] * 16, "got 'x'"),
                ("profile", {"x": 1}, "numbers, lists of numbers or null"),
                ("mood", 1, "known: profile, tags, hour"),
            ):
                body = {"history": ["50"], "features": {**GIVEN, name: value}}
                refused = await client.post("/v1/recommend", json=body)
                error = refused.json()["error"]
                assert (refused.status_code, error["field"]) == (422, f"features.{name}"), error
                assert words in error["message"], error

    run(test())


@pytest.mark.parametrize("flags", [("--context-module", "gone.py:X"), ("--config", "serve.yaml")])
def test_the_server_reads_its_module_s_name_from_the_command_line_or_its_settings(flags: tuple[str, str]) -> None:
    Path("serve.yaml").write_text("context_module: gone.py:X\n")
    said = octorec("serve", "runs/mine", *flags, expect=2).stderr
    assert "context_module" in said
    assert "gone.py" in said


def test_fp8_leaves_the_module_in_16_bit_unless_the_recipe_names_it() -> None:
    for name in (name for name in Checkpoint("runs/mine-fp8").names() if name.startswith("context.")):
        assert Checkpoint("runs/mine-fp8").dtype(name) == "BF16"
    Path("own.yaml").write_text(recipe(r"context\.profile"))
    octorec("quantize", "runs/mine", "--out", "runs/own", "--recipe", "own.yaml", *WITH)
    assert Checkpoint("runs/own").dtype("context.profile.weight") == "F8_E4M3"
    request = Request(["50"], features={**GIVEN, "profile": np.linspace(-9, 9, 16)})
    before, after = (
        load(path, context_module=NAMED, **BUCKETS).recommend([request])[0] for path in ("runs/mine", "runs/own")
    )
    assert after.scores != before.scores
    assert after.scores == pytest.approx(before.scores, abs=0.05)
    Path("table.yaml").write_text(recipe(r"context\.items\.recency_embed"))
    said = octorec("quantize", "runs/mine", "--out", "runs/no", "--recipe", "table.yaml", *WITH, expect=2).stderr
    assert "context.items.recency_embed" in said
    assert "has no FP8 form" in said


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("verb", ["evaluate", "prove", "analyze"])
def test_a_verb_on_interactions_leaves_features_out_and_says_so_or_refuses(verb: str) -> None:
    rows = [f"u{user},{(user + step) % 190},{step}" for user in range(8) for step in range(4)]
    Path("data.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    Path("optional.py").write_text(MODULE.replace("categories=24", "categories=24, blank=12"))
    line = {
        "evaluate": ("evaluate", "runs/mine", "runs/mine-fp8", "--beam-width", 16),
        "prove": ("prove", "runs/mine", "--beam-width", 16),
        "analyze": ("analyze", "runs/mine", "--out", "runs/measured"),
    }[verb]
    said = octorec(*line, "--data", "data.csv", *WITH, expect=2).stderr
    assert "features.hour: got None; every request must give it" in said
    done = octorec(*line, "--data", "data.csv", "--context-module", "optional.py:ThreeFeatures", expect=None)
    assert done.code in (0, 3, 4), done
    assert "note: interactions have no features: profile, tags, hour count as left out" in done.stderr
    if verb == "analyze":
        measured = {row["name"]: row for row in pq.read_table("runs/measured/activations.parquet").to_pylist()}
        assert measured["context.profile"]["role"] == "context"


@pytest.mark.gpu
@pytest.mark.parametrize("checkpoint", ["runs/mine", "runs/mine-fp8"])
def test_a_gpu_s_graph_reads_features(checkpoint: str) -> None:
    engine = load(checkpoint, device="cuda", context_module=NAMED, **{**BUCKETS, "batch_sizes": (8,)})
    asked = [Request(["50", "181"], features={"hour": place, "tags": list(range(place))}) for place in range(8)]
    together = engine.recommend(asked)
    assert together == [engine.recommend([request])[0] for request in asked]
    on_cpu = load(checkpoint, context_module=NAMED, **BUCKETS).recommend(asked)
    for ours, theirs in zip(together, on_cpu, strict=True):
        assert ours.scores == pytest.approx(theirs.scores, abs=0.1)
    assert len({tuple(answer.scores) for answer in together}) == 8
