"""Each family's prompt is made of items' codes, letter by letter as it was trained, with one begin token at its end."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Prepend
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoTokenizer

from octorec.errors import InputError
from octorec.models.prompts import Prompt, Prompts
from tests.models.made_tokenizers import (
    minionerec,
    onereason,
    onerec_think_tokens,
    openonerec,
    openonerec_tokens,
    write_tokenizer,
)
from tests.models.test_chat_template import LIKE_QWEN3

TWO = np.array([[1, 2, 3], [4, 5, 15]])
NONE = np.zeros((0, 3), np.int64)
BEGIN = "<|sid_begin|>"
SYSTEM = "<|im_start|>system\n你是一个智能推荐助手，能够根据用户的浏览历史预测用户可能感兴趣的下一个内容。<|im_end|>\n"
ANSWER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
VIDEO = SYSTEM + "<|im_start|>user\n根据以下用户浏览记录，请预测用户接下来可能观看的内容：\n"
ITEMS = "<|sid_begin|><s_a_1><s_b_2><s_c_3><|sid_end|><|sid_begin|><s_a_4><s_b_5><s_c_15><|sid_end|>"


def tokens(folder: Path, text: str) -> list[int]:
    """The tokens of a whole text, as transformers gives them."""
    return AutoTokenizer.from_pretrained(folder).encode(text, add_special_tokens=False)


def test_openonerec_s_prompt_of_a_history(tmp_path: Path) -> None:
    """The soft switch, the empty block of thoughts, and the begin token at the end."""
    prompt = Prompts(openonerec(tmp_path)).of_history(TWO)
    assert prompt.ids.dtype == np.int64
    assert prompt.ids.tolist() == tokens(tmp_path, VIDEO + ITEMS + "/no_think" + ANSWER + BEGIN)
    assert prompt.codes.tolist() == TWO.tolist()
    assert (prompt.domain, prompt.appended, prompt.left_out) == ("", True, 0)


def test_a_cold_user_has_a_prompt(tmp_path: Path) -> None:
    prompts = Prompts(openonerec(tmp_path))
    expected = tokens(tmp_path, VIDEO + "/no_think" + ANSWER + BEGIN)
    for none in (NONE, np.full((1, 3), -1)):
        assert prompts.of_history(none).ids.tolist() == expected


TASKS: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"task": "ad", "others": {"longview": TWO[:1]}},
        [
            "用户观看过的视频：<|sid_begin|><s_a_1><s_b_2><s_c_3><|sid_end|>\n用户点击过的广告视频："
            + ITEMS
            + "\n请根据用户的观看和"
        ],
    ),
    ({"domain": "product"}, ["user\n用户点击过的商品：" + ITEMS + "\n请根据用户的观看和购物历史"]),
    (
        {"task": "label_cond", "others": {"forward": TWO[1:]}, "texts": {"action": "like"}},
        [
            "user\n用户长时观看过以下内容：" + ITEMS + "\n用户转发过以下内容：<|sid_begin|><s_a_4>",
            "\n请根据用户的互动行为，推荐用户可能会点赞的内容。/no",
        ],
    ),
    (
        {"task": "interactive", "texts": {"profile": "年轻", "keyword": "猫"}},
        ["user\n用户画像：\n年轻" + ITEMS + "\n\n用户查询：猫\n\n请推荐相关内容。/no_think"],
    ),
]


@pytest.mark.parametrize(("how", "parts"), TASKS)
def test_openonerec_s_tasks_have_their_words(tmp_path: Path, how: dict[str, Any], parts: list[str]) -> None:
    prompts = Prompts(openonerec(tmp_path))
    prompt = prompts.of_history(TWO, **how)
    text = prompts.tokens.text(prompt.ids)
    for part in parts:
        assert part in text
    assert prompt.ids.tolist() == tokens(tmp_path, text)
    assert text.endswith("/no_think" + ANSWER + BEGIN)


@pytest.mark.parametrize(
    ("how", "most"), [({}, 512), ({"task": "ad"}, 200), ({"task": "product"}, 100), ({"texts": {"action": "like"}}, 10)]
)
def test_a_task_reads_its_newest_items(tmp_path: Path, how: dict[str, Any], most: int) -> None:
    many = np.random.default_rng(0).integers(0, 16, (600, 3))
    how = {"task": "label_cond", **how} if "texts" in how else how
    prompt = Prompts(openonerec(tmp_path)).of_history(many, **how)
    assert prompt.codes.tolist() == many[-most:].tolist()
    assert prompt.left_out == 600 - most


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"task": "music"}, "task: got 'music'; allowed: video, ad, product"),
        ({"others": {"like": TWO}}, "histories.like: got 'like'; task video reads no other history"),
        ({"task": "interactive"}, "texts.profile: got None; task interactive reads profile and keyword"),
        ({"texts": {"keyword": "x"}}, "texts.keyword: got 'x'; task video reads no words of the user"),
        ({"task": "label_cond", "texts": {"action": "share"}}, "texts.action: got 'share'; allowed: longview, like"),
        ({"task": "interactive", "texts": {"profile": 3, "keyword": "x"}}, "texts.profile: got 3; must be a text"),
        ({"codes": [[1, 2, 16]]}, "history: got [1, 2, 16]; level c has no token for code 16"),
        ({"codes": [[1, -1, 3]]}, "history: got [1, -1, 3]; level b has no token for code -1"),
        ({"codes": [[1, 2]]}, "must be an array of integers [items, 3]"),
        ({"codes": [[1.5, 2, 3]]}, "must be an array of integers [items, 3]"),
        ({"task": "ad", "others": {"longview": np.array([[99, 0, 0]])}}, "histories.longview: got [99, 0, 0]; level a"),
    ],
)
def test_what_a_history_s_prompt_cannot_be_made_of_is_named(tmp_path: Path, how: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as refused:
        Prompts(openonerec(tmp_path)).of_history(**{"codes": TWO, **how})
    assert expected in str(refused.value)


def test_onereason_begins_each_item_as_its_domain_does(tmp_path: Path) -> None:
    prompts = Prompts(onereason(tmp_path))
    prompt = prompts.of_history(TWO[:1], "product", others={"longview": TWO[1:]})
    text = prompts.tokens.text(prompt.ids)
    assert "用户观看过的视频：<|video_begin|><s_a_4><s_b_5><s_c_15>\n" in text
    assert "用户点击过的商品：<|prod_begin|><s_a_1><s_b_2><s_c_3>\n" in text
    assert text.endswith("/no_think" + ANSWER + "<|prod_begin|>")
    assert prompt.ids.tolist() == tokens(tmp_path, text)
    assert prompt.domain == "product"
    assert prompts.of_history(TWO, "live").ids[-1] == prompts.sids.begin["live"]


HEAD = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request. \n\n### Instruction:\n"
    "Can you predict the next possible item that the user may expect?\n\n"
)
BODY = (
    "### User Input: \nCan you predict the next possible item the user may expect, given the following chronological "
    "interaction history: <a_2><b_0><c_5>, <a_40><b_11><c_63>\n\n### Response:\n"
)


def test_minionerec_s_halves_are_split_apart(tmp_path: Path) -> None:
    """With a tokenizer of which a word may reach from one half into the other."""
    prompt = Prompts(minionerec(tmp_path, words=False)).of_history(np.array([[2, 0, 5], [40, 11, 63]]))
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    apart = tokenizer.encode(HEAD).ids + tokenizer.encode(BODY).ids
    assert prompt.ids.tolist() == apart
    assert apart != tokenizer.encode(HEAD + BODY).ids  # it matters
    assert (prompt.appended, prompt.codes.tolist()) == (False, [[2, 0, 5], [40, 11, 63]])


def test_minionerec_s_codes_without_a_token_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"history: got \[4, 0, 5\]; level a has no token for code 4"):
        Prompts(minionerec(tmp_path)).of_history(np.array([[2, 0, 5], [4, 0, 5]]))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"task": "video"}, "task: got 'video'; this model has one prompt: leave it out"),
        (
            {"others": {"longview": [[2, 0, 5]]}},
            "histories.longview: got 'longview'; this model's prompt reads no other",
        ),
        ({"texts": {"keyword": "x"}}, "texts.keyword: got 'x'; this model's prompt has no words of a user"),
        ({"others": {"": [[2, 0, 5]]}}, "histories: got ''; a further history needs a name"),
    ],
)
def test_minionerec_reads_one_history(tmp_path: Path, how: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as refused:
        Prompts(minionerec(tmp_path)).of_history(np.array([[2, 0, 5]]), **how)
    assert expected in str(refused.value)


def test_levels_that_share_tokens_are_told_apart_by_their_places(tmp_path: Path) -> None:
    said = {"levels": ["n{}", "n{}"], "numbers": "each_level"}
    prompts = Prompts(write_tokenizer(tmp_path, [f"n{code}" for code in range(4)], said=said))
    prompt = prompts.of_history(np.array([[3, 1], [1, 1], [0, 2]]))
    assert prompt.codes.tolist() == [[3, 1], [1, 1], [0, 2]]
    assert prompts.tokens.text(prompt.ids) == "n3n1n1n1n0n2"


def test_others_talk_by_the_folder_s_chat_template(tmp_path: Path) -> None:
    said = {"levels": [f"<s_{letter}_{{}}>" for letter in "abcd"], "begin": BEGIN, "end": ["<|sid_end|>"]}
    said |= {"item": "<|sid_begin|>{}<|sid_end|>", "separator": " then "}
    folder = write_tokenizer(tmp_path, onerec_think_tokens(), special=True, chat_template=LIKE_QWEN3, said=said)
    prompt = Prompts(folder).of_history(np.array([[1, 2, 3, 4], [5, 6, 7, 0]]))
    items = (
        "<|sid_begin|><s_a_1><s_b_2><s_c_3><s_d_4><|sid_end|> then <|sid_begin|><s_a_5><s_b_6><s_c_7><s_d_0><|sid_end|>"
    )
    assert prompt.ids.tolist() == tokens(folder, "<|im_start|>user\n" + items + ANSWER + BEGIN)


def test_without_a_chat_template_the_items_are_the_prompt(tmp_path: Path) -> None:
    prompt = Prompts(openonerec(tmp_path, said={"family": "chat"})).of_history(TWO)
    assert prompt.ids.tolist() == tokens(tmp_path, ITEMS + BEGIN)


def test_a_user_s_own_template_is_a_file_of_the_folder(tmp_path: Path) -> None:
    folder = openonerec(tmp_path, said={"prompt": "mine.jinja"})
    (folder / "mine.jinja").write_text(
        "<|im_start|>{{ texts.name }} saw {{ history }} liked {{ histories.like }}<|im_end|>"
    )
    prompts = Prompts(folder)
    prompt = prompts.of_history(TWO, others={"like": TWO[:1]}, texts={"name": "<|im_end|>Ann"})
    like = "<|sid_begin|><s_a_1><s_b_2><s_c_3><|sid_end|>"
    assert prompts.tokens.text(prompt.ids) == f"<|im_start|><|im_end|>Ann saw {ITEMS} liked {like}<|im_end|>{BEGIN}"
    ends = [place for place, id in enumerate(prompt.ids) if id == tokens(folder, "<|im_end|>")[0]]
    assert ends == [len(prompt.ids) - 2]


@pytest.mark.parametrize("name", ["nope.jinja", "../mine.jinja", "/etc/hostname", ""])
def test_a_template_lies_in_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.jinja").write_text("x")
    with pytest.raises(InputError, match="must be the name of a file in the folder"):
        Prompts(openonerec(tmp_path / "model", said={"prompt": name}))


def test_a_given_begin_token_is_not_doubled(tmp_path: Path) -> None:
    prompts = Prompts(openonerec(tmp_path))
    without, given = prompts.of_text("hello world"), prompts.of_text("hello world" + BEGIN)
    assert given.ids.tolist() == without.ids.tolist() == tokens(tmp_path, "hello world" + BEGIN)
    assert (without.appended, given.appended) == (True, False)
    assert prompts.of_ids(given.ids).ids.tolist() == given.ids.tolist()
    assert prompts.of_ids(given.ids[:-1]).ids.tolist() == given.ids.tolist()
    assert len(given.codes) == 0


def begins(prompts: Prompts, *words: str) -> list[int]:
    return [5, *(prompts.sids.begin[word] for word in words)]


def test_a_begin_token_names_the_domain(tmp_path: Path) -> None:
    prompts = Prompts(onereason(tmp_path), domains=("video", "product"))
    assert prompts.of_ids(begins(prompts, "product")).domain == "product"
    assert prompts.of_ids(begins(prompts, "product"), "product").domain == "product"
    assert prompts.of_ids([5], "video").ids.tolist() == begins(prompts, "video")


def test_where_one_domain_has_a_catalog_it_is_meant(tmp_path: Path) -> None:
    prompt = Prompts(onereason(tmp_path), domains=("ad",)).of_text("random words")
    assert (prompt.domain, prompt.appended) == ("ad", True)


def test_one_begin_token_serves_several_catalogs(tmp_path: Path) -> None:
    prompts = Prompts(openonerec(tmp_path), domains=("video", "product"))
    for domain in ("video", "product"):
        assert prompts.of_ids([5], domain).domain == domain
        assert prompts.of_ids([5, prompts.sids.begin[""]], domain).domain == domain
    with pytest.raises(InputError, match="domain: got ''; must be named: video, product"):
        prompts.of_ids([5])


@pytest.mark.parametrize(
    ("words", "domain", "expected"),
    [
        (("video", "video"), "", "prompt: got '<|video_begin|><|video_begin|>'; ends with two begin tokens"),
        (("video", "product"), "", "ends with two begin tokens"),
        (("live",), "", "domain: got 'live'; has no catalog; those with one: video, product"),
        (
            ("video",),
            "product",
            "domain: got 'product'; the prompt ends with <|video_begin|>, the begin token of video",
        ),
        ((), "", "domain: got ''; must be named: video, product"),
        ((), "live", "domain: got 'live'; has no catalog"),
        ((), "books", "domain: got 'books'; has no catalog"),
    ],
)
def test_begin_tokens_that_cannot_be_meant_are_refused(
    tmp_path: Path, words: tuple[str, ...], domain: str, expected: str
) -> None:
    prompts = Prompts(onereason(tmp_path), domains=("video", "product"))
    with pytest.raises(InputError) as refused:
        prompts.of_ids(begins(prompts, *words), domain)
    assert expected in str(refused.value)


def test_a_domain_without_a_begin_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="domain: got 'books'; has no begin token; those with one: video, product"):
        Prompts(onereason(tmp_path)).of_ids([5], "books")


def test_a_misspelt_domain_is_refused_where_one_begin_token_serves_all(tmp_path: Path) -> None:
    prompts = Prompts(openonerec(tmp_path))
    for make in (lambda: prompts.of_history(TWO, "vidoe"), lambda: prompts.domain_of("vidoe")):
        with pytest.raises(InputError, match="domain: got 'vidoe'; allowed: video, ad, product, live"):
            make()
    named = Prompts(openonerec(tmp_path), domains=("books",)).of_history(TWO, "books")  # a catalog of the user's own
    assert named.ids.tolist() == prompts.of_history(TWO, "video").ids.tolist()


def test_a_model_without_domains_is_asked_for_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="domain: got 'video'; this model has none: leave it out"):
        Prompts(minionerec(tmp_path)).of_text("words", "video")


def test_a_family_without_begin_tokens_gets_none(tmp_path: Path) -> None:
    prompts = Prompts(minionerec(tmp_path))
    assert prompts.of_text("random words of a load tool").ids.tolist() == tokens(
        tmp_path, "random words of a load tool"
    )


def test_text_is_taken_with_its_tokens(tmp_path: Path) -> None:
    """A whole prompt that another program made."""
    text = VIDEO + ITEMS + "/no_think" + ANSWER
    prompts = Prompts(openonerec(tmp_path))
    assert prompts.of_text(text).ids.tolist() == prompts.of_history(TWO).ids.tolist()
    assert prompts.of_text(text).codes.tolist() == TWO.tolist()


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([], "input_ids: got []; must be a list of 1 to"),
        ("12", "input_ids: got '12'; must be a list"),
        ([1, -1], "input_ids.1: got -1; must be a token id from 0 to"),
        ([1, 10**6], "input_ids.1: got 1000000; must be a token id from 0 to"),
        ([1, 2.0], "input_ids.1: got 2.0; must be"),
        ([True], "input_ids.0: got True; must be"),
        (np.zeros(0, np.int64), "input_ids: got []; must be"),
        (np.zeros((1, 2), np.int64), "input_ids.0: got [0, 0]; must be"),
    ],
)
def test_ids_that_are_none_are_refused(tmp_path: Path, ids: Any, expected: str) -> None:
    with pytest.raises(InputError) as refused:
        Prompts(openonerec(tmp_path)).of_ids(ids)
    assert expected in str(refused.value)


@pytest.mark.parametrize("text", ["", None, 3])
def test_text_that_is_none_is_refused(tmp_path: Path, text: Any) -> None:
    with pytest.raises(InputError, match=r"text: got .*; must be a text that is not empty"):
        Prompts(openonerec(tmp_path)).of_text(text)


def test_content_may_be_a_list_of_parts(tmp_path: Path) -> None:
    prompts = Prompts(openonerec(tmp_path))
    parts = [{"type": "text", "text": "which "}, {"type": "text", "text": "film?"}]
    whole, parted = (prompts.of_messages([{"role": "user", "content": one}]) for one in ("which film?", parts))
    assert whole.ids.tolist() == parted.ids.tolist()
    expected = "<|im_start|>user\nwhich film?/no_think" + ANSWER + BEGIN
    assert whole.ids.tolist() == tokens(tmp_path, expected)


def test_the_soft_switch_stands_behind_the_last_user_alone(tmp_path: Path) -> None:
    talk = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\ntwo"},
        {"role": "user", "content": "three"},
        {"role": "assistant", "content": "<think>\nah\n</think>\n\nfour"},
    ]
    expected = (
        "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>\n<|im_start|>user\nthree/no_think<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nah\n</think>\n\nfour" + ANSWER + BEGIN
    )
    assert Prompts(openonerec(tmp_path)).of_messages(talk).ids.tolist() == tokens(tmp_path, expected)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], "messages: got []; must be a list of one message"),
        ("hello", "messages: got 'hello'; must be a list"),
        (["hello"], "messages.0: got 'hello'; must be an object"),
        ([{"role": "tool", "content": "x"}], "messages.0.role: got 'tool'; allowed: system, user, assistant"),
        ([{"role": "user"}], "messages.0.content: got None; must be a text, or a list of parts"),
        (
            [{"role": "user", "content": [{"type": "image_url"}]}],
            "messages.0.content.0: got {'type': 'image_url'}; must",
        ),
        ([{"role": "user", "content": [{"type": "text", "text": 3}]}], "messages.0.content.0"),
        ([{"role": "user", "content": "x"}] * 1001, "messages: got 1001; must be at most 1000"),
        ([{"role": "user", "content": "what next? /think"}], "no stage of thoughts is run"),
    ],
)
def test_messages_that_are_none_are_named(tmp_path: Path, messages: Any, expected: str) -> None:
    with pytest.raises(InputError) as refused:
        Prompts(openonerec(tmp_path)).of_messages(messages)
    assert expected in str(refused.value)


def test_a_stage_of_thoughts_is_refused_with_what_to_do(tmp_path: Path) -> None:
    prompts = Prompts(openonerec(tmp_path))
    said = [{"role": "user", "content": "what next?"}]
    with pytest.raises(
        InputError, match=r"enable_thinking: got True; no stage of thoughts.*give the whole prompt as text"
    ):
        prompts.of_messages(said, thinking=True)
    assert prompts.of_messages(said, thinking=False).ids.tolist() == prompts.of_messages(said).ids.tolist()


def ends_whole(prompt: Prompt, prompts: Prompts, longest: int) -> None:
    """A shortened prompt keeps its newest items, and is as long as its limit lets items be."""
    assert len(prompt.ids) <= longest
    assert prompt.ids[-1] == prompts.sids.begin[""]
    assert prompt.left_out > 0


def test_a_long_history_loses_its_oldest_items(tmp_path: Path) -> None:
    prompts = Prompts(openonerec(tmp_path))
    many = np.random.default_rng(0).integers(0, 16, (100, 3))
    empty = len(prompts.of_history(NONE).ids)
    prompt = prompts.of_history(many, longest=empty + 5 * 30 + 4)
    ends_whole(prompt, prompts, empty + 5 * 30 + 4)
    assert prompt.left_out == 70
    assert prompt.codes.tolist() == many[-30:].tolist()
    assert prompts.of_history(many, longest=10_000).left_out == 0


def test_of_two_long_histories_the_longer_loses_first(tmp_path: Path) -> None:
    prompts = Prompts(openonerec(tmp_path))
    many = np.random.default_rng(0).integers(0, 16, (90, 3))
    whole = prompts.of_history(many, task="ad", others={"longview": many[:10]})
    prompt = prompts.of_history(many, task="ad", others={"longview": many[:10]}, longest=len(whole.ids) - 400)
    assert prompt.codes.tolist() == [*many[:10].tolist(), *many[80:].tolist()]
    assert prompt.left_out == 80


def test_other_prompts_that_are_too_long_are_refused(tmp_path: Path) -> None:
    prompts = Prompts(openonerec(tmp_path))
    said = "must be at most 4: the model has no more positions"
    for ask in (
        lambda: prompts.of_ids([1, 2, 3, 4], longest=4),
        lambda: prompts.of_text("a b c d e f g h", longest=4),
        lambda: prompts.of_messages([{"role": "user", "content": "x"}], longest=4),
        lambda: prompts.of_history(TWO, longest=4),
    ):
        with pytest.raises(InputError, match=said):
            ask()
    assert len(prompts.of_ids([1, 2, 3], longest=4).ids) == 4


def test_a_slow_tokenizer_s_folder_is_told_what_to_do(tmp_path: Path) -> None:
    folder = openonerec(tmp_path)
    added = AutoTokenizer.from_pretrained(folder).get_added_vocab()
    (folder / "added_tokens.json").write_text(str(added).replace("'", '"'))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json'; is missing, and prompts need it: AutoTokenizer"):
        Prompts(folder)


def test_tokens_that_only_another_file_names_are_found_in_text(tmp_path: Path) -> None:
    """Transformers adds them as well."""
    folder = openonerec(tmp_path)
    largest = max(AutoTokenizer.from_pretrained(folder).get_added_vocab().values())
    (folder / "added_tokens.json").write_text(f'{{"<|more|>": {largest + 1}}}')
    assert Prompts(folder).of_text("a<|more|>").ids[1] == largest + 1


def test_tokens_that_only_another_file_names_may_come_before_those_of_the_tokenizer(tmp_path: Path) -> None:
    folder = openonerec(tmp_path)
    whole = Prompts(folder).of_text("<s_a_3><s_b_2><s_c_1>").ids
    raw = json.loads((folder / "tokenizer.json").read_text())
    codes = [one for one in raw["added_tokens"] if one["content"].startswith("<s_")]
    raw["added_tokens"] = [one for one in raw["added_tokens"] if one not in codes]
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    (folder / "added_tokens.json").write_text(json.dumps({one["content"]: one["id"] for one in codes}))
    np.testing.assert_array_equal(Prompts(folder).of_text("<s_a_3><s_b_2><s_c_1>").ids, whole)


@pytest.mark.parametrize("ids", [[-1], [10**9], [1.5], np.array([2**40])])
def test_what_is_no_token_id_is_not_shown(tmp_path: Path, ids: Any) -> None:
    with pytest.raises(InputError, match=r"input_ids\.0"):
        Prompts(openonerec(tmp_path)).describe(ids)


def test_a_word_that_the_tokenizer_does_not_know_is_its_unknown_token(tmp_path: Path) -> None:
    """Tokenizers such as T5's have no token for each byte."""
    folder = openonerec(tmp_path)
    made = Tokenizer(WordLevel({"<unk>": 0, "seen": 1}, unk_token="<unk>"))
    made.normalizer, made.pre_tokenizer = Prepend("_ "), Whitespace()
    made.add_special_tokens(["<unk>"])
    made.add_tokens([AddedToken(one, normalized=False) for one in openonerec_tokens()])
    made.save(str(folder / "tokenizer.json"))
    prompts = Prompts(folder)
    item = prompts.of_text("<s_a_3><s_b_2><s_c_1>").ids.tolist()
    assert prompts.of_text("seen 用户<s_a_3><s_b_2><s_c_1>").ids.tolist() == [0, 1, 0, *item]
    said = prompts.of_messages([{"role": "user", "content": "<|sid_end|> 用户"}])
    assert made.token_to_id("<|sid_end|>") not in said.ids
