"""Recipes: what is shipped chooses what the paper says; what a user can get wrong is named."""

from pathlib import Path

import pytest
import torch

from octorec.errors import InputError
from octorec.models.onerec import OneRecV2
from octorec.models.presets import preset
from octorec.models.weights import disk_tensors
from octorec.quant.recipe import Group, Recipe, load_recipe, matrices
from octorec.quant.shipped import shipped_recipes

GOOD = {"name": "mine", "groups": [{"targets": ["a"], "weights": "channel", "activations": "token"}]}


def shapes_of(name: str, **changes: object) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = OneRecV2(preset(name, **changes))
    return {name: tuple(tensor.shape) for name, tensor in disk_tensors(model).items()}


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def scheme(group: Group) -> tuple[str, str]:
    return group.weights, group.activations


def test_three_recipes_are_shipped() -> None:
    assert shipped_recipes() == ["fp8", "fp8-block", "fp8-channel"]


def test_the_papers_recipe_on_the_moe() -> None:
    assigned = load_recipe("fp8").assign(matrices(shapes_of("moe-4b-a0.5b")))
    experts = {name for name in assigned if "experts" in name}
    assert len(experts) == 12 * (53 + 1) * 3
    assert any("shared_experts" in name for name in experts)
    assert {scheme(assigned[name]) for name in experts} == {("block", "group")}
    others = set(assigned) - experts
    assert others == {
        *(f"blocks.{b}.cross_attn.{p}_proj" for b in range(14) for p in "qo"),
        *(f"blocks.{b}.self_attn.{p}_proj" for b in range(14) for p in "qkvo"),
        *(f"blocks.{b}.ffn.{p}_proj" for b in range(2) for p in ("gate", "up", "down")),
    }
    assert {scheme(assigned[name]) for name in others} == {("channel", "token")}


@pytest.mark.parametrize("recipe", ["fp8", "fp8-channel", "fp8-block"])
@pytest.mark.parametrize(
    ("name", "changes"),
    [("0.1b", {}), ("demo", {}), ("demo", {"n_dense": 0}), ("tiny", {"codebook_sizes": (7,), "s_kv": 2})],
)
def test_shipped_recipes_fit_every_shape_and_name_every_matrix(
    recipe: str, name: str, changes: dict[str, object]
) -> None:
    shapes = shapes_of(name, **changes)
    chosen = load_recipe(recipe)
    chosen.check_matches(shapes)
    left = {matrix for matrix in matrices(shapes) if matrix not in chosen.assign(matrices(shapes))}
    assert all(any(word in matrix for word in ("head", "router", "embed", "context.proj")) for matrix in left)


@pytest.mark.parametrize(
    ("recipe", "wanted"), [("fp8-channel", ("channel", "token")), ("fp8-block", ("block", "group"))]
)
def test_one_scheme_everywhere(recipe: str, wanted: tuple[str, str]) -> None:
    names = matrices(shapes_of("demo"))
    assigned = load_recipe(recipe).assign(names)
    assert set(assigned) == set(load_recipe("fp8").assign(names))
    assert {scheme(group) for group in assigned.values()} == {wanted}


def test_the_first_matching_group_wins_and_ignore_wins_over_all() -> None:
    first, second = Group(("a.*",), "channel", "token"), Group((".*",), "block", "group")
    recipe = Recipe("r", (first, second), ignore=("ab",))
    assert recipe.assign(["aa", "ab", "ba"]) == {"aa": first, "ba": second}


def test_a_pattern_must_match_the_whole_name() -> None:
    assert Recipe("r", (Group(("a",), "channel", "token"),)).assign(["a", "ab", "ba"]).keys() == {"a"}


def test_a_users_file(tmp_path: Path) -> None:
    text = "name: mine\ngroups:\n- {targets: ['a.*'], weights: tensor, activations: tensor}\nignore: ['ab']\n"
    path = write(tmp_path, text)
    wanted = Recipe("mine", (Group(("a.*",), "tensor", "tensor"),), ("ab",))
    assert load_recipe(path) == load_recipe(str(path)) == wanted
    assert load_recipe(wanted) is wanted


@pytest.mark.parametrize("name", ["fp9", "", "no/such/file.yaml"])
def test_an_unknown_recipe_is_told_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match=r"recipe: got .*fp8, fp8-block, fp8-channel"):
        load_recipe(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "is no YAML"),
        ("- a", "must have the keys name, groups, ignore"),
        ("groups: []", "recipe: name: got None; is required"),
        ("name: a", "recipe: groups: got None; is required"),
        ("name: a\ngroups: []", "needs at least one group"),
        ("name: a\ngroups: {}", "needs at least one group"),
        ("name: 3\ngroups: [{targets: [a], weights: channel, activations: token}]", "recipe: name: got 3"),
        ("name: a\ntargets: []\ngroups: []", "got 'targets'; unknown key; known: name, groups, ignore"),
        ("name: a\ngroups: [{targets: [a], weight: channel, activations: token}]", "known: targets, weights, activ"),
        ("name: a\ngroups: [{targets: [a], weights: channel}]", "activations: got None; is required"),
        ("name: a\ngroups: [3]", "must have the keys targets"),
        ("name: a\ngroups: [{targets: [a], weights: row, activations: token}]", "allowed: channel, block, tensor"),
        ("name: a\ngroups: [{targets: [a], weights: channel, activations: row}]", "allowed: token, group, tensor"),
        ("name: a\ngroups: [{targets: [], weights: channel, activations: token}]", "at least one regular expression"),
        ("name: a\ngroups: [{targets: a, weights: channel, activations: token}]", "must be a list"),
        ("name: a\ngroups: [{targets: ['('], weights: channel, activations: token}]", "is no regular expression"),
        ("name: a\ngroups: [{targets: [3], weights: channel, activations: token}]", "must be a text"),
        ("name: a\ngroups: [{targets: [a], weights: channel, activations: token, optional: 3}]", "true, false"),
        ("name: a\ngroups: [{targets: [a], weights: channel, activations: token}]\nignore: a", "must be a list"),
        ("name: a\ngroups: [{targets: [a], weights: channel, activations: token}]\nignore: ['(']", "no regular exp"),
    ],
)
def test_what_a_file_can_get_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load_recipe(write(tmp_path, text))
    assert message in str(error.value)


def test_a_target_that_matches_nothing() -> None:
    shapes = {"a.weight": (4, 4), "norm.weight": (4,), "empty.weight": (0, 4)}
    group = Group(("a",), "channel", "token")
    Recipe("r", (group,), ("norm",)).check_matches(shapes)
    for bad in ("norm", "empty", "b"):  # only matrices can be targets
        with pytest.raises(InputError, match=f"targets: got '{bad}'; matches nothing of a checkpoint with a$"):
            Recipe("r", (group, Group((bad,), "block", "group"))).check_matches(shapes)
    Recipe("r", (group, Group(("b",), "block", "group", optional=True))).check_matches(shapes)
    with pytest.raises(InputError, match="ignore: got 'b'"):
        Recipe("r", (group,), ("b",)).check_matches(shapes)
    with pytest.raises(InputError, match="quantizes nothing"):
        Recipe("r", (Group(("b",), "block", "group", optional=True),)).check_matches(shapes)
    with pytest.raises(InputError, match="quantizes nothing"):
        Recipe("r", (group,), ("a",)).check_matches(shapes)
