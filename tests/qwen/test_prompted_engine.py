"""An engine answers for language models: by history, messages, text and token ids, as scores of whole items say."""

import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octorec
from octorec import Request
from octorec.engine.engine import Engine
from octorec.errors import InputError
from tests.qwen.made_models import Made

NAMES = ["openonerec", "onereason", "minionerec"]
WIDTH = 32


@pytest.fixture(scope="module")
def opened(made: Callable[[str], Made]) -> Callable[[str], tuple[Made, Engine]]:
    engines: dict[str, Engine] = {}

    def open_one(name: str) -> tuple[Made, Engine]:
        if name not in engines:
            engines[name] = octorec.load(made(name).folder, beam_widths=(8, WIDTH, 256), default_beam_width=WIDTH)
        return made(name), engines[name]

    return open_one


def histories(one: Made, count: int) -> list[list[str]]:
    return [items[:-1][-6:] for items in itertools.islice(one.interactions.histories().values(), count)]


def domain(one: Made) -> str:
    return "video" if one.layout.name == "onereason" else ""


def asked(one: Made, count: int, **more: Any) -> list[Request]:
    return [Request(history, **{"domain": domain(one), "k": 5} | more) for history in histories(one, count)]


def by_score(engine: Engine, request: Request) -> list[tuple[str, float]]:
    """Return every item of the catalog by its teacher-forced score, the best first; ties go by code tuple."""
    catalog = engine.catalog
    scores = engine.score([request] * len(catalog), catalog.item_ids).sum(1)
    order = np.argsort(-scores, kind="stable")  # the catalog lies in code order
    return [(catalog.item_ids[place], float(scores[place])) for place in order]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_certified_answers_are_the_best_of_all_items(name: str, opened: Callable[[str], tuple[Made, Engine]]) -> None:
    """Scores are over the whole vocabulary; those of MiniOneRec count its forced end too."""
    one, engine = opened(name)
    certified = 0
    for request in asked(one, 3, beam_width="auto", k=4):
        answer = engine.recommend([request])[0]
        best = by_score(engine, request)
        np.testing.assert_allclose(answer.scores, [score for _, score in best[:4]], atol=2e-5)
        certified += answer.exact
        known = dict(best)
        np.testing.assert_allclose(answer.scores, [known[item] for item in answer.items], atol=2e-5)
    assert certified >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_exclusions_and_what_was_seen_are_left_out_of_exact_answers(
    name: str, opened: Callable[[str], tuple[Made, Engine]]
) -> None:
    one, engine = opened(name)
    plain = asked(one, 1, beam_width=256, k=5)[0]
    best = [item for item, _ in by_score(engine, plain)]
    banned = best[:3]
    request = asked(one, 1, beam_width=256, k=5, exclude=banned, exclude_seen=True)[0]
    answer = engine.recommend([request])[0]
    left = [(item, score) for item, score in by_score(engine, plain) if item not in {*banned, *plain.history}]
    assert answer.exact
    np.testing.assert_allclose(answer.scores, [score for _, score in left[:5]], atol=2e-5)
    assert not {*answer.items} & {*banned, *plain.history}


@pytest.mark.parametrize(
    "name", [name if name == "minionerec" else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_a_request_has_the_same_bits_alone_and_in_a_batch_of_other_prompts(
    name: str, opened: Callable[[str], tuple[Made, Engine]]
) -> None:
    one, engine = opened(name)
    lengths = [1, 6, 3, 2, 5]
    requests = [
        Request(history[-length:], k=8, domain=domain(one))
        for history, length in zip(histories(one, 5), lengths, strict=True)
    ]
    requests.append(Request(text="hello " * 60, k=8, domain=domain(one)))
    assert len({len(engine.parse(request).tokens) for request in requests}) > 2
    together = engine.recommend(requests)
    for request, there in zip(requests, together, strict=True):
        assert engine.recommend([request])[0] == there


@pytest.mark.parametrize("name", NAMES)
def test_a_history_its_token_ids_and_its_text_get_one_answer(
    name: str, opened: Callable[[str], tuple[Made, Engine]]
) -> None:
    one, engine = opened(name)
    by_history = asked(one, 1)[0]
    tokens = engine.parse(by_history).tokens
    assert tokens is not None
    text = one.layout.tokenizer.decode(tokens.tolist(), skip_special_tokens=False)
    for prompt in ({"input_ids": tokens}, {"input_ids": tokens.tolist()}, {"text": text}):
        same = Request(k=5, domain=domain(one), **prompt)
        parsed = engine.parse(same).tokens
        assert parsed is not None
        if "text" not in prompt or name != "minionerec":  # its halves are split apart, which no one text is
            assert parsed.tolist() == tokens.tolist()  # the begin token is not doubled
            assert engine.recommend([same])[0] == engine.recommend([by_history])[0]


def test_a_prompt_of_random_words_and_one_token_are_answered(opened: Callable[[str], tuple[Made, Engine]]) -> None:
    for name in NAMES:
        one, engine = opened(name)
        for prompt in ({"text": "xq zzv 17 %% blorp"}, {"input_ids": [0]}):
            answer = engine.recommend([Request(k=3, domain=domain(one), **prompt)])[0]
            assert len(answer.items) == 3
            assert answer.source == "model"


def test_semantic_ids_in_messages_and_text_are_items_of_the_catalog(
    opened: Callable[[str], tuple[Made, Engine]],
) -> None:
    _, engine = opened("openonerec")
    catalog = engine.catalog
    assert engine.prompts is not None
    item = catalog.item_ids[3]
    said = engine.prompts.shown(catalog.codes[3])
    chat = [{"role": "user", "content": f"I watched {said}, what next?"}]
    answer = engine.recommend([Request(messages=chat, k=5, exclude_seen=True)])[0]
    assert item not in answer.items
    taken = {tuple(row) for row in catalog.codes.tolist()}
    free = next(codes for codes in itertools.product(range(32), repeat=3) if codes not in taken)
    unknown = engine.prompts.shown(np.array(free))
    text = f"{said}{unknown}"
    for field, prompt in {"messages": [{"role": "user", "content": text}], "text": text}.items():
        wrong = Request(**{field: prompt})
        with pytest.raises(InputError) as refused:
            engine.recommend([wrong])
        assert str(refused.value) == f"{field}: got {unknown!r}; is no item of the catalog, as 1 of 2 are"
        told = engine.parse(wrong, drop_unknown=True)
        assert told.notes == [f"{field}: 1 of 2 semantic IDs are of no item, such as {unknown}"]
    as_they_are = engine.parse(Request(input_ids=told.tokens))
    assert as_they_are.tokens.tolist() == told.tokens.tolist()
    assert as_they_are.notes == []


def test_unknown_items_of_a_history_are_named_or_dropped(opened: Callable[[str], tuple[Made, Engine]]) -> None:
    _, engine = opened("minionerec")
    request = Request(["m1", "nothing", "m2"])
    with pytest.raises(InputError) as refused:
        engine.recommend([request])
    assert str(refused.value) == "history: got 'nothing'; is no item of the catalog"
    dropped = engine.parse(request, drop_unknown=True)
    assert dropped.notes == ["history: 1 unknown dropped, such as 'nothing'"]
    known = engine.parse(Request(["m1", "m2"])).tokens
    assert dropped.tokens is not None
    assert known is not None
    assert dropped.tokens.tolist() == known.tolist()


def test_an_empty_history_is_answered_by_popularity_and_a_prompt_by_the_model(
    opened: Callable[[str], tuple[Made, Engine]],
) -> None:
    _, engine = opened("openonerec")
    nothing, prompt = engine.recommend([Request(k=3), Request(k=3, text="hello")])
    assert (nothing.source, prompt.source) == ("popularity", "model")


def test_a_long_history_loses_its_oldest_items_and_says_so(opened: Callable[[str], tuple[Made, Engine]]) -> None:
    one, _ = opened("openonerec")
    engine = octorec.load(one.folder, beam_widths=(8,), default_beam_width=8, max_tokens=200)
    items = one.catalog.item_ids
    answer = engine.recommend([Request(items, k=3)])[0]
    tokens = engine.parse(Request(items, k=3)).tokens
    assert tokens is not None
    assert len(tokens) <= 200
    assert "oldest items are left out of the prompt" in answer.notes[0]
    exact = engine.parse(Request(items[-5:], k=3))
    assert exact.notes == []


@pytest.mark.parametrize(
    ("request_of", "said"),
    [
        ({"input_ids": []}, "input_ids: got []; must be a list of 1 to"),
        ({"input_ids": [5, 10**6]}, "input_ids.1: got 1000000; must be a token id from 0 to"),
        ({"input_ids": [-1]}, "input_ids.0: got -1; must be a token id"),
        ({"input_ids": [1] * 600}, "prompt: got '601 tokens'; must be at most 510: the model has no more positions"),
        ({"text": ""}, "text: got ''; must be a text that is not empty"),
        ({"messages": []}, "messages: got []; must be a list of one message or more"),
        ({"messages": [{"role": "user", "content": "hi /think"}]}, "no stage of thoughts is run"),
        ({"messages": [{"role": "user", "content": "hi"}], "enable_thinking": True}, "no stage of thoughts is run"),
        ({"history": ["m1"], "enable_thinking": True}, "enable_thinking: got True; no stage of thoughts is run"),
        ({"text": "hi", "task": "video"}, "task: got 'video'; goes with a history; text is a whole prompt"),
        ({"history": ["m1"], "task": "news"}, "task: got 'news'; allowed: "),
        ({"history": ["m1"], "user": {"age": "3"}}, "user.age: got '3'; task video reads no words of the user"),
        ({"history": ["m1"], "histories": {"x": ["m1"]}}, "histories.x: got 'x'; task video reads"),
        ({"history": ["m1"], "histories": {"x": ["nope"]}}, "histories.x: got 'nope'; is no item of the catalog"),
        ({"history": ["m1"], "features": {"hour": 3}}, "features"),
    ],
)
def test_a_wrong_request_is_refused_by_its_field(
    request_of: dict[str, Any], said: str, opened: Callable[[str], tuple[Made, Engine]]
) -> None:
    _, engine = opened("openonerec")
    with pytest.raises(InputError) as refused:
        engine.recommend([Request(**request_of)])
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"history": ["1"], "text": "hi"}, "text: got 'hi'; give it or history, not both"),
        ({"text": "hi", "input_ids": [1]}, "input_ids: got [1]; give it or text, not both"),
        ({"history": ["1"], "domain": 3}, "domain: got 3; must be a name"),
        ({"history": ["1"], "histories": ["1"]}, "histories: got ['1']; must be an object"),
        ({"history": ["1"], "histories": {"x": "1"}}, "histories.x: got '1'; must be a list of ids"),
        ({"history": ["1"], "enable_thinking": "yes"}, "enable_thinking: got 'yes'; must be true or false"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refused:
        Request(**fields)
    assert said in str(refused.value)


def test_settings_that_are_ignored_are_named_in_the_log(
    made: Callable[[str], Made], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    octorec.load(made("openonerec").folder)
    assert "generation_config.json is ignored in beam search: do_sample True, temperature 0.6" in caplog.text


def test_a_longest_prompt_beyond_the_positions_is_refused_at_load(made: Callable[[str], Made]) -> None:
    folder = made("openonerec").folder
    with pytest.raises(InputError) as refused:
        octorec.load(folder, max_tokens=511)
    assert str(refused.value) == "max_tokens: got 511; at most the model's positions, 510"
    assert octorec.load(folder).longest == 510


def test_an_adapters_base_is_not_named_for_a_whole_checkpoint(made: Callable[[str], Made], tmp_path: Path) -> None:
    folder = made("openonerec").folder
    with pytest.raises(InputError) as refused:
        octorec.load(folder, base=folder)
    assert f"base: got {str(folder)!r}" in str(refused.value)
