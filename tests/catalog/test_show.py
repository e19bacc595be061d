"""An item of a catalog for people: codes, sets, neighbours, and how it is found."""

from dataclasses import replace

import pyarrow as pa
import pytest

from octorec.catalog.build import withdraw
from octorec.catalog.catalog import Catalog
from octorec.catalog.show import Neighbour, about_item, find_item
from octorec.data.items import check_items
from octorec.errors import InputError

TITLES = ["Alien", "Aliens", "Heat", "Toy Story", "Up"]
CODES = [[0, 1], [0, 1], [0, 2], [1, 0], [2, 0]]
SETS = [["horror"], [], ["crime", "long"], [], []]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    ids = ["007", "8", "9", "10", "x"]
    return Catalog.of_items(
        check_items(pa.table({"item_id": ids, "title": TITLES, "codes": CODES, "sets": SETS})), (3, 3)
    )


def test_an_item_is_shown_with_those_that_share_its_codes(catalog: Catalog) -> None:
    about = about_item(catalog, find_item(catalog, "007"), 5)
    assert (about.title, about.codes, about.sets, about.live) == ("Alien", [0, 1], ["horror"], True)
    assert about.sharing == [2, 1]
    assert about.neighbours == [Neighbour("8", "Aliens", 2), Neighbour("9", "Heat", 1)]
    assert len(about_item(catalog, find_item(catalog, "007"), 1).neighbours) == 1
    assert "neighbour    9: Heat (shares 1 of 2 codes)" in about.lines()


def test_a_withdrawn_item_says_so(catalog: Catalog) -> None:
    changed = withdraw(catalog, ["9"])
    about = about_item(changed, find_item(changed, "9"), 0)
    assert not about.live
    assert "state        withdrawn: never recommended, known in histories" in about.lines()


def test_an_item_says_how_often_it_is_met_where_that_is_kept(catalog: Catalog) -> None:
    place = find_item(catalog, "9")
    assert about_item(catalog, place, 0).interactions is None
    counts = [0] * len(catalog)
    counts[place] = 1234
    counted = replace(catalog, items=catalog.items.append_column("interactions", [counts]))
    assert "met          in 1,234 interactions" in about_item(counted, place, 0).lines()


def test_an_item_is_found_by_words_of_its_title(catalog: Catalog) -> None:
    assert catalog.item_ids[find_item(catalog, "toy st")] == "10"
    assert catalog.item_ids[find_item(catalog, "x")] == "x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alien", "no such id, and 2 titles hold it: 007 (Alien), 8 (Aliens)"),
        ("7", "no such id or title among 5 items; most like it: '007'"),
        (" X", "most like it: 'x'"),
        ("100", "most like it: '10'"),
        ("", "they are such as '007'"),
    ],
)
def test_an_unknown_item_is_refused_with_items_like_it(catalog: Catalog, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        find_item(catalog, text)
    assert message in str(caught.value)
