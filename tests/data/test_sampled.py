"""A part of the users: the same in every run, not the first ones, and stated."""

import numpy as np
import pyarrow as pa
import pytest

from octorec.data.interactions import Interactions
from octorec.data.sampled import Sample, sampled, sampled_requests, sampled_users
from octorec.errors import InputError


def made(users: list[str]) -> Interactions:
    """Three interactions a user, and one of the user `single`."""
    rows = [(user, f"i{t}", t) for user in users for t in range(3)] + [("single", "i0", 0)]
    columns = zip(*rows, strict=True)
    return Interactions.from_table(pa.table(dict(zip(("user_id", "item_id", "timestamp"), columns, strict=True))))


USERS = [f"u{n}" for n in range(200)]


def taken(interactions: Interactions, limit: int) -> set[str]:
    return set(sampled_users(interactions, limit)[0].table["user_id"].to_pylist())


def test_a_sample_is_the_same_in_any_order_and_a_part_of_a_larger_one() -> None:
    few = taken(made(USERS), 20)
    assert len(few) == 20
    assert taken(made(USERS[::-1]), 20) == few
    assert few < taken(made(USERS), 50)
    assert few != set(USERS[:20])


def test_a_sample_is_spread_over_all_users() -> None:
    places = [USERS.index(user) for user in taken(made(USERS), 50)]
    assert 70 < np.mean(places) < 130
    assert len({place // 50 for place in places}) == 4


def test_a_sample_holds_all_interactions_of_its_users_who_have_two_and_says_of_how_many_it_was_taken() -> None:
    part, sample = sampled_users(made(USERS), 199)
    assert sample == Sample(199, 200)
    assert len(part) == 3 * 199
    assert "single" not in part.table["user_id"].to_pylist()
    assert sample.line("users") == "199 of 200 users, chosen by a hash of their ids: the same ones in every run"
    assert sample.to_dict()["taken"] == 199


def test_a_limit_above_all_users_takes_everything() -> None:
    whole = made(USERS)
    assert sampled_users(whole, 200) == (whole, None)


def test_requests_keep_their_order() -> None:
    requests, sample = sampled_requests(list(range(100)), 10)
    assert requests == sorted(requests)
    assert (len(requests), sample) == (10, Sample(10, 100))
    assert sampled_requests([5, 6], 9) == ([5, 6], None)
    assert sampled_requests([5, 6], None) == ([5, 6], None)


def test_the_hash_does_not_change_between_versions() -> None:
    assert sampled(["a", "b", "c", "d"], 2) == sampled(["d", "c", "b", "a"], 2) == ["d", "c"]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_nobody_is_refused(limit: int) -> None:
    with pytest.raises(InputError, match=f"limit: got {limit}; must be 1 or more"):
        sampled_users(made(USERS), limit)
    with pytest.raises(InputError, match="limit"):
        sampled_requests([1], limit)
