"""The ranker's features against a replay by hand, and a training that has to find a planted taste."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from octorec.data.interactions import Interactions
from octorec.data.movielens import MovieLens
from octorec.errors import InputError
from studies.families.auc import auc
from studies.families.ranker import RankerConfig
from studies.families.ranker_data import NUMBERS, ranker_set
from studies.families.ranker_training import RankerTraining, click_scores, floor_scores, split, train_ranker


@pytest.fixture(scope="module")
def movies() -> MovieLens:
    """Men like action, women like drama, mostly; 40 users rate 40 of 60 films each, interleaved in time."""
    rng = np.random.default_rng(0)
    users = {str(u): {"age": 20 + u, "gender": "MF"[u % 2], "occupation": "writer"} for u in range(1, 41)}
    films = [str(i) for i in range(1, 61)]
    genres = [["Action"] if i % 2 else ["Drama"] for i in range(1, 61)]
    items = pa.table({"item_id": films, "title": [f"Film {i} ({1960 + int(i) % 40})" for i in films[:-1]] + ["Film"],
                      "sets": pa.array([[*g, "1990s"] for g in genres])})  # fmt: skip
    rows = [(u, i) for u in users for i in rng.choice(films, 40, replace=False)]
    rng.shuffle(rows)
    liked = [(int(i) % 2 == 1) == (users[u]["gender"] == "M") for u, i in rows]
    ratings = np.where(rng.random(len(rows)) < 0.9, np.where(liked, 5, 2), np.where(liked, 2, 5))
    times = 875_000_000 + 97 * np.arange(len(rows)) // 2  # ties in pairs
    table = pa.table({"user_id": [u for u, _ in rows], "item_id": [i for _, i in rows], "rating": ratings,
                      "timestamp": times})  # fmt: skip
    return MovieLens(Interactions.from_table(table), items, users, table)


def test_features_know_the_past_alone(movies: MovieLens) -> None:
    found = ranker_set(movies, history=3)
    rows = [{**row, "u": int(row["user_id"]), "i": int(row["item_id"])} for row in movies.ratings.to_pylist()]
    rows.sort(key=lambda row: (row["timestamp"], row["u"], row["i"]))
    numbers = found.batch.numbers.numpy()
    for at in (0, 1, 57, 800, len(rows) - 1):
        row, past = rows[at], rows[:at]
        mine, its = ([r for r in past if r[key] == row[key]] for key in ("user_id", "item_id"))
        clicks = [sum(r["rating"] >= 4 for r in part) for part in (mine, its)]
        year = 1960 + row["i"] % 40 if row["i"] < 60 else np.median([1960 + i % 40 for i in range(1, 60)])
        wait = row["timestamp"] - mine[-1]["timestamp"] if mine else 0
        rates = [(c + 2.5) / (len(part) + 5) for c, part in zip(clicks, (mine, its), strict=True)]
        wanted = [20 + row["u"], year, row["timestamp"], len(mine), clicks[0], len(its), clicks[1], wait, *rates]
        np.testing.assert_allclose(numbers[at], wanted, rtol=1e-6)
        newest = [r["i"] for r in mine if r["rating"] >= 4][-3:]
        assert found.batch.history[at].tolist() == newest + [0] * (3 - len(newest))
        assert found.user_ids[at] == row["user_id"]
        assert float(found.clicks[at]) == (row["rating"] >= 4)
    assert found.rows == {"user": 41, "item": 61, "gender": 3, "occupation": 2, "genre": 3}
    assert found.batch.genres.sum(1).eq(1).all()


def test_training_finds_the_planted_taste(movies: MovieLens) -> None:
    examples = ranker_set(movies, history=8)
    training = RankerTraining(epochs=8, batch_size=64, learning_rate=3e-3, embedding_rate=1.0)
    learned, judged = split(examples, training)
    assert len(learned) == 0.8 * len(examples)
    assert learned.batch.numbers[:, 2].max() <= judged.batch.numbers[:, 2].min()
    config = RankerConfig(examples.rows, NUMBERS, embed_dim=8, history=8, top_widths=(16, 8))
    steps = []
    model = train_ranker(learned, config, training, lambda done, total: steps.append((done, total)))
    assert steps[-1] == (160, 160)
    torch.testing.assert_close(model.mean, learned.batch.numbers.double().mean(0).float())
    clicks = judged.clicks.numpy()
    found = auc(click_scores(model, judged), clicks)
    floors = {name: auc(scores, clicks) for name, scores in floor_scores(learned, judged).items()}
    print(f"AUC {found:.3f}, floors {floors}; the planted taste alone gives about 0.9")
    assert found > 0.8 > max(floors.values())


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"batch_size": 0}, {"train_share": 1.0}])
def test_settings_are_checked(changes: dict[str, float]) -> None:
    with pytest.raises(InputError):
        RankerTraining(**changes)  # type: ignore[arg-type]
