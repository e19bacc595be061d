"""The verbs `analyze` and `prove` know a folder of a language model that recommends."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model

from octorec.parity.theirs import open_model
from tests.cli.test_cli import octorec
from tests.qwen.judged import recif_row, shared_catalog, write_minionerec, write_recif
from tests.qwen.made_models import Made


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_analyze_knows_the_family_and_measures_activations(made: Callable[[str], Made], tmp_path: Path) -> None:
    of = made("minionerec")
    data = write_minionerec(tmp_path / "test.csv", of, 12)
    options = ("--data", data, "--requests", "8", "--out", tmp_path / "out", "--json")
    found = json.loads(octorec("analyze", of.folder, *options).stdout)
    assert found["family"] == "Qwen2"
    measured = {row["name"].rpartition(".")[2] for row in found["activations"]}
    assert {"o_proj", "down_proj"} <= measured
    assert {"attention", "heads of levels", "beam step"} <= {row["name"] for row in found["speed"]["parts"]}
    assert not any("ordinary" in note for note in found["notes"])
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.usefixtures("undrawn")
def test_analyze_takes_a_tokenizer_without_items_for_an_ordinary_model(
    made: Callable[[str], Made], tmp_path: Path
) -> None:
    folder = shutil.copytree(made("openonerec").folder, tmp_path / "plain")
    (folder / "tokenizer.json").unlink()
    found = json.loads(octorec("analyze", folder, "--out", tmp_path / "out", "--json").stdout)
    assert found["family"] == "decoder"
    assert found["notes"][0].startswith("Read as an ordinary language model, without items: ")


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_analyze_asks_for_the_domain_where_a_model_has_several(made: Callable[[str], Made], tmp_path: Path) -> None:
    of = made("onereason")
    data = write_minionerec(tmp_path / "test.csv", of, 12)
    ask = ("analyze", of.folder, "--data", data, "--requests", "4", "--out")
    assert "error: domain: got ''; must be named" in octorec(*ask, tmp_path / "a", expect=2).stderr
    octorec(*ask, tmp_path / "b", "--domain", "video")


@pytest.mark.slow
def test_prove_quantizes_a_language_model_and_judges_it(made: Callable[[str], Made], tmp_path: Path) -> None:
    of = made("minionerec")
    data = write_minionerec(tmp_path / "test.csv", of, 30)
    ask = ("prove", of.folder, "--data", data, "--k", "5", "--margin", "0.1", "--out", tmp_path / "fp8", "--json")
    done = octorec(*ask, expect=None)
    assert done.code in (0, 3, 4)
    found = json.loads(done.stdout)
    assert len(found["layers"]) == 2 * 3  # o, gate and up, down; keys are 24 wide, which no FP8 product takes
    assert {layer["role"] for layer in found["layers"]} == {"attention", "ffn"}
    assert all(layer["worst_row_sqnr_db"] > 24 for layer in found["layers"])
    assert found["comparison"]["targets"] == 30
    assert found["comparison"]["floors"].keys() == {"popularity", "markov"}
    assert 0.5 < found["comparison"]["agreement"]["overlap"] < 1
    assert found["noise"]["overlap"] == 1  # on a CPU a request has the same bits in every batch
    assert "ahead: 30 requests each in 16 bit and in FP8 on cpu; then layers, floors and verdict" in done.stderr
    assert json.loads(octorec("inspect", tmp_path / "fp8", "--json").stdout)["weights"]["parameters"]["F8_E4M3"] > 0


@pytest.mark.slow
def test_prove_asks_for_the_domain_where_a_model_has_several(made: Callable[[str], Made], tmp_path: Path) -> None:
    of = made("onereason")
    data = write_minionerec(tmp_path / "test.csv", of, 12)
    ask = ("prove", of.folder, "--data", data, "--margin", "0.5")
    assert "error: domain: got ''; must be named" in octorec(*ask, expect=2).stderr
    assert "8 of 8 FP8 layers are safe" in octorec(*ask, "--domain", "video", expect=None).stdout


@pytest.mark.slow
def test_prove_takes_a_catalog_that_was_imported_into_the_folder(made: Callable[[str], Made], tmp_path: Path) -> None:
    of = made("openonerec")
    folder = shutil.copytree(of.folder, tmp_path / "model")
    shutil.rmtree(folder / "catalog")
    shared_catalog(of, tmp_path)
    codes = of.codes(next(iter(of.interactions.histories().values()))).tolist()
    rows = [recif_row(row, codes[:3], codes[3:5], [1 + row, 2]) for row in range(12)]
    data = write_recif(tmp_path / "video_test.parquet", [row | _without_answer(row) for row in rows])
    said = octorec("prove", folder, "--data", data, expect=2).stderr
    assert "has no folder 'catalog': name a catalog" in said
    importing = ("catalog", "import", "--index", tmp_path / "sid2pid.json", "--codebook-sizes", "32,32,32")
    octorec(*importing, "--out", folder / "catalog")
    assert "12 rows of 12 users with" in octorec("prove", folder, "--data", data, expect=None).stdout


def _without_answer(row: dict[str, str]) -> dict[str, str]:
    """A row's metadata without semantic IDs: those of its items in the catalog count."""
    about = json.loads(row["metadata"])
    del about["answer"]
    return {"metadata": json.dumps(about)}


def test_requests_with_prompts_are_compared_without_labels(made: Callable[[str], Made], tmp_path: Path) -> None:
    of = made("openonerec")
    shared_catalog(of, tmp_path)
    codes = of.codes(next(iter(of.interactions.histories().values()))).tolist()
    messages = json.loads(recif_row(1, codes[:3], [], [])["messages"])
    lines = [{"messages": messages, "k": 3}, {"history": ["1", "3"], "k": 3}]
    (tmp_path / "requests.jsonl").write_text("\n".join(map(json.dumps, lines)))
    options = ("--requests", tmp_path / "requests.jsonl", "--catalog", tmp_path / "sid2pid.json", "--json")
    found = json.loads(octorec("evaluate", of.folder, of.folder, *options).stdout)
    assert (found["requests"], found["answers"], found["agreement"]["overlap"]) == (2, 6, 1)
    assert "give both" in octorec("evaluate", of.folder, *options, expect=2).stderr


@pytest.mark.slow
def test_an_adapter_that_changes_nothing_is_as_good_as_its_base(made: Callable[[str], Made], tmp_path: Path) -> None:
    of = made("openonerec")
    adapter = get_peft_model(open_model(of.folder), LoraConfig(r=2, target_modules=["q_proj"]))
    adapter.save_pretrained(tmp_path / "adapter")
    shared_catalog(of, tmp_path)
    users = list(of.interactions.histories().values())[:12]
    codes = [of.codes(items).tolist() for items in users]
    rows = [recif_row(user, row[-6:-1], row[-1:], [1]) for user, row in enumerate(codes)]
    data = write_recif(tmp_path / "video_test.parquet", [row | _without_answer(row) for row in rows])
    options = ("--catalog", tmp_path / "sid2pid.json", "--data", data, "--k", "5", "--json")
    alone = json.loads(octorec("evaluate", of.folder, *options).stdout)["metrics"]
    merged = json.loads(octorec("evaluate", tmp_path / "adapter", "--base", of.folder, *options).stdout)["metrics"]
    assert merged["recall@5"] == alone["recall@5"]
    assert merged["nll"]["value"] == pytest.approx(alone["nll"]["value"], abs=1e-4)
