"""An item's named sets and title say something about its vector: features, and a linear map from them.

Letters: n items, F features (named sets, then title words), D vector width.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import scipy.linalg
import scipy.sparse as sp
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import normalize

from octorec.catalog.sets import distinct_sets, membership
from octorec.data.items import matrix, vectors
from octorec.data.tables import one_array, read_table, refuse_nulls, refuse_rows
from octorec.errors import InputError

WORD_WEIGHT = 0.5  # length of the title's part of a feature row, the sets' part having length 1
MIN_TITLES = 2  # a word in fewer titles than this tells no two items together
MAX_WORDS = MAX_SETS = 4096  # the most frequent ones: the map is fitted in memory of the square of their number
RIDGE = 1.0
COLUMNS = {"kind": pa.string(), "name": pa.string(), "idf": pa.float32(), "weight": pa.list_(pa.float32())}
NEEDS = "an item without interactions needs a set or a title word that other items have, or a vector"


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A Vocabulary holds the features: named sets and title words, with the inverse document frequency
    [F] float32 of each.
    """

    sets: tuple[str, ...]
    words: tuple[str, ...]
    idf: np.ndarray

    def features(self, items: pa.Table) -> sp.csr_matrix:
        """Return rows [n, F] for a table with title and sets.

        An item's sets, weighted by idf, have length 1 together, its words WORD_WEIGHT. An item of which the vocabulary
        knows nothing has a row of zeros.
        """
        hot = _multi_hot(items, self)
        sets, words = np.split(self.idf, [len(self.sets)])
        parts = [
            _unit_rows(hot[:, : len(sets)] @ sp.diags_array(sets)),
            WORD_WEIGHT * _unit_rows(hot[:, len(sets) :] @ sp.diags_array(words)),
        ]
        return sp.csr_matrix(sp.hstack(parts))


def fit_vocabulary(items: pa.Table) -> Vocabulary:
    """Return the more frequent named sets of `items` and words of their titles."""
    sets, words = _frequent_sets(items["sets"]), _frequent_words(items["title"].to_pylist())
    vocabulary = Vocabulary(sets, words, np.ones(len(sets) + len(words), np.float32))
    having = np.asarray(_multi_hot(items, vocabulary).sum(0)).ravel()
    idf = np.log((1 + items.num_rows) / (1 + having)) + 1  # as scikit-learn smooths it
    return Vocabulary(sets, words, idf.astype(np.float32))


@dataclass(frozen=True, eq=False)
class AttributeMap:
    """An AttributeMap predicts vector ≈ bias + features @ weight: weight [F, D], bias [D] float32."""

    vocabulary: Vocabulary
    weight: np.ndarray
    bias: np.ndarray

    def predict(self, items: pa.Table, source: str = "items") -> np.ndarray:
        """Return vectors [n, D] float32 for items with a set or a title word that the vocabulary knows; else raise an
        InputError about `source`.
        """
        features = self.vocabulary.features(items)
        nothing = np.flatnonzero(np.diff(features.indptr) == 0)
        if len(nothing):
            some = ", ".join(items["item_id"].take(nothing[:5]).to_pylist())
            raise InputError(source, f"{len(nothing)} items of which nothing is known: {some}", NEEDS)
        return (self.bias + features @ self.weight).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write one row a feature: kind (bias, set or word), name, idf, weight."""
        sets, words = self.vocabulary.sets, self.vocabulary.words
        weight = np.concatenate([self.bias[None], self.weight])
        table = {
            "kind": ["bias"] + ["set"] * len(sets) + ["word"] * len(words),
            "name": ["", *sets, *words],
            "idf": np.concatenate([[1], self.vocabulary.idf]).astype(np.float32),
            "weight": pa.FixedSizeListArray.from_arrays(weight.ravel(), weight.shape[1]),
        }
        pyarrow.parquet.write_table(pa.table(table), path)

    @classmethod
    def load(cls, path: Path) -> "AttributeMap":
        """Read what `save` wrote; another table is an InputError."""
        table = read_table(path, COLUMNS)
        found = {field.name: field.type for field in table.schema}
        if found != COLUMNS:
            raise InputError(str(path), table.schema.to_string(), "must be the table that OctoRec wrote")
        for name in ("kind", "name", "idf"):
            refuse_nulls(table[name], f"{path}: column {name}")
        kinds, names = table["kind"].to_pylist(), table["name"].to_pylist()
        sets, words = ([name for kind, name in zip(kinds, names, strict=True) if kind == k] for k in ("set", "word"))
        if kinds != ["bias"] + ["set"] * len(sets) + ["word"] * len(words):
            raise InputError(f"{path}: column kind", sorted(set(kinds)), "one bias, then sets, then words")
        for some in (sets, words):
            if len(set(some)) < len(some):
                raise InputError(f"{path}: column name", "a name twice", "each set and each word may stand once")
        weight = matrix(vectors(one_array(table["weight"]), f"{path}: column weight"))
        idf = np.asarray(table["idf"])
        refuse_rows(~np.isfinite(idf), f"{path}: column idf", "NaN or infinity", "must hold finite numbers")
        return cls(Vocabulary(tuple(sets), tuple(words), idf[1:]), weight[1:], weight[0])


def fit_map(vocabulary: Vocabulary, features: sp.csr_matrix, vectors: np.ndarray) -> AttributeMap:
    """Fit a ridge regression from `features` [n, F] onto `vectors` [n, D], around their mean."""
    bias = vectors.mean(0)
    gram = (features.T @ features).toarray() + RIDGE * np.eye(features.shape[1])
    weight = scipy.linalg.solve(gram, features.T @ (vectors - bias), assume_a="pos")
    return AttributeMap(vocabulary, weight.astype(np.float32), bias.astype(np.float32))


def _unit_rows(rows: sp.csr_matrix) -> sp.csr_matrix:
    return normalize(rows) if rows.shape[1] else rows


def _multi_hot(items: pa.Table, vocabulary: Vocabulary) -> sp.csr_matrix:
    """Return [n, F]: 1 where an item is in the set or has the word."""
    rows, places = membership(items["sets"], vocabulary.sets)
    shape = (items.num_rows, len(vocabulary.sets))
    sets = sp.csr_matrix((np.ones(len(rows)), (rows, places)), shape=shape).sign()
    if not vocabulary.words:
        return sets
    words = CountVectorizer(vocabulary=vocabulary.words, binary=True).transform(items["title"].to_pylist())
    return sp.csr_matrix(sp.hstack([sets, words]))


def _frequent_sets(sets: pa.ChunkedArray) -> tuple[str, ...]:
    """Return the MAX_SETS named sets that most items have, in ascending order."""
    names = distinct_sets(sets)
    if len(names) <= MAX_SETS:
        return names
    _, places = membership(sets, names)
    frequent = np.argsort(-np.bincount(places, minlength=len(names)), kind="stable")[:MAX_SETS]
    return tuple(names[place] for place in np.sort(frequent))


def _frequent_words(titles: Sequence[str]) -> tuple[str, ...]:
    analyze = CountVectorizer().build_analyzer()
    count = Counter(word for title in titles for word in set(analyze(title)))
    frequent = sorted((word for word in count if count[word] >= MIN_TITLES), key=lambda word: (-count[word], word))
    return tuple(frequent[:MAX_WORDS])
