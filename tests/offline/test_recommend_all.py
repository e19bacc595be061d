"""Every user of a table is answered once, as the engine answers them; what does not fit is refused by file and row."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.cli import app as cli
from octorec.cli.recommend_all import lines
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.offline.answers import METADATA, read_answers
from octorec.offline.config import OfflineConfig
from octorec.offline.manifest import MANIFEST
from octorec.offline.run import Job, recommend_all
from tests.serve.served import N_ITEMS, make_catalog, save_checkpoint

CONFIG = OfflineConfig(k=4, beam_width=16, max_context=12, batch_size=8, block_users=16)
N_USERS = 50


def make_users(n: int = N_USERS, seed: int = 0) -> pa.Table:
    """Users with histories of up to 20 items and a user field; of one of them nothing is known."""
    draw = np.random.default_rng(seed)
    histories = [[f"i{item}" for item in draw.integers(0, N_ITEMS, draw.integers(0, 20))] for _ in range(n)]
    histories[2] = []
    plans = [("free", "paid", None)[number % 3] for number in range(n)]
    return pa.table({"user_id": [f"u{number}" for number in range(n)], "history": histories, "plan": plans})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with counts in its catalog, and a table of users in row groups of seven."""
    made = tmp_path_factory.mktemp("offline")
    save_checkpoint(made / "model", make_catalog(counted=True))
    pyarrow.parquet.write_table(make_users(), made / "users.parquet", row_group_size=7)
    return made


@pytest.fixture(scope="module")
def engine(folder: Path) -> Any:
    return Job(folder / "model", folder / "users.parquet", folder / "x", CONFIG).engine()


@pytest.fixture
def job(folder: Path, tmp_path: Path) -> Job:
    return Job(folder / "model", folder / "users.parquet", tmp_path / "recs", CONFIG)


def requests(users: pa.Table) -> list[Request]:
    return [
        Request(row["history"] or [], k=4, user={"plan": row["plan"]} if row.get("plan") else {})
        for row in users.to_pylist()
    ]


def test_answers_are_the_engines_in_the_order_of_the_table(job: Job, engine: Any) -> None:
    done = recommend_all(job, engine=engine)
    assert (done["users"], done["blocks"], done["answered"]) == (N_USERS, 4, N_USERS)
    found, users = read_answers(job.out), make_users()
    assert found["user_id"].to_pylist() == users["user_id"].to_pylist()
    wanted = engine.recommend(requests(users))
    for row, answer in zip(found.to_pylist(), wanted, strict=True):
        assert (row["item_ids"], row["exact"], row["source"]) == (answer.items, answer.exact, answer.source)
        np.testing.assert_allclose(row["scores"], answer.scores, rtol=1e-6)
    assert {row["source"] for row in found.to_pylist()} == {"model", "popularity"}
    about = json.loads(found.schema.metadata[METADATA])
    assert about["catalog"] == engine.catalog.version
    assert about["checkpoint"].startswith("model-")
    again = recommend_all(job, engine=engine)
    assert (again["before"], again["answered"]) == (N_USERS, 0)


def test_json_lines_and_interactions_give_the_same(job: Job, engine: Any, tmp_path: Path) -> None:
    users = make_users().drop(["plan"]).to_pylist()
    users = [row for row in users if row["history"]]
    lines = "\n".join(json.dumps(row) for row in users)
    (tmp_path / "users.jsonl").write_text(lines)
    met = [(row["user_id"], item, at) for row in users for at, item in enumerate(row["history"])]
    columns = dict(zip(("user_id", "item_id", "timestamp"), map(list, zip(*met, strict=True)), strict=True))
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "log.parquet")
    wanted = [answer.items for answer in engine.recommend([Request(row["history"], k=4) for row in users])]
    for name in ("users.jsonl", "log.parquet"):
        own = replace(job, data=tmp_path / name, out=tmp_path / f"{name}.recs")
        recommend_all(own, engine=engine)
        assert read_answers(own.out)["item_ids"].to_pylist() == wanted


def test_fields_of_interactions_stand_in_a_table_of_their_own(job: Job, engine: Any, tmp_path: Path) -> None:
    log = pa.table({"user_id": ["a", "b", "a"], "item_id": ["i1", "i2", "i3"], "timestamp": [1, 2, 3]})
    pyarrow.parquet.write_table(log, tmp_path / "log.parquet")
    pyarrow.parquet.write_table(pa.table({"user_id": ["b"], "plan": ["paid"]}), tmp_path / "known.parquet")
    own = replace(job, data=tmp_path / "log.parquet", users=tmp_path / "known.parquet")
    recommend_all(own, engine=engine)
    asked = [Request(["i1", "i3"], k=4), Request(["i2"], k=4, user={"plan": "paid"})]
    assert read_answers(own.out)["item_ids"].to_pylist() == [one.items for one in engine.recommend(asked)]
    again = recommend_all(own, engine=engine)
    assert (again["users"], again["before"], again["answered"]) == (2, 2, 0)
    assert "2 users in 1 files" in lines(again)[0]
    pyarrow.parquet.write_table(pa.table({"user_id": ["a"], "plan": ["paid"]}), tmp_path / "known.parquet")
    with pytest.raises(InputError, match="known_users"):
        recommend_all(own, engine=engine)
    with pytest.raises(InputError, match="fields stand in columns"):
        recommend_all(replace(job, users=tmp_path / "known.parquet"), engine=engine)


BAD: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "an id twice": (lambda t: pa.concat_tables([t, t.slice(20, 1)]), "row 51: user_id: got 'u20'; .*row 21"),
    "no id": (lambda t: changed(t, "user_id", 33, None), "row 34: user_id"),
    "an empty id": (lambda t: changed(t, "user_id", 3, ""), "row 4: user_id"),
    "a null item": (lambda t: changed(t, "history", 20, ["i1", None]), "row 21: history: got 'null among"),
    "another plan": (lambda t: changed(t, "plan", 40, "gold"), "row 41: user.plan: got 'gold'"),
    "no lists": (lambda t: t.set_column(1, "history", t["user_id"]), "column history: got 'string'"),
    "two things": (lambda t: t.append_column("text", t["user_id"]), "columns: got .*give one of them"),
    "no history": (lambda t: t.drop(["history"]), "columns: .*history .a list"),
}


def changed(table: pa.Table, name: str, row: int, value: Any) -> pa.Table:
    values = table[name].to_pylist()
    values[row] = value
    at = table.column_names.index(name)
    return table.set_column(at, name, pa.array(values, table.schema.field(name).type))


@pytest.mark.parametrize("what", BAD)
def test_a_row_that_does_not_fit_is_named(what: str, job: Job, engine: Any, tmp_path: Path) -> None:
    spoil, said = BAD[what]
    pyarrow.parquet.write_table(spoil(make_users()), tmp_path / "bad.parquet")
    with pytest.raises(InputError, match=f"bad.parquet: {said}"):
        recommend_all(replace(job, data=tmp_path / "bad.parquet"), engine=engine)


def test_unknown_items_are_counted_or_refused(job: Job, engine: Any, tmp_path: Path) -> None:
    users = changed(make_users(), "history", 30, ["i1", "nowhere", "i2"])
    pyarrow.parquet.write_table(users, tmp_path / "users.parquet")
    own = replace(job, data=tmp_path / "users.parquet")
    assert recommend_all(own, engine=engine)["left_out"] == 1
    strict = replace(own, out=tmp_path / "strict", config=replace(CONFIG, unknown_items="refuse"))
    with pytest.raises(InputError, match=r"users.parquet: row 31: history: got 'nowhere'"):
        recommend_all(strict, engine=engine)


def test_a_run_goes_on_with_the_same_alone(job: Job, engine: Any, folder: Path, tmp_path: Path) -> None:
    recommend_all(job, engine=engine)
    whole = read_answers(job.out)
    (job.out / "part-000001.parquet").unlink()
    for name, value in {"k": 5, "exclude_seen": True, "block_users": 8}.items():
        with pytest.raises(InputError, match=f"^{name}: got .*begun with"):
            recommend_all(replace(job, config=replace(CONFIG, **{name: value})), engine=engine)
    other = tmp_path / "users.parquet"
    pyarrow.parquet.write_table(make_users(seed=1), other)
    with pytest.raises(InputError, match=r"^data: got .*begun with"):
        recommend_all(replace(job, data=other), engine=engine)
    save_checkpoint(tmp_path / "model", make_catalog(counted=True), seed=1)
    with pytest.raises(InputError, match=r"^checkpoint: got .*begun with"):
        recommend_all(replace(job, checkpoint=tmp_path / "model"), engine=engine)
    assert recommend_all(job, engine=engine)["answered"] == 16
    assert read_answers(job.out).equals(whole)


def command(job: Job, *more: str) -> list[str]:
    flags = "--k 4 --beam-width 16 --max-context 12 --batch-size 8 --block-users 16"
    return ["recommend-all", str(job.checkpoint), "--data", str(job.data), "--out", str(job.out), *flags.split(), *more]


def test_the_verb(job: Job, engine: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pyarrow.parquet.write_table(make_users().append_column("plam", make_users()["plan"]), tmp_path / "users.parquet")
    job = replace(job, data=tmp_path / "users.parquet")
    for more, code in (([], 0), ([], 2), (["--resume", "--json"], 0)):
        with pytest.raises(SystemExit) as ended:
            cli.main(command(job, *more))
        assert ended.value.code == code
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1])["before"] == N_USERS
    assert said.err.count("not read: plam") == 2
    assert "choose another name, or go on with --resume" in said.err
    other = replace(job, out=job.out.with_name("other"))
    recommend_all(other, engine=engine)
    assert read_answers(job.out).equals(read_answers(other.out))
    assert sorted(path.name for path in job.out.iterdir())[1:] == [
        MANIFEST,
        *(f"part-{n:06d}.parquet" for n in range(4)),
    ]


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_rows(job: Job, engine: Any, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(make_users(1000), tmp_path / "many.parquet", row_group_size=300)
    own = replace(job, data=tmp_path / "many.parquet")
    line = [sys.executable, "-m", "octorec", *command(own)]
    for how, said in ((signal.SIGINT, "files: go on with --resume"), (signal.SIGKILL, "ahead: ")):
        before = len([*own.out.glob("part-*")])
        with subprocess.Popen([*line, "--resume"], stderr=subprocess.PIPE, text=True) as running:
            deadline = time.monotonic() + 120
            while len([*own.out.glob("part-*")]) < before + 3 and time.monotonic() < deadline:
                time.sleep(0.01)
            os.kill(running.pid, how)
            assert said in running.communicate()[1].splitlines()[-1]
        assert before + 3 <= len([*own.out.glob("part-*")]) < 63
    subprocess.run([*line, "--resume"], check=True, stderr=subprocess.DEVNULL)
    whole = replace(own, out=tmp_path / "whole")
    recommend_all(whole, engine=engine)
    assert read_answers(own.out).equals(read_answers(whole.out))
    assert [path.name for path in own.out.iterdir() if path.name.startswith(".")] == [".octorec.json"]


@pytest.mark.slow
def test_a_cluster_writes_the_same(job: Job, engine: Any, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    from octorec.offline.ray_data import recommend_all as on_ray

    alone = recommend_all(replace(job, out=tmp_path / "alone"), engine=engine)
    pyarrow.parquet.write_table(BAD["another plan"][0](make_users()), tmp_path / "bad.parquet")
    ray.init(log_to_driver=False)
    try:
        done = on_ray(job, actors=2)
        with pytest.raises(InputError, match=r"bad.parquet: row 41: user.plan: got 'gold'"):
            on_ray(replace(job, data=tmp_path / "bad.parquet", out=tmp_path / "bad"), actors=1)
    finally:
        ray.shutdown()
    assert (done["users"], done["answered"], done["exact"]) == (N_USERS, N_USERS, alone["exact"])
    assert read_answers(job.out).equals(read_answers(tmp_path / "alone"))
