"""The command line from data to recommendations, on a small walk through items, and its errors."""

import dataclasses
import io
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import typer

from octorec import terminal
from octorec.cli import app as cli
from octorec.cli.inputs import known_users
from octorec.demo import run as demo
from octorec.errors import InputError
from octorec.models.user import UserField, encode_user

N_ITEMS = 30
NARROW = ("--beam-width", "16")
TRAIN = ("train", "--data", "{w}/data.csv", "--catalog", "{w}/catalog")
CONFIG = {
    "d_model": 32, "n_layer": 2, "n_head": 2, "embed_dim": 8, "max_context": 8, "n_dense": 1, "n_expert": 3,
    "n_shared": 1, "top_k": 2, "d_expert": 128, "recency_buckets": 8,
    "user_fields": [
        {"name": "plan", "kind": "category", "values": ["free", "paid"]}, {"name": "age", "kind": "number"},
    ],
}  # fmt: skip


@dataclass
class Done:
    code: int
    stdout: str
    stderr: str


def octorec(*arguments: object, expect: int | None = 0) -> Done:
    """Run the command line in this process, as `octorec ARGUMENTS` would be in a shell."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        patch.setattr(terminal.console, "_file", err)
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 0
    done = Done(code, out.getvalue(), err.getvalue())
    assert expect is None or code == expect, done
    return done


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a catalog, a trained checkpoint and its FP8 form, each made by the command line."""
    folder = tmp_path_factory.mktemp("work")
    rows = [(f"u{u}", f"{(u + t) % N_ITEMS}", t) for u in range(60) for t in range(8)]
    users, items, times = map(list, zip(*rows, strict=True))
    pyarrow.csv.write_csv(pa.table({"user_id": users, "item_id": items, "timestamp": times}), folder / "data.csv")
    sets = [["even"] if n % 2 == 0 else ["odd"] for n in range(N_ITEMS)]
    titles = [f"Film {n}" for n in range(N_ITEMS)]
    ids = [str(n) for n in range(N_ITEMS)]
    pyarrow.parquet.write_table(pa.table({"item_id": ids, "title": titles, "sets": sets}), folder / "items.parquet")
    known = pa.table({"user_id": [f"u{n}" for n in range(60)], "plan": ["free", "paid"] * 30, "age": [30.0] * 60})
    pyarrow.parquet.write_table(known, folder / "users.parquet")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    data, catalog = folder / "data.csv", folder / "catalog"
    octorec("catalog", "build", "--data", data, "--items", folder / "items.parquet", "--codebook-sizes", "6,5,4",
            "--out", catalog, "--json")  # fmt: skip
    octorec("train", "--data", data, "--catalog", catalog, "--config", folder / "config.json", "--out", folder / "bf16",
            "--users", folder / "users.parquet", "--steps", "40", "--batch-size", "64", "--warmup", "5",
            "--save-every", "15")  # fmt: skip
    octorec("quantize", folder / "bf16", "--out", folder / "fp8")
    return folder


def test_train_shows_loss_recall_and_load(work: Path) -> None:
    about = json.loads((work / "bf16" / "training.json").read_text())
    last = about["records"][-1]
    assert last["step"] == 40
    assert 0 < last["recall@10"] <= 1
    assert len(last["expert_load"]) == 1
    assert not (work / "bf16.training").exists()


@pytest.mark.parametrize("kind", ["bf16", "fp8"])
def test_recommend(work: Path, kind: str) -> None:
    arguments = ("recommend", work / kind, "--history", "3,4,5", "--k", "4", "--exclude", "6", "--allow", "even",
                 "--user", "plan=paid", "--user", "age=31")  # fmt: skip
    answer = json.loads(octorec(*arguments, "--json").stdout)
    assert len(answer["items"]) == 4
    assert "6" not in answer["items"]
    assert all(int(item) % 2 == 0 for item in answer["items"])
    assert answer["titles"] == [f"Film {item}" for item in answer["items"]]
    text = octorec(*arguments).stdout
    assert answer["titles"][0] in text


def test_recommend_says_why_a_list_is_short(work: Path) -> None:
    arguments = ("recommend", work / "fp8", "--history", "3", "--k", "2", "--beam-width", "2", "--exclude", "0,2,4,6")
    for allow in ("even", "odd"):
        answer = json.loads(octorec(*arguments, "--allow", allow, "--json").stdout)
        may = sum(n % 2 == (allow == "odd") for n in range(N_ITEMS)) - 4 * (allow == "even")
        text = octorec(*arguments, "--allow", allow).stdout
        if not answer["complete"]:
            assert (
                f"note: found {len(answer['items'])} of k = 2 items with a beam 2 wide; the request may have {may}"
                in text
            )
        assert "only" not in text
    every = octorec("recommend", work / "fp8", "--history", "3", "--k", "100", "--beam-width", "100").stdout
    assert f"note: found {N_ITEMS} of k = 100 items with a beam 100 wide; the request may have {N_ITEMS}\n" in every


def test_recommend_without_a_history_says_what_is_popular(work: Path) -> None:
    for arguments in ((), ("--history", "")):
        done = octorec("recommend", work / "fp8", "--k", "3", *arguments)
        assert "note: history is empty: answered by popularity" in done.stdout
    answer = json.loads(octorec("recommend", work / "fp8", "--k", "3", "--exclude", "0,1", "--json").stdout)
    assert (answer["source"], len(answer["items"])) == ("popularity", 3)
    assert not {"0", "1"} & set(answer["items"])


@pytest.mark.slow
def test_recommend_and_evaluate_leave_seen_items_out_where_asked(work: Path) -> None:
    seen = [str(item) for item in range(N_ITEMS - 4)]
    arguments = ("recommend", work / "fp8", "--history", ",".join(seen), "--k", "9", "--json")
    with_seen, without = (json.loads(octorec(*arguments, *flag).stdout) for flag in ((), ("--exclude-seen",)))
    assert set(seen) & set(with_seen["items"])
    assert sorted(without["items"]) == sorted(str(item) for item in range(N_ITEMS - 4, N_ITEMS))
    judged = ("evaluate", work / "bf16", work / "fp8", "--data", work / "data.csv", "--k", "5", *NARROW, "--json")
    for flag in ("--exclude-seen", "--no-exclude-seen"):
        result = json.loads(octorec(*judged, flag, expect=None).stdout)
        assert result["exclude_seen"] is (flag == "--exclude-seen")


@pytest.mark.slow
def test_evaluate_goes_on_without_items_that_the_catalog_lacks(work: Path, tmp_path: Path) -> None:
    text = (work / "data.csv").read_text().rstrip()
    (tmp_path / "data.csv").write_text(f"{text}\nu7,new,8\nu7,5,9\n")
    arguments = ("evaluate", work / "bf16", work / "fp8", "--data", tmp_path / "data.csv", "--last", "2", *NARROW)
    done = octorec(*arguments, "--json", expect=None)
    assert done.code in (0, 3, 4), done
    result = json.loads(done.stdout)
    assert result["targets_not_in_catalog"] == {"baseline": 1, "candidate": 1}
    assert result["unknown_items"]["baseline"]["first"] == [{"user": "u7", "item": "new"}]
    shown = octorec(*arguments, expect=None).stdout
    assert "Items not in the catalog, left out: 1 of 1 users, such as 'new' of u7" in shown
    refused = octorec(*arguments, "--unknown-items", "refuse", expect=2)
    assert "history of u7: got 'new'; is no item of the catalog" in refused.stderr


def test_evaluate(work: Path) -> None:
    judged = ("--data", work / "data.csv", *NARROW, "--json")
    arguments = ("evaluate", work / "bf16", work / "fp8", "--last", "2", "--margin", "0.9")
    done = octorec(*arguments, *judged, expect=None)
    result = json.loads(done.stdout)
    assert result["targets"] == 120
    assert done.code == result["verdict"]["exit_code"]
    same = octorec("evaluate", work / "bf16", work / "bf16", "--margin", "0.5", *judged)
    assert json.loads(same.stdout)["agreement"]["identical"] == 1.0


def test_shadow(work: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"history": [str(n), n + 1], "k": 5, "user": {"plan": "free"}}) for n in range(10)]
    (tmp_path / "requests.jsonl").write_text("\n".join(lines))
    done = octorec("evaluate", work / "bf16", work / "fp8", "--requests", tmp_path / "requests.jsonl", "--json")
    assert json.loads(done.stdout)["requests"] == 10
    (tmp_path / "bad.jsonl").write_text('{"history": ["1"], "kk": 5}')
    failed = octorec("evaluate", work / "bf16", work / "fp8", "--requests", tmp_path / "bad.jsonl", expect=2)
    assert "line 1" in failed.stderr
    assert "any of k, beam_width" in failed.stderr


@pytest.mark.usefixtures("undrawn")
def test_analyze(work: Path, tmp_path: Path) -> None:
    done = octorec("analyze", work / "bf16", "--out", tmp_path / "analysis", "--all")
    assert "blocks.1.ffn.shared_experts.0.down_proj.weight" in done.stdout  # names are never shortened
    assert (tmp_path / "analysis" / "report.html").exists()
    real = ("--data", work / "data.csv", "--users", work / "users.parquet", "--requests", "20")
    measured = octorec("analyze", work / "bf16", "--out", tmp_path / "activations", *real, "--json")
    rows = {row["rows"] for row in json.loads(measured.stdout)["activations"]}
    assert rows == {20 * 7, 20 * 3, 20 * 3 * 3}  # context items, target positions, and what their three experts see
    assert (tmp_path / "activations" / "activations.parquet").exists()
    assert json.loads(octorec("analyze", work / "fp8", "--out", tmp_path / "fp8", "--json").stdout)


def test_users_of_a_csv_are_read_as_the_fields_of_the_model(tmp_path: Path) -> None:
    fields = (UserField("zip", "category", ("01234", "94301")), UserField("age", "number"))
    (tmp_path / "users.csv").write_text("user_id,zip,age\nu0,01234,07\nu1,94301,NA\n")
    known = known_users(tmp_path / "users.csv", fields, ["u1", "u7"])
    assert [encode_user(fields, known[user]) for user in ("u0", "u1")] == [[1.0, 7.0], [2.0, 0.0]]
    assert known_users(None, fields, []) == {}
    with pytest.raises(InputError, match="got \"users such as 'u0'\"; has no user of the interactions"):
        known_users(tmp_path / "users.csv", fields, ["0", "1"])


def test_every_verb_that_reads_tables_has_flags_for_them() -> None:
    def flags(command: Any) -> Iterator[set[str]]:
        for inner in getattr(command, "commands", {}).values():
            yield from flags(inner)
        yield {name for parameter in command.params for name in parameter.opts}

    for known in flags(typer.main.get_command(cli.app)):
        if {"--data", "--items", "--users", "--kind"} & known:
            assert {"--sep", "--columns"} <= known
        if {"--data", "--kind"} & known:
            assert "--time-format" in known


def test_interactions_items_and_users_may_be_written_in_other_ways(work: Path, tmp_path: Path) -> None:
    flags = _other_ways(work, tmp_path)
    items = ("--items", work / "items.parquet", "--codebook-sizes", "6,5,4")
    octorec("catalog", "build", *flags, *items, "--out", tmp_path / "catalog")
    assert (tmp_path / "catalog/catalog.json").read_text() == (work / "catalog/catalog.json").read_text()
    octorec("catalog", "build", *flags, *items, "--columns", "user=0", "--out", tmp_path / "other", expect=2)


def _other_ways(work: Path, folder: Path) -> tuple[object, ...]:
    """Flags for the data of `work`, written in another way into `folder`."""
    rows = (work / "data.csv").read_text().replace('"', "").splitlines()[1:]
    (folder / "log.dat").write_text("".join(f"{row.replace(',', '::')}::5\n" for row in rows))
    return "--data", folder / "log.dat", "--sep", "::", "--columns", "user_id=0,item_id=1,timestamp=2"


@pytest.mark.slow
def test_every_verb_reads_tables_written_in_other_ways(work: Path, tmp_path: Path) -> None:
    flags = _other_ways(work, tmp_path)
    known = pyarrow.parquet.read_table(work / "users.parquet").to_pylist()
    (tmp_path / "users.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in known))
    users = ("--users", tmp_path / "users.jsonl")
    plain = ("--data", work / "data.csv", "--users", work / "users.parquet")
    pair = ("evaluate", work / "bf16", work / "fp8", "--k", "5", "--json")
    assert octorec(*pair, *flags, *users, expect=None).stdout == octorec(*pair, *plain, expect=None).stdout
    octorec("train", *flags, *users, "--catalog", work / "catalog", "--config", work / "config.json",
            "--out", tmp_path / "model", "--steps", "1", "--warmup", "1")  # fmt: skip
    done = octorec("prove", tmp_path / "model", *flags, *users, "--k", "5", "--json", expect=None)
    assert json.loads(done.stdout)["comparison"]
    octorec("analyze", work / "bf16", "--out", tmp_path / "stats", *flags, *users, "--requests", "5")


def test_verbs_say_what_is_remarkable_of_a_table(work: Path, tmp_path: Path) -> None:
    rows = (work / "data.csv").read_text().splitlines()
    (tmp_path / "log.csv").write_text("\n".join([f"{rows[0]},rating", *(f"{row},1" for row in [*rows[1:], rows[1]])]))
    done = octorec("catalog", "build", "--data", tmp_path / "log.csv", "--codebook-sizes", "6,5,4", "--out",
                   tmp_path / "catalog")  # fmt: skip
    assert "rows that repeat an earlier one (user, item and time): 1; each counts" in done.stderr
    assert "column rating is not read: each row counts alike, whatever its rating" in done.stderr


def test_a_table_is_checked(work: Path, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("userId;movie title;time\nu1;a;05.01.2024\nu1;b;06.01.2024\n")
    flags = ("--columns", "user_id=userId,item_id=movie title,timestamp=time", "--time-format", "%d.%m.%Y")
    done = octorec("data", "check", tmp_path / "log.csv", *flags)
    shown = done.stdout.splitlines()
    assert "time                 from 2024-01-05 to 2024-01-06" in shown
    assert all(len(line) <= 80 for line in shown if not line.startswith("next: "))
    following = f"octorec catalog build --data {tmp_path / 'log.csv'}"
    following += " --columns 'user_id=userId,item_id=movie title,timestamp=time' --time-format %d.%m.%Y"
    following += " --codebook-sizes 2,2,2 --out catalog"
    assert shown[-1] == f"next: {following}"
    found = json.loads(octorec("data", "check", tmp_path / "log.csv", *flags, "--json").stdout)
    assert (found["facts"]["rows"], found["next"]) == (2, following)
    checked = json.loads(octorec("data", "check", work / "data.csv", "--json").stdout)
    octorec(*shlex.split(checked["next"])[1:-1], tmp_path / "catalog")  # what is to be typed next runs
    done = octorec("data", "check", tmp_path / "log.csv", expect=2)
    assert "did you mean --columns user_id=userId,item_id=NAME,timestamp=time" in done.stderr
    assert json.loads(octorec("data", "check", work / "items.parquet", "--json").stdout)["kind"] == "items"
    assert json.loads(octorec("data", "check", work / "users.parquet", "--json").stdout)["kind"] == "users"


def test_items_of_a_catalog_are_shown(work: Path) -> None:
    shown = octorec("catalog", "show", work / "catalog", "7", "Film 12").stdout.splitlines()
    assert shown[0] == "item 7: Film 7"
    assert "item 12: Film 12" in shown
    about = json.loads(octorec("catalog", "show", work / "bf16", "7", "--neighbours", "3", "--json").stdout)["items"][0]
    assert (about["item_id"], about["sets"], len(about["codes"])) == ("7", ["odd"], 3)
    assert len(about["neighbours"]) <= 3
    done = octorec("catalog", "show", work / "catalog", "77", expect=2)
    assert "item: got '77'; no such id or title among 30 items; most like it: '7'" in done.stderr
    octorec("catalog", "show", work / "catalog", "7", "--neighbours", "-1", expect=2)


def test_catalog_assign_and_import(work: Path, tmp_path: Path) -> None:
    new = pa.table({"item_id": ["n1", "n2"], "title": ["New", "Newer"], "sets": [["even"], ["odd"]]})
    pyarrow.parquet.write_table(new, tmp_path / "new.parquet")
    octorec("catalog", "assign", "--catalog", work / "catalog", "--items", tmp_path / "new.parquet", "--out",
            tmp_path / "larger")  # fmt: skip
    arguments = (
        "recommend",
        work / "fp8",
        "--catalog",
        tmp_path / "larger",
        "--history",
        "n1,3",
        "--user",
        "plan=free",
    )
    assert octorec(*arguments, "--k", "3").stdout
    (tmp_path / "x.index.json").write_text(json.dumps({"0": ["<a_1>", "<b_2>"], "1": ["<a_0>", "<b_2>"]}))
    done = octorec("catalog", "import", "--index", tmp_path / "x.index.json", "--out", tmp_path / "imported", "--json")
    assert json.loads(done.stdout)["items"] == 2
    (tmp_path / "y.index.json").write_text(json.dumps({"1": ["<a_0>", "<b_2>"], "2": ["<a_1>", "<b_0>"]}))
    done = octorec("catalog", "import", "--index", tmp_path / "y.index.json", "--base", tmp_path / "imported", "--out",
                   tmp_path / "next", "--json")  # fmt: skip
    made, before = json.loads(done.stdout), json.loads((tmp_path / "imported" / "catalog.json").read_text())
    assert (made["fingerprint"], made["codebook_sizes"]) == (before["fingerprint"], [2, 3])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("recommend", "{w}/fp8", "--history", "3,99"), "history: got '99'; is no item of the catalog"),
        (
            ("recommend", "{w}/fp8", "--history", "3 4"),
            "history: got '3 4'; is no item of the catalog: ids are written with",
        ),
        (
            ("recommend", "{w}/fp8", "--history", "['3']"),
            "history: got \"['3']\"; is no list in JSON: ids are written with",
        ),
        (("recommend", "{w}/fp8", "--history", "3", "--k", "0"), "k: got 0; must be an integer above 0"),
        (
            ("recommend", "{w}/fp8", "--history", "3", "--k", "9", "--beam-width", "8"),
            "k: got 9; at most beam_width = 8",
        ),
        (("recommend", "{w}/fp8", "--history", "3", "--user", "plan"), "user: got 'plan'; must be name=value"),
        (("recommend", "{w}/fp8", "--history", "3", "--user", "age=x"), "user.age: got 'x'; must be a number"),
        (("recommend", "{w}/nothing", "--history", "3"), "nothing'; there is no such file or folder"),
        (("quantize", "{w}/bf16", "--out", "{w}/fp8"), "it exists already: choose another name, or --force"),
        (("quantize", "{w}/bf16", "--out", "{w}/x", "--recipe", "fp9"), "fp8-block"),
        (("quantize", "{w}/fp8", "--out", "{w}/x"), "quantized"),
        (("evaluate", "{w}/bf16", "{w}/fp8"), "give either --data (with labels) or --requests (without)"),
        (("catalog", "build", "--out", "{w}/x"), "give --data, --items or both"),
        (
            ("catalog", "build", "--data", "{w}/data.csv", "--codebook-sizes", "a", "--out", "{w}/x"),
            "codebook_sizes: got",
        ),
        (
            ("train", "--data", "{w}/data.csv", "--catalog", "{w}/catalog", "--preset", "9b", "--out", "{w}/x"),
            "allowed: 0.1b",
        ),
        (("train", "--data", "{w}/data.csv", "--catalog", "{w}/catalog", "--out", "{w}/bf16"), "it exists already"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(work: Path, arguments: tuple[str, ...], said: str) -> None:
    before = sorted(path.name for path in work.iterdir())
    done = octorec(*(argument.replace("{w}", str(work)) for argument in arguments), expect=2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(path.name for path in work.iterdir()) == before


def test_the_command_itself() -> None:
    """It runs as in a shell: exit codes and streams are the process's own."""
    command = [sys.executable, "-m", "octorec", "recommend", "/nowhere", "--history", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""


def test_demo_trains_with_its_seed_and_is_else_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(demo, "run_demo", lambda *arguments: seen.append(arguments) or {})
    octorec("demo")
    octorec("demo", "--seed", 3, "--out", "elsewhere", "--force")
    assert seen == [
        (Path("runs/demo"), Path(".cache"), [], False, demo.TRAINING),
        (Path("elsewhere"), Path(".cache"), [], True, dataclasses.replace(demo.TRAINING, seed=3)),
    ]
