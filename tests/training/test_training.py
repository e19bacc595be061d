"""The trainer learns, resumes with the same bits, and balances its experts."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions
from octorec.errors import InputError, MismatchError
from octorec.models.families import read_config
from octorec.models.hf_folder import Checkpoint
from octorec.models.layers import MoE
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.onerec_context import ContextBatch
from octorec.models.onerec_shapes import parameters
from octorec.models.presets import preset
from octorec.models.user import UserField
from octorec.models.weights import load_into
from octorec.training import trainer as trainer_module
from octorec.training.config import TrainConfig
from octorec.training.examples import drop_items, training_set
from octorec.training.run import new_model, train
from octorec.training.schedule import bias_rate, learning_rate
from octorec.training.trainer import Trainer, nll

N_ITEMS = 40


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    generator = np.random.default_rng(0)
    codes = np.stack([generator.integers(0, size, N_ITEMS) for size in (7, 5, 6)], 1)
    columns = {"item_id": [f"i{n}" for n in range(N_ITEMS)], "codes": pa.array(codes.tolist(), pa.list_(pa.int32()))}
    return Catalog.of_items(pa.table(columns), (7, 5, 6))


def walk(users: int, length: int) -> Interactions:
    """Everyone walks through the items in order, from a start of their own: the next item is certain."""
    rows = [(f"u{u}", f"i{(u + t) % N_ITEMS}", t) for u in range(users) for t in range(length + u % 3)]
    columns = zip(*rows, strict=True)
    return Interactions.from_table(
        pa.table(dict(zip(("user_id", "item_id", "timestamp"), map(list, columns), strict=True)))
    )


def trainer(catalog: Catalog, **config: object) -> Trainer:
    model = OneRecV2(preset("tiny", codebook_fingerprint=catalog.fingerprint))
    initialize(model, seed=0)
    return Trainer(model, training_set(walk(30, 8), catalog), TrainConfig(**{"batch_size": 32, "warmup": 5, **config}))


def test_examples_are_every_prefix(catalog: Catalog) -> None:
    interactions = walk(3, 4)
    data = training_set(interactions, catalog)
    context, targets = data.batch(torch.arange(len(data)), size=3)
    expected = []
    for history in interactions.histories().values():
        expected += [(history[max(0, t - 3) : t], history[t]) for t in range(1, len(history))]
    assert len(data) == len(expected)
    for row, (history, target) in enumerate(expected):
        codes = catalog.codes[[catalog.index[item] for item in history]]
        assert context.lengths[row] == len(history)
        assert torch.equal(context.codes[row, : len(history)], torch.from_numpy(codes).long())
        assert targets[row].tolist() == catalog.codes[catalog.index[target]].tolist()


def test_user_fields_make_the_first_item_an_example(catalog: Catalog) -> None:
    fields = (UserField("plan", "category", ("free", "paid")),)
    data = training_set(walk(3, 4), catalog, fields, {"u1": {"plan": "paid"}})
    assert len(data) == len(walk(3, 4))
    context, _ = data.batch(torch.tensor([0, 4, 5]), size=3)  # u0's first, u1's first and second
    assert context.lengths.tolist() == [1, 1, 1]
    assert (context.codes[:2] == -1).all()
    assert context.user[:, 0].tolist() == [0, 2, 2]


def test_loss_is_the_mean_nll_of_the_codes() -> None:
    logits = [torch.randn(4, 7), torch.randn(4, 5)]
    codes = torch.stack([torch.randint(0, 7, (4,)), torch.randint(0, 5, (4,))], 1)
    by_hand = -sum(logits[i][b].softmax(0)[codes[b, i]].log() for b in range(4) for i in range(2)) / 8
    torch.testing.assert_close(nll(logits, codes), by_hand)


def test_it_learns_a_certain_sequence(catalog: Catalog) -> None:
    subject = trainer(catalog, steps=150, learning_rate=5e-3)
    losses: list[float] = []
    subject.run(on_step=lambda record: losses.append(record["loss"]))
    assert losses[0] > 1.5
    assert losses[-1] < 0.15


def test_dropped_items_leave_the_others_in_order() -> None:
    lengths = torch.tensor([1, 4, 6] * 200)
    codes = torch.arange(6).expand(600, 6)[..., None].expand(600, 6, 2)
    torch.manual_seed(0)
    found = drop_items(ContextBatch(lengths, codes, torch.zeros(600, 0)), 0.4)
    for row, (before, after) in enumerate(zip(lengths.tolist(), found.lengths.tolist(), strict=True)):
        kept = found.codes[row, :after, 0].tolist()
        assert 1 <= after <= before
        assert kept == sorted(set(kept))
        assert max(kept) < before
    long = found.lengths[lengths == 6].float()
    assert long.mean() == pytest.approx(6 * 0.6, abs=0.35)
    assert {1, 6} <= set(long.int().tolist())
    assert (found.codes[lengths == 1, 0, 0] == 0).all()
    untouched = drop_items(ContextBatch(lengths, codes, torch.zeros(600, 0)), 0.0)
    assert torch.equal(untouched.codes, codes)
    assert torch.equal(untouched.lengths, lengths)


def test_dropout_is_off_outside_of_training(catalog: Catalog) -> None:
    plain, dropped = trainer(catalog), trainer(catalog, dropout=0.5)
    context, codes = plain.data.batch(torch.arange(20), 12)
    dropped.model.eval()
    for a, b in zip(plain.model(context, codes), dropped.model(context, codes), strict=True):
        assert torch.equal(a, b)
    dropped.model.train()
    assert not torch.equal(dropped.model(context, codes)[0], plain.model(context, codes)[0])


@pytest.mark.parametrize("random", [{}, {"dropout": 0.2, "history_drop": 0.3}])
def test_resume_is_exact(catalog: Catalog, tmp_path: Path, random: dict) -> None:
    whole = trainer(catalog, steps=12, save_every=5, **random)
    whole.run()
    first = trainer(catalog, steps=12, save_every=5, **random)

    def stop(record: dict) -> None:
        if record["step"] == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(state=tmp_path / "state", on_step=stop)
    second = trainer(catalog, steps=12, save_every=5, **random)
    second.restore(tmp_path / "state")
    assert second.step == 5
    second.run()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    assert whole.history == second.history


def test_resume_refuses_another_training(catalog: Catalog, tmp_path: Path) -> None:
    subject = trainer(catalog, steps=12)
    subject.save(tmp_path / "state")
    with pytest.raises(MismatchError, match=r"resume: train_config"):
        trainer(catalog, steps=13).restore(tmp_path / "state")
    with pytest.raises(InputError, match=r"resume: .*holds no saved training state"):
        subject.restore(tmp_path / "nothing")


def test_resume_refuses_as_many_examples_of_other_contents(catalog: Catalog, tmp_path: Path) -> None:
    trainer(catalog, steps=12).save(tmp_path / "state")
    other = trainer(catalog, steps=12)
    other.data.codes[0] = other.data.codes[-1]
    with pytest.raises(MismatchError, match=r"resume: examples"):
        other.restore(tmp_path / "state")


def test_a_damaged_training_state_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    subject = trainer(catalog, steps=12)
    subject.save(tmp_path / "state")
    whole = (tmp_path / "state" / "state.safetensors").read_bytes()
    (tmp_path / "state" / "state.safetensors").write_bytes(whole[:-1])
    with pytest.raises(InputError, match=r"damaged state\.safetensors"):
        subject.restore(tmp_path / "state")
    (tmp_path / "state" / "state.json").write_text("{")
    with pytest.raises(InputError, match=r"resume: .*state\.json.*is no JSON"):
        subject.restore(tmp_path / "state")


def test_balancing_moves_the_bias_against_the_load(catalog: Catalog) -> None:
    subject = trainer(catalog, steps=1, bias_rate=0.01)
    subject.run()
    load = torch.tensor(subject.history[-1]["expert_load"])
    assert load.shape == (2, 3)
    torch.testing.assert_close(load.sum(1), torch.ones(2))
    bias = torch.stack([moe.router.bias for moe in subject.balance.moes])
    torch.testing.assert_close(bias, 0.01 * torch.sign(1 / 3 - load))


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, TrainConfig().bias_rate])
def test_24_experts_share_the_rows_where_biases_move(catalog: Catalog, rate: float) -> None:
    """Three experts begin ahead of the others by as much as a wide model's router prefers some."""
    config = preset("tiny", codebook_fingerprint=catalog.fingerprint, n_layer=2, n_expert=24, top_k=3, d_expert=8)
    model = OneRecV2(config)
    initialize(model, seed=0)
    for moe in (module for module in model.modules() if isinstance(module, MoE)):
        moe.router.bias[:3] = 0.2
    settings = TrainConfig(steps=120, batch_size=32, warmup=5, bias_rate=rate, validate_every=40)
    subject = Trainer(model, training_set(walk(30, 8), catalog), settings)
    subject.run()
    largest = 24 * max(subject.history[-1]["expert_load"][0])
    assert largest < 1.5 if rate else largest > 4


def test_the_rate_of_biases_falls_to_a_tenth_and_the_step_alone_decides_it(catalog: Catalog) -> None:
    config = TrainConfig(steps=100, bias_rate=0.02)
    rates = [bias_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.02)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.002, rel=0.01)
    subject = trainer(catalog, steps=4, bias_rate=0.02)
    before = torch.stack([moe.router.bias.clone() for moe in subject.balance.moes])
    for step in range(3):
        subject.one_step()
        after = torch.stack([moe.router.bias.clone() for moe in subject.balance.moes])
        moved = (after - before).abs()
        assert moved.max().item() == pytest.approx(bias_rate(step, subject.config), rel=1e-4)
        before = after


@pytest.mark.slow
def test_balancing_evens_out_a_skewed_router(catalog: Catalog) -> None:
    spread = {}
    for rate in (0.0, 0.02):
        subject = trainer(catalog, steps=60, bias_rate=rate, learning_rate=1e-5)
        for moe in subject.balance.moes:
            moe.router.bias[0] = 0.5
        subject.run()
        subject.balance.load()
        subject.config = TrainConfig(**{**subject.config.__dict__, "steps": 70})
        subject.run()
        spread[rate] = max(max(shares) - min(shares) for shares in subject.history[-1]["expert_load"])
    assert spread[0.0] > 0.3
    assert spread[0.02] < spread[0.0] / 2


def test_learning_rate_warms_up_and_decays() -> None:
    config = TrainConfig(steps=100, warmup=10, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_train_writes_a_checkpoint_with_its_catalog(catalog: Catalog, tmp_path: Path) -> None:
    config = preset("tiny", codebook_fingerprint=catalog.fingerprint)
    out = tmp_path / "model"
    about = train(walk(10, 6), catalog, config, TrainConfig(steps=3, batch_size=8), out)
    assert [record["step"] for record in about["records"]] == [3]
    saved = Checkpoint(out)
    load_into(OneRecV2(read_config(saved)), saved)
    assert Catalog.load(out / "catalog").fingerprint == catalog.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    with pytest.raises(InputError, match=r"out: .*exists already: choose another name, or --force"):
        train(walk(10, 6), catalog, config, TrainConfig(steps=3), out)


def test_too_little_room_is_said_before_the_training(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for one state of the training is not enough: the next is written beside it."""
    config = preset("tiny", codebook_fingerprint=catalog.fingerprint)
    room = SimpleNamespace(free=13 * parameters(config))
    monkeypatch.setattr("octorec.output.refuse.shutil.disk_usage", lambda _: room)
    monkeypatch.setattr(Trainer, "run", lambda *_: pytest.fail("it was trained"))
    with pytest.raises(
        InputError, match=r"^out: got .*model\.training'; about .* MB are to be written, and .* are free"
    ):
        train(walk(10, 6), catalog, config, TrainConfig(steps=3, batch_size=8), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_what_a_person_put_beside_the_state_is_seen_before_the_training(catalog: Catalog, tmp_path: Path) -> None:
    config = preset("tiny", codebook_fingerprint=catalog.fingerprint)
    (tmp_path / "model.training").mkdir()
    (tmp_path / "model.training" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"model\.training'; holds notes\.txt"):
        train(walk(10, 6), catalog, config, TrainConfig(steps=3, batch_size=8), tmp_path / "model", force=True)
    assert (tmp_path / "model.training" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, r"steps: got 0; must be an integer above 0"),
        ({"learning_rate": 0.0}, r"learning_rate: got 0.0; must be above 0"),
        ({"warmup": -1}, r"warmup: got -1; must be 0 or more"),
        ({"dropout": 1.0}, r"dropout: got 1.0; must be 0 or more and below 1"),
        ({"precision": "fp8"}, r"precision: got 'fp8'; allowed: float32, bfloat16"),
    ],
)
def test_bad_configurations(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig(**change)


def test_bad_data(catalog: Catalog) -> None:
    with pytest.raises(InputError, match=r"interactions: got '1 rows'; need at least one user with two"):
        training_set(walk(1, 1), catalog)
    table = pa.table({"user_id": ["a", "a"], "item_id": ["i0", "nothing"], "timestamp": [1, 2]})
    with pytest.raises(InputError, match=r"item_id: got 'nothing'; is no item of the catalog"):
        training_set(Interactions.from_table(table), catalog)


@pytest.mark.gpu
def test_a_graphed_step_is_the_eager_one(catalog: Catalog) -> None:
    losses = {}
    for eager in (3, 1000):
        trainer_module.EAGER, before = eager, trainer_module.EAGER
        model = new_model(preset("tiny", codebook_fingerprint=catalog.fingerprint), 0, "cuda")
        config = TrainConfig(steps=40, batch_size=32, warmup=5, dropout=0.1, history_drop=0.2, precision="bfloat16")
        subject = Trainer(model, training_set(walk(30, 8), catalog).to("cuda"), config)
        found: list[float] = []
        subject.run(on_step=lambda record, found=found: found.append(record["loss"]))
        losses[eager], trainer_module.EAGER = found, before
    assert losses[3][-1] < losses[3][0]
    np.testing.assert_allclose(losses[3], losses[1000], rtol=0.02)
