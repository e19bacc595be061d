"""A request that tells nothing of its user is answered by popularity, marked, and without the device."""

import numpy as np
import pytest
from made_up import MadeUpModel, random_catalog

from octorec.catalog.build import withdraw
from octorec.catalog.catalog import Catalog
from octorec.engine import popularity
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.models.user import UserField

SIZES = (6, 5, 7)
CATALOG = random_catalog(150, SIZES, withdrawn=0.2, counted=True)


def engine(catalog: Catalog = CATALOG, fields: tuple[UserField, ...] = (), **options: object) -> Engine:
    config = {"max_context": 4, "batch_sizes": (1, 4), "beam_widths": (200,), "default_beam_width": 200, **options}
    return Engine(MadeUpModel(SIZES, user_fields=fields), catalog, EngineConfig(**config))


def most_met(catalog: Catalog, request: Request) -> list[str]:
    """The expected answer: what the request may have, the most interactions first, then in the catalog's order."""
    may = [
        place
        for place, item in enumerate(catalog.item_ids)
        if catalog.live[place]
        and item not in request.exclude
        and (not request.allow or set(request.allow) & set(catalog.sets[place]))
    ]
    counts = catalog.items["interactions"].to_pylist()
    return [catalog.item_ids[place] for place in sorted(may, key=lambda place: (-counts[place], place))][: request.k]


@pytest.mark.parametrize("first_rows", [1, 7, 1024])
@pytest.mark.parametrize("allow", [(), ("red",), ("red", "blue")])
def test_it_is_what_was_met_most_of_what_the_request_may_have(
    allow: tuple[str, ...], first_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(popularity, "FIRST_ROWS", first_rows)
    for excluded in (0, 40, 140, 150):
        for k in (1, 10, 200):
            request = Request([], k=k, allow=allow, exclude=[f"i{n}" for n in range(excluded)])
            answer = engine().recommend([request])[0]
            assert answer.items == most_met(CATALOG, request)
            assert answer.source == "popularity"
            assert answer.complete == (len(answer.items) == k)
            assert answer.notes[0] == "history is empty: answered by popularity"
            assert answer.scores == sorted(answer.scores, reverse=True)
            assert np.isfinite(answer.scores).all()
            assert len(answer.titles) == len(answer.codes) == len(answer.items)


def test_scores_are_logs_of_shares_that_sum_to_one() -> None:
    everything = engine(random_catalog(150, SIZES, counted=True)).recommend([Request([], k=150)])[0]
    assert np.exp(everything.scores).sum() == pytest.approx(1, rel=1e-5)


def test_a_short_list_says_how_many_items_there_are() -> None:
    answer = engine().recommend([Request([], k=200)])[0]
    live = int(CATALOG.live.sum())
    assert not answer.complete
    assert answer.notes[1] == f"found {live} of k = 200 items; the request may have {live}"


def test_in_a_batch_it_is_what_it_is_alone_and_changes_nobody() -> None:
    subject = engine()
    some = [Request([f"i{n}"], k=5) if n % 3 else Request([], k=5 + n, allow=["red"]) for n in range(14)]
    together = subject.recommend(some)
    assert together == [subject.recommend([request])[0] for request in some]
    assert [answer.source for answer in together] == ["model" if request.history else "popularity" for request in some]


def test_the_device_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = engine()
    monkeypatch.setattr(subject, "launch", None)
    assert len(subject.recommend([Request([], k=3)] * 9)) == 9


def test_withdrawn_items_do_not_come_back() -> None:
    subject = engine()
    first = subject.recommend([Request([], k=3)])[0].items
    subject.replace_catalog(withdraw(CATALOG, first))
    assert not set(first) & set(subject.recommend([Request([], k=150)])[0].items)


def test_of_a_history_without_a_known_item_the_note_says_so_and_seen_items_stay_out() -> None:
    subject = engine()
    parsed = subject.parse(Request(["new", "newer"], k=3), drop_unknown=True)
    assert parsed.source == "popularity"
    assert parsed.notes == [
        "history: 2 unknown dropped, such as 'new'",
        "no item of the history is known: answered by popularity",
    ]
    with pytest.raises(InputError, match="history: got 'new'; is no item of the catalog"):
        subject.parse(Request(["new"]))


def test_user_fields_are_something_to_ask_the_model_by() -> None:
    subject = engine(fields=(UserField("age", "number"),))
    assert subject.parse(Request([], user={"age": 3})).source == "model"
    assert subject.parse(Request([])).source == "popularity"


def test_a_catalog_without_counts_says_what_is_missing() -> None:
    subject = engine(random_catalog(50, SIZES))
    with pytest.raises(
        InputError, match=r"history: got \[\]; give at least one item; the catalog has no counts .*`interactions`"
    ):
        subject.recommend([Request([])])


def test_popularity_is_no_score_of_the_model() -> None:
    with pytest.raises(InputError, match="nothing to score by"):
        engine().score([Request([])], ["i1"])


def test_limits_of_k_hold_here_too() -> None:
    with pytest.raises(InputError, match="k: got 201; at most beam_width = 200"):
        engine().recommend([Request([], k=201)])
