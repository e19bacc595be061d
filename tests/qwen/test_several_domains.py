"""A model with a begin token a domain answers from the catalog of the domain that a request is for."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import octorec
from octorec import Request
from octorec.engine.engine import Engine
from octorec.errors import InputError
from tests.qwen.made_models import Made
from tests.qwen.sid2pid_files import sid2pid

SHAPES = {"beam_widths": (16,), "default_beam_width": 16}


@pytest.fixture(scope="module")
def one(made: Callable[[str], Made]) -> Made:
    return made("onereason")


@pytest.fixture(scope="module")
def files(one: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("catalogs")
    return {
        "video": sid2pid(folder / "sid2pid_video.json", one.catalog, range(0, 120), 1000),
        "product": sid2pid(folder / "sid2pid_product.json", one.catalog, range(80, 200), 5000),
    }


@pytest.fixture(scope="module")
def engine(one: Made, files: dict[str, Path]) -> Engine:
    return octorec.load(one.folder, files, **SHAPES)


def test_each_domain_answers_from_its_own_catalog(one: Made, files: dict[str, Path], engine: Engine) -> None:
    requests = [
        Request(["1003", "1004"], k=6, domain="video"),
        Request(["5001"], k=6, domain="product"),
        Request(["1007"], k=6, domain="video", exclude=["1008"], exclude_seen=True),
    ]
    answers = engine.recommend(requests)
    for request, answer in zip(requests, answers, strict=True):
        alone = octorec.load(one.folder, {request.domain: files[request.domain]}, **SHAPES)
        assert alone.recommend([request])[0] == answer
    assert all(item.startswith("1") for item in answers[0].items)
    assert all(item.startswith("5") for item in answers[1].items)


def test_the_begin_token_that_a_prompt_ends_with_says_the_domain(one: Made, engine: Engine) -> None:
    begin = one.layout.sids.begin
    words = [int(ids[0]) for ids in one.layout.sids.levels]
    asked = [Request(input_ids=[*words, begin[domain]], k=2) for domain in ("product", "video")]
    named = [Request(input_ids=words, k=2, domain=domain) for domain in ("product", "video")]
    assert engine.recommend(asked) == engine.recommend(named)
    assert engine.recommend(asked)[0].items[0].startswith("5")


@pytest.mark.parametrize(
    ("request_of", "said"),
    [
        ({"history": ["1003"]}, "domain: got ''; must be named: video, product"),
        ({"history": ["1003"], "domain": "ad"}, "domain: got 'ad'; has no catalog; those with one: video, product"),
        ({"history": ["1003"], "domain": "nope"}, "domain: got 'nope'; has no catalog"),
        ({"history": ["1003"], "domain": "product"}, "history: got '1003'; is no item of the catalog"),
        ({"text": "<|ad_begin|>"}, "domain: got 'ad'; has no catalog"),
        ({"text": "<|video_begin|>", "domain": "product"}, "domain: got 'product'; the prompt ends with"),
        ({"text": "<|video_begin|><|prod_begin|>"}, "ends with two begin tokens"),
    ],
)
def test_a_domain_that_is_none_is_refused(request_of: dict[str, object], said: str, engine: Engine) -> None:
    with pytest.raises(InputError) as refused:
        engine.recommend([Request(**request_of)])  # type: ignore[arg-type]
    assert said in str(refused.value)


def test_one_engine_of_several_refuses_another_domains_request(engine: Engine) -> None:
    with pytest.raises(InputError, match="domain: got 'product'; this engine answers for video"):
        engine.domains["video"].parse(Request(input_ids=[1], domain="product"))


def test_catalogs_are_named_by_domain_by_their_files_or_by_a_folder_of_them(
    one: Made, files: dict[str, Path], engine: Engine
) -> None:
    request = Request(["1003", "1004"], k=3, domain="video")
    expected = engine.recommend([request])
    folder = files["video"].parent
    listed = [f"video={files['video']}", f"prod={files['product']}"]
    for given in (folder, str(folder), listed, [str(path) for path in files.values()]):
        found = octorec.load(one.folder, given, **SHAPES)
        assert [*found.domains] == [*engine.domains] or {*found.domains} == {*engine.domains}
        assert found.recommend([request]) == expected


def test_two_domains_of_one_file_share_an_engine(one: Made, files: dict[str, Path], tmp_path: Path) -> None:
    both = tmp_path / "sid2pid_video_ad.json"
    both.write_bytes(files["video"].read_bytes())
    engine = octorec.load(one.folder, both, **SHAPES)
    assert engine.domains["video"] is engine.domains["ad"]
    video, ad = engine.recommend([Request(["1003"], k=3, domain=domain) for domain in ("video", "ad")])
    assert video.scores != ad.scores  # another begin token


def test_a_catalog_without_a_domain_serves_all(one: Made) -> None:
    engine = octorec.load(one.folder, **SHAPES)
    assert not engine.domains
    found = engine.recommend([Request(["m1"], k=2, domain=domain) for domain in ("video", "live")])
    assert all(answer.complete for answer in found)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"shoes": "video"}, "catalog: domain: got 'shoes'; the model has no begin token of it; of video, product, ad"),
        ({}, "catalog: got '{}'; holds no catalog"),
        ({"video": "nowhere.json"}, "catalog: got 'nowhere.json'"),
    ],
)
def test_catalogs_that_a_model_cannot_have_are_refused_at_load(
    given: dict[str, str], said: str, one: Made, files: dict[str, Path]
) -> None:
    with pytest.raises(InputError) as refused:
        octorec.load(one.folder, {domain: files.get(path, path) for domain, path in given.items()})
    assert said in str(refused.value)


def test_a_catalog_without_an_item_and_one_with_codes_without_tokens_are_refused(
    made: Callable[[str], Made], tmp_path: Path
) -> None:
    one = made("minionerec")
    empty = tmp_path / "sid2pid.json"
    empty.write_text("{}")
    with pytest.raises(InputError, match="has no items: a catalog needs at least one"):
        octorec.load(one.folder, empty)
    key = str(33 * 8192**2)
    empty.write_text(json.dumps({key: [{"pid": 1, "count": 1, "count_after_downsample": 1}]}))
    with pytest.raises(InputError, match=r"codes of level a: got '1 codes that the level lacks \(33\)"):
        octorec.load(one.folder, empty)


def test_a_model_that_reads_codes_has_one_catalog_and_no_prompts(
    make_checkpoint: Callable[..., Path], one: Made
) -> None:
    folder = make_checkpoint(codebook_sizes=(32, 32, 32))
    catalog = str(one.folder / "catalog")
    with pytest.raises(InputError, match=r"catalog: got '2 catalogs'; this model reads codes and has one catalog"):
        octorec.load(folder, {"a": catalog, "b": catalog})
    engine = octorec.load(folder, [catalog], **SHAPES)
    given = {"text": "hi", "input_ids": [1], "domain": "video", "task": "ad", "enable_thinking": False}
    given |= {"messages": [{"role": "user", "content": "hi"}], "histories": {"like": ["m1"]}}
    for name, value in given.items():
        with pytest.raises(InputError) as refused:
            engine.recommend([Request(**{name: value})])  # type: ignore[arg-type]
        assert refused.value.field == name
        assert "this model reads items' codes, not a prompt" in str(refused.value)
    with pytest.raises(InputError, match="max_tokens: got 5; this model reads no tokens"):
        octorec.load(folder, catalog, max_tokens=5)
