"""The verb `octorec evaluate` on folders of language models: rows as benchmarks have them, by item and by SID."""

import json
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.engine.load import load
from octorec.engine.request import Request
from tests.cli.test_cli import octorec
from tests.qwen.judged import recif_row, shared_catalog, write_minionerec, write_recif
from tests.qwen.made_models import Made

K, WIDTH, ROWS = 4, 32, 24


@pytest.fixture(scope="module")
def rows(made: Callable[[str], Made], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sid2pid.json and video_test.parquet, whose row 0 has no answers and row 1 a pid that is none."""
    folder, of = tmp_path_factory.mktemp("recif"), made("openonerec")
    catalog = shared_catalog(of, folder)
    out = []
    for row, items in enumerate(list(of.interactions.histories().values())[:ROWS]):
        codes = of.codes(items).tolist()
        wanted = [] if row == 0 else list(dict.fromkeys(map(tuple, codes[-3:])))
        pids = [_second_pid(catalog, one) for one in wanted]
        out.append(recif_row(row // 2, codes[-9:-3], wanted, [*pids, 0] if row == 1 else pids))
    write_recif(folder / "video_test.parquet", out)
    return folder


def _second_pid(catalog: object, codes: object) -> int:
    """The rarer item of a semantic ID."""
    found = [place for place, row in enumerate(catalog.codes.tolist()) if tuple(row) == tuple(codes)]  # type: ignore[attr-defined]
    return int(catalog.item_ids[found[-1]])  # type: ignore[attr-defined]


def test_metrics_of_recif_rows_are_those_computed_by_hand(made: Callable[[str], Made], rows: Path) -> None:
    folder, data = made("openonerec").folder, rows / "video_test.parquet"
    options = ("--catalog", rows / "sid2pid.json", "--data", data, "--k", f"1,{K}", "--beam-width", WIDTH)
    found = json.loads(octorec("evaluate", folder, *options, "--json").stdout)["metrics"]
    engine = load(folder, rows / "sid2pid.json", batch_sizes=(1,), beam_widths=(WIDTH,), default_beam_width=WIDTH)
    sums = dict.fromkeys(["recall", "pass", "ndcg", "sid_recall", "sid_pass", "sid_ndcg"], 0.0)
    for raw in pyarrow.parquet.read_table(data).to_pylist():
        about = json.loads(raw["metadata"])
        (answer,) = engine.recommend([Request(messages=json.loads(raw["messages"]), k=WIDTH)])
        lists = {"": answer.items, "sid_": list(dict.fromkeys(answer.codes))}
        pids = [str(pid) for pid in about["answer_pid"] if pid]
        codes = [engine.catalog.codes[engine.catalog.index[pid]].tolist() for pid in pids]
        wanted: dict[str, set[object]] = {"": {*pids}, "sid_": {*map(tuple, codes)}}
        for side, names in lists.items():
            hits = [name in wanted[side] for name in names[:K]]
            if not wanted[side]:
                continue
            sums[f"{side}recall"] += sum(hits) / len(wanted[side])
            sums[f"{side}pass"] += any(hits)
            ideal = sum(1 / math.log2(at + 2) for at in range(min(K, len(wanted[side]))))
            sums[f"{side}ndcg"] += sum(hit / math.log2(at + 2) for at, hit in enumerate(hits)) / ideal
    assert sums["sid_recall"] > sums["recall"] > 0
    assert {name: found[f"{name}@{K}"]["value"] for name in sums} == pytest.approx(
        {name: total / ROWS for name, total in sums.items()}
    )


def test_a_person_reads_metrics_by_item_and_by_sid_side_by_side(made: Callable[[str], Made], rows: Path) -> None:
    options = ("--catalog", rows / "sid2pid.json", "--data", rows / "video_test.parquet", "--k", K)
    done = octorec("evaluate", made("openonerec").folder, *options)
    lines = [re.sub(r" +[0-9.]+ +[0-9.]+ \.\. [0-9.]+ *$", "", line).strip() for line in done.stdout.splitlines()]
    assert lines.index(f"recall@{K} by SID") == lines.index(f"recall@{K}") + 1
    assert {f"pass@{K}", f"ndcg@{K} by SID"} <= {*lines}
    assert "pass@k, also HR@k, whether one is" in done.stdout
    assert "by SID: of the k best semantic IDs, whichever items share them" in done.stdout
    assert f"{ROWS} rows of {ROWS // 2} users with" in done.stdout
    assert "Rows with targets that are all not in the catalog, counted as misses: 1" in done.stdout
    assert "stand" not in done.stdout  # of histories that nobody knows
    assert "these rows have no histories of items for floors to learn from" in done.stderr
    assert "whether the checkpoint learned from these rows of RecIF cannot be told" in done.stderr


def test_two_folders_get_a_verdict_on_rows_with_several_targets(made: Callable[[str], Made], rows: Path) -> None:
    folder, options = made("openonerec").folder, ("--catalog", rows / "sid2pid.json", "--k", K, "--margin", "0.9")
    done = octorec("evaluate", folder, folder, *options, "--data", rows / "video_test.parquet", "--json", expect=None)
    found = json.loads(done.stdout)
    assert found["verdict"]["metrics"] == [f"recall@{K}", f"ndcg@{K}"]
    assert found["relative_difference"][f"sid_recall@{K}"]["value"] == 0
    assert found["answers"] > found["targets"] == ROWS
    assert found["targets_in_history"] is None


def test_users_are_limited_by_their_hash(made: Callable[[str], Made], rows: Path) -> None:
    options = ("--catalog", rows / "sid2pid.json", "--data", rows / "video_test.parquet", "--limit", 5)
    found = json.loads(octorec("evaluate", made("openonerec").folder, *options, "--json").stdout)
    assert (found["users"], found["targets"], found["sample"]["of"]) == (5, 10, ROWS // 2)


def test_a_catalog_of_another_domain_is_refused(made: Callable[[str], Made], rows: Path, tmp_path: Path) -> None:
    raw = json.loads((rows / "sid2pid.json").read_text())
    moved = dict(zip(raw, reversed(raw.values()), strict=True))
    (tmp_path / "sid2iid.json").write_text(json.dumps(moved))
    options = ("--catalog", tmp_path / "sid2iid.json", "--data", rows / "video_test.parquet")
    said = octorec("evaluate", made("openonerec").folder, *options, expect=2).stderr
    assert "rows differ: the catalog is of another run or domain" in said


@pytest.mark.slow
def test_minionerec_rows_have_histories_and_floors(made: Callable[[str], Made], tmp_path: Path) -> None:
    of = made("minionerec")
    data = write_minionerec(tmp_path / "test.csv", of, 30)
    done = octorec("evaluate", of.folder, "--data", data, "--k", "3,5", "--beam-width", WIDTH)
    assert "30 targets of 30 users" in done.stdout
    assert "recall@5 by SID" in done.stdout
    assert "With one target a row, recall@k is also pass@k and HR@k" in done.stdout
    assert "The checkpoint beats popularity" in done.stdout
    assert "Markov chain" in done.stdout
    assert "floors learn from the shortest history of each user in the file" in done.stderr
    table = tmp_path / "data.parquet"
    _as_interactions(of, 30, table)
    one, other = (
        json.loads(octorec("evaluate", of.folder, "--data", path, "--k", "5", "--json").stdout)["metrics"]
        for path in (data, table)
    )
    assert one["recall@5"] == other["recall@5"]
    assert one["nll"] == other["nll"]


def _as_interactions(of: Made, users: int, path: Path) -> None:
    rows = [(user, *at) for user, items in list(of.interactions.histories().items())[:users] for at in enumerate(items)]
    users_, times, items_ = map(list, zip(*rows, strict=True))
    pyarrow.parquet.write_table(pa.table({"user_id": users_, "item_id": items_, "timestamp": times}), path)


@pytest.mark.slow
def test_a_domain_is_named_where_a_model_has_several(made: Callable[[str], Made], tmp_path: Path) -> None:
    of = made("onereason")
    _as_interactions(of, 12, tmp_path / "data.parquet")
    ask = ("evaluate", of.folder, "--data", tmp_path / "data.parquet", "--k", "3")
    assert "error: domain: got ''; must be named" in octorec(*ask, expect=2).stderr
    found = json.loads(octorec(*ask, "--domain", "video", "--json").stdout)
    assert found["metrics"]["recall@3"]["value"] > 0


@pytest.mark.slow
def test_the_commands_of_the_page_run(
    made: Callable[[str], Made], rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "qwen.md").read_text()
    commands = re.findall(r"^octorec (evaluate .*)$", page[page.index("## Judge it") :], re.M)
    mini = made("minionerec")
    monkeypatch.chdir(tmp_path)
    for name in ("Industrial_ckpt", "FOLDER", "OTHER"):
        Path(name).symlink_to(mini.folder)
    Path("OneRec-1.7B").symlink_to(made("openonerec").folder)
    for name, file in {"sid2pid": "sid2pid", "sid2iid": "sid2pid"}.items():
        Path(f"{name}.json").symlink_to(rows / f"{file}.json")
    for task in ("video", "product"):
        Path(f"{task}_test.parquet").symlink_to(rows / "video_test.parquet")
    codes = zip(mini.catalog.item_ids, mini.catalog.codes.tolist(), strict=True)
    tokens = {item: [f"<{'abc'[level]}_{code}>" for level, code in enumerate(row)] for item, row in codes}
    Path("Industrial_and_Scientific.index.json").write_text(json.dumps(tokens))
    write_minionerec(Path("test.csv"), mini, 12)
    _as_interactions(mini, 12, Path("interactions.parquet"))
    assert len(commands) == 4
    for line in commands:
        arguments = shlex.split(line.replace("--device cuda", ""), comments=True)
        done = octorec(*arguments, expect=4 if "OTHER" in arguments else 0)
        assert "recall@" in done.stdout
