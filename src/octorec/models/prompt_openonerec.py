"""OpenOneRec and OneReason read these prompts (arXiv 2512.24762, 2606.06260), of whose wordings each has the first.

Their evaluation adds `/no_think` to the last user's words and an empty block of thoughts, by a template of its own: the
checkpoint's chat template adds the second alone, and ranks otherwise. The begin token comes after it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

SOFT_SWITCH = r"""
{%- set last = namespace(user=messages|length - 1) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set last.user = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- if message.role == 'assistant' and loop.index0 > last.user and (loop.last or message.reasoning_content) %}
        {{- '<think>\n' + (message.reasoning_content or '').strip('\n') + '\n</think>\n\n' }}
        {{- message.content.lstrip('\n') }}
    {%- else %}
        {{- message.content }}
        {%- if message.role == 'user' and loop.index0 == last.user %}{{ '/no_think' }}{% endif %}
    {%- endif %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}"""


class Line(NamedTuple):
    """A Line is a history in a prompt: its name, the words before it, and how many of its newest items are read.

    domain: of the items. An empty history has no line.
    """

    history: str
    words: str
    most: int
    domain: str = "video"


class Task(NamedTuple):
    """A Task has a system's words, and a user's: `{lines}` and names of texts stand in them.

    main: the history that the request's own items are. texts: names of the user's words that it needs. asks: what is
    asked for, by the text `action`.
    """

    system: str
    user: str
    lines: tuple[Line, ...]
    main: str
    texts: tuple[str, ...] = ()
    asks: Mapping[str, str] = MappingProxyType({})


VIDEO = Task(
    "你是一个智能推荐助手，能够根据用户的浏览历史预测用户可能感兴趣的下一个内容。",
    "根据以下用户浏览记录，请预测用户接下来可能观看的内容：\n{lines}",
    (Line("video", "", 512),),
    "video",
)
AD = Task(
    "你是一个智能广告推荐助手，能够根据用户的视频观看历史和广告点击行为，预测用户接下来可能点击的广告视频。",
    "{lines}\n请根据用户的观看和广告点击历史，预测用户接下来可能点击的广告视频。",
    (Line("longview", "用户观看过的视频：", 100), Line("ad", "用户点击过的广告视频：", 200, "ad")),
    "ad",
)
PRODUCT = Task(
    "你是一个智能跨域推荐助手，能够根据用户观看的视频内容和历史购物行为，预测用户接下来可能点击的商品。",
    "{lines}\n请根据用户的观看和购物历史，预测用户接下来可能点击的商品。",
    (Line("longview", "用户观看过的视频：", 100), Line("product", "用户点击过的商品：", 100, "product")),
    "product",
)
LABEL_COND = Task(
    "你是一个智能推荐助手，能够根据用户对不同内容的互动行为，精准推荐用户可能感兴趣的下一个内容。",
    "{lines}\n{action}",
    (
        Line("longview", "用户长时观看过以下内容：", 10),
        Line("like", "用户点赞过以下内容：", 10),
        Line("follow", "用户关注过以下内容的作者：", 10),
        Line("forward", "用户转发过以下内容：", 10),
        Line("not_interested", "用户表示不感兴趣的内容：", 10),
    ),
    "longview",
    ("action",),
    {
        "longview": "请根据用户的互动行为，推荐用户可能会长时观看的内容。",
        "like": "请根据用户的互动行为，推荐用户可能会点赞的内容。",
        "follow": "请根据用户的互动行为，推荐用户可能会关注其作者的内容。",
        "forward": "请根据用户的互动行为，推荐用户可能会转发的内容。",
        "not_interested": "请根据用户的互动行为，预测用户可能会表示不感兴趣的内容。",
    },
)
INTERACTIVE = Task(
    "你是一个智能推荐助手，能够根据用户的兴趣画像和当前对话需求，精准推荐用户可能感兴趣的内容。",
    "用户画像：\n{profile}{lines}\n\n用户查询：{keyword}\n\n请推荐相关内容。",
    (Line("video", "", 512),),
    "video",
    ("profile", "keyword"),
)
LIVE = Task(  # OctoRec's own words: those that OneReason was trained with are not published
    VIDEO.system,
    "根据以下用户观看过的直播，请预测用户接下来可能观看的直播：\n{lines}",
    (Line("live", "", 512, "live"),),
    "live",
)
DOMAINS = ("video", "ad", "product", "live")  # whose prompts are the tasks of these names
TASKS = {
    "video": VIDEO,
    "ad": AD,
    "product": PRODUCT,
    "label_cond": LABEL_COND,
    "interactive": INTERACTIVE,
    "live": LIVE,
}
