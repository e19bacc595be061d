"""Rows of RecIF and of MiniOneRec are read as they lie; what is none is refused with its file, row and field."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.data.answer_sids import answer_sids
from octorec.data.benchmark import first_histories, read_benchmark
from octorec.data.splits import Example
from octorec.data.table_format import TableFormat
from octorec.errors import InputError

ONE, TWO = "<|sid_begin|><s_a_1><s_b_2><s_c_3><|sid_end|>", "<|sid_begin|><s_a_4><s_b_5><s_c_6><|sid_end|>"
USER = {"role": "user", "content": [{"type": "text", "text": "watched: "}, {"type": "text", "text": ONE}]}
SYSTEM = {"role": "system", "content": "you recommend"}
ABOUT = {"answer": ONE + TWO, "uid": 7, "uuid": "x", "answer_pid": [11, 0, 12, 11]}
CSV = {
    "user_id": "A1",
    "history_item_title": "['x']",
    "item_title": "y",
    "history_item_id": "['3', '1']",
    "item_id": "2",
    "history_item_sid": "['<a_1><b_2><c_3>', '<a_4><b_5><c_6>']",
    "item_sid": "<a_7><b_8><c_9>",
}


def recif(path: Path, messages: Any = (SYSTEM, USER), about: Any = ABOUT, **raw: str) -> Path:
    row = {"messages": json.dumps(messages), "metadata": json.dumps(about)} | raw
    good = {"messages": json.dumps([SYSTEM, USER]), "metadata": json.dumps(ABOUT)}
    pyarrow.parquet.write_table(pa.Table.from_pylist([good, row]), path / "video_test.parquet")
    return path / "video_test.parquet"


def minionerec(path: Path, **changed: str) -> Path:
    with (path / "test.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(CSV))
        writer.writeheader()
        writer.writerows([CSV, CSV | changed])
    return path / "test.csv"


def test_a_row_of_recif_is_a_prompt_with_several_targets(tmp_path: Path) -> None:
    found = read_benchmark(recif(tmp_path))
    assert found is not None
    assert (found.name, found.train, found.sample) == ("RecIF", None, None)
    row = found.examples[0]
    assert (row.user_id, row.history, row.targets) == ("7", (), ("11", "12"))
    assert row.sids == ((1, 2, 3), (4, 5, 6))
    assert row.messages == (SYSTEM, {"role": "user", "content": f"watched: {ONE}"})


@pytest.mark.parametrize(
    ("about", "targets", "user"),
    [
        ({"answer_iid": [5]}, ("5",), "row 2"),
        ({"answer_pid": "[5, 6]", "uuid": "u"}, ("5", "6"), "u"),
        ({"answer_pid": [], "answer": ""}, (), "row 2"),
        ({"answer_pid": [0]}, (), "row 2"),
        ({"answer_pid": None, "answer_iid": ["a"]}, ("a",), "row 2"),
    ],
)
def test_metadata_has_items_by_either_name(about: Any, targets: Any, user: str, tmp_path: Path) -> None:
    found = read_benchmark(recif(tmp_path, about=about))
    assert found is not None
    assert (found.examples[1].targets, found.examples[1].user_id) == (targets, user)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"raw": "no json"}, "row 2: metadata: got 'no json'; is no JSON"),
        ({"about": [1]}, "row 2: metadata: got '[1]'; must be an object in JSON"),
        (
            {"about": {"answer": ONE, "targets": [1]}},
            "row 2: metadata: keys: got 'answer, targets'; must have answer_pid or answer_iid",
        ),
        ({"about": ABOUT | {"answer_pid": 11}}, "row 2: metadata.answer_pid: got 11; must be a list of item ids"),
        ({"about": ABOUT | {"answer_pid": [1.5]}}, "row 2: metadata.answer_pid: got [1.5]; must be a list of item ids"),
        ({"about": ABOUT | {"answer": "a film"}}, "row 2: metadata.answer: got 'a film'; must hold semantic IDs alone"),
        ({"about": ABOUT | {"answer": [ONE]}}, "row 2: metadata.answer: got "),
        ({"messages": []}, "row 2: messages: got '[]'; must be a list of one message or more"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "row 2: messages.0: got "),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "row 2: messages.0.content: got "),
        (
            {"messages": [USER, {"role": "assistant", "content": ONE}]},
            "row 2: messages.1.role: got 'assistant'; a prompt ends with the user's words",
        ),
    ],
)
def test_a_wrong_row_of_recif_is_named(changed: Any, said: str, tmp_path: Path) -> None:
    if "raw" in changed:
        changed = {"metadata": changed["raw"]}
    with pytest.raises(InputError) as error:
        read_benchmark(recif(tmp_path, **changed))
    assert f"{tmp_path}/video_test.parquet: {said}" in str(error.value)


def test_a_row_of_minionerec_is_a_history_with_a_target(tmp_path: Path) -> None:
    found = read_benchmark(minionerec(tmp_path, user_id="A2", history_item_id="[4]"))
    assert found is not None
    assert found.name == "MiniOneRec"
    assert found.examples[0] == Example("A1", ("3", "1"), "2", sids=((7, 8, 9),))
    assert found.examples[1].history == ("4",)
    assert found.train is not None
    assert found.train.histories() == {"A1": ["3", "1"], "A2": ["4"]}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"history_item_id": "3, 1"}, "row 2: history_item_id: got '3, 1'; must be a list of item ids as Python"),
        ({"history_item_id": "__import__('os')"}, "row 2: history_item_id: got "),
        ({"history_item_id": "[None]"}, "row 2: history_item_id: got '[None]'"),
        ({"item_sid": "7"}, "row 2: item_sid: got '7'; must hold semantic IDs alone"),
        ({"item_sid": "<b_7>"}, "row 2: item_sid: got '<b_7>'; must hold semantic IDs alone"),
        ({"item_sid": ONE + TWO}, "row 2: item_sid: got "),
        ({"item_id": ""}, "column item_id: got 'empty text in row 2'"),
    ],
)
def test_a_wrong_row_of_minionerec_is_named(changed: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read_benchmark(minionerec(tmp_path, **changed))
    assert f"{tmp_path}/test.csv: {said}" in str(error.value)


def test_other_tables_are_no_benchmark(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("user_id,item_id,timestamp\na,1,2\n")
    assert read_benchmark(path) is None
    assert read_benchmark(minionerec(tmp_path), TableFormat(columns={"user_id": "user_id"})) is None


def test_users_are_taken_by_their_hash(tmp_path: Path) -> None:
    rows = [{"messages": json.dumps([USER]), "metadata": json.dumps(ABOUT | {"uid": row // 2})} for row in range(20)]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "ad_test.parquet")
    few, more = (read_benchmark(tmp_path / "ad_test.parquet", limit=limit) for limit in (3, 6))
    assert few is not None
    assert more is not None
    assert few.sample is not None
    assert (len(few.examples), few.sample.taken, few.sample.of) == (6, 3, 10)
    assert {one.user_id for one in few.examples} < {one.user_id for one in more.examples}


def test_floors_learn_from_no_history_that_may_hold_a_target() -> None:
    train = first_histories([Example("u", ("1", "2", "3"), "4"), Example("u", ("1", "2"), "3"), Example("v", (), "1")])
    assert train is not None
    assert train.histories() == {"u": ["1", "2"]}


@pytest.mark.parametrize(
    ("text", "sids"),
    [
        ("", ()),
        (ONE + TWO + ONE, ((1, 2, 3), (4, 5, 6))),
        ("<|video_begin|><s_a_1><s_b_2><s_c_3><|video_begin|><s_a_4><s_b_5><s_c_6>", ((1, 2, 3), (4, 5, 6))),
        ("<a_1><b_2>, <a_1><b_3>", ((1, 2), (1, 3))),
    ],
)
def test_answers_are_semantic_ids(text: str, sids: Any) -> None:
    assert answer_sids(text, "answer") == sids


@pytest.mark.parametrize("text", ["<s_b_1>", "<s_a_1><s_c_2>", "<s_a_1><s_b_2><s_a_3>", "film <s_a_1>", "<s_a_x>"])
def test_other_answers_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="answer: got"):
        answer_sids(text, "answer")
