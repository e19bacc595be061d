"""Users of a model with user fields: what nobody says of them is told, and what no field holds is refused by name."""

from pathlib import Path

import pytest

from octorec.cli.inputs import known_users
from octorec.errors import InputError
from octorec.models.user import UserField

FIELDS = (UserField("plan", "category", ("free", "paid")), UserField("age", "number", mean=30.0, std=10.0))


def table(tmp_path: Path, text: str) -> Path:
    (tmp_path / "users.csv").write_text(text)
    return tmp_path / "users.csv"


def test_a_model_with_user_fields_that_nobody_fills_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert known_users(None, FIELDS, ["u1"]) == {}
    said = capsys.readouterr().err
    assert said == "note: no --users: the model's user fields (plan, age) count as not given for everybody\n"
    assert known_users(None, (), ["u1"]) == {}
    assert capsys.readouterr().err == ""


def test_users_and_fields_without_a_value_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path, "user_id,plan,age\nu1,free,\nu2,paid,\nu9,paid,40\n")
    known_users(path, FIELDS, ["u1", "u2", "u1", "u3"])
    said = capsys.readouterr().err
    assert f"note: {path}: lacks 1 of 3 users, whose fields count as not given\n" in said
    assert f"note: {path}: has no value of age for any of them, which counts as not given\n" in said
    known_users(path, FIELDS, ["u9"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user_id,Plan\nu1,free\n", "users.csv: columns: got 'Plan'; allowed: plan, age; leave other columns out"),
        ("user_id,plan\nu1,free\nu2,Free\n", "users.csv: column plan, user 'u2': got 'Free'; allowed: free, paid"),
        ("user_id,age\nu2,1e40\n", "users.csv: column age, user 'u2': got 1e+40; is too far from 30"),
    ],
)
def test_what_no_field_holds_is_refused_with_file_and_user(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        known_users(table(tmp_path, text), FIELDS, ["u1", "u2"])
    assert said in str(error.value)
