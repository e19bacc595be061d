"""Item vectors say who is met together with whom, and what the items' attributes are.

An item's vector is [INTERACTION_WEIGHT * a, ATTRIBUTE_WEIGHT * b] at length 1, where a (length 1) comes from
co-occurrence in the users' histories and b (length 1) from named sets and title words. An item that nobody met has its
vector predicted from its attributes; one of which nothing is known has a direction that its id alone decides.
Letters: n items, D vector width.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD
from threadpoolctl import threadpool_limits

from octorec.catalog.attributes import NEEDS, AttributeMap, fit_map, fit_vocabulary
from octorec.data.interactions import Interactions
from octorec.data.items import matrix
from octorec.data.tables import one_array
from octorec.errors import InputError

WINDOW = 5  # items at most so far apart in a history count as met together
SMOOTHING = 0.75  # power of the context's frequency: keeps rare items from drawing all attention
INTERACTION_WIDTH, ATTRIBUTE_WIDTH = 64, 32  # widths of a and b, or less on a small catalog
INTERACTION_WEIGHT, ATTRIBUTE_WEIGHT = 1.0, 0.5


class ItemVectors(NamedTuple):
    """ItemVectors are the items' vectors and how they were made.

    vectors [n, D] float32; attribute_map predicts them from sets and titles, None where no item has any.

    known [n] bool: False for an item of which nothing is known, whose vector is `id_vectors`'.
    """

    vectors: np.ndarray
    attribute_map: AttributeMap | None
    known: np.ndarray


def item_vectors(interactions: Interactions | None, items: pa.Table, seed: int) -> ItemVectors:
    """Return a vector for each row of `items` (item_id, title, sets, vector?).

    It is the row's own `vector` as it is, where there is that column; else it is made from `interactions` and
    attributes, of length 1. One thread computes, so that a seed gives the same bits. Every item met must be in `items`.
    """
    if interactions is not None:
        item_rows(interactions, items)
    vocabulary = fit_vocabulary(items)
    features = vocabulary.features(items)
    with threadpool_limits(1):
        if "vector" in items.column_names:
            vectors, known = matrix(items["vector"]), np.ones(items.num_rows, bool)
        else:
            vectors, known = _joint(interactions, items, features, seed)
        attribute_map = fit_map(vocabulary, features[known], vectors[known]) if features.nnz else None
    described = ~known & (features.getnnz(axis=1) > 0)
    if described.any():
        vectors[described] = predicted_vectors(attribute_map, items.filter(described), unit=True)
    known = known | described
    if not known.all():
        vectors[~known] = id_vectors(items["item_id"].filter(~known).to_pylist(), vectors.shape[1])
    return ItemVectors(vectors, attribute_map, known)


def predicted_vectors(
    attribute_map: AttributeMap | None, items: pa.Table, unit: bool, source: str = "items"
) -> np.ndarray:
    """Return vectors [n, D] (unit: of length 1) from the attributes; raise an InputError where nothing
    is known of an item.
    """
    if attribute_map is None:
        some = ", ".join(items["item_id"].slice(0, 5).to_pylist())
        raise InputError(source, f"{items.num_rows} items of which nothing is known: {some}", NEEDS)
    vectors = attribute_map.predict(items, source)
    return _unit_rows(vectors) if unit else vectors


def id_vectors(item_ids: Iterable[str], width: int) -> np.ndarray:
    """Return a vector of length 1 for each id, [n, width] float32, that depends on the id alone, so that it is near to
    no other by intent.
    """
    seeds = [int.from_bytes(hashlib.sha256(item_id.encode()).digest()) for item_id in item_ids]
    rows = [np.random.default_rng(seed).standard_normal(width) for seed in seeds]
    return _unit_rows(np.array(rows).reshape(len(rows), width)).astype(np.float32)


def item_rows(interactions: Interactions, items: pa.Table) -> np.ndarray:
    """Return the row of `items` [len(interactions)] that each interaction is about; raise an InputError for an item
    that is not there.
    """
    rows = pc.index_in(one_array(interactions.table["item_id"]), one_array(items["item_id"]))
    unknown = pc.unique(interactions.table["item_id"].filter(pc.is_null(rows))).to_pylist()
    if unknown:
        found = f"{len(unknown)} items that the item table lacks: {', '.join(unknown[:5])}"
        raise InputError("interactions: column item_id", found, "every item met must be in the item table")
    return np.asarray(rows).astype(np.int64)


def _joint(
    interactions: Interactions | None, items: pa.Table, features: sp.csr_matrix, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors [n, D], and which of them [n] know interactions."""
    if interactions is None:
        raise InputError("interactions", None, "needed where the items have no vector column")
    met = _svd(_ppmi(_counts(interactions, items)), INTERACTION_WIDTH, 0.5, seed)
    known = np.any(met, axis=1)
    if not np.any(known):
        allowed = "some user must have met two different items, held-out ones aside"
        raise InputError("interactions", f"{len(interactions)} rows", allowed)
    about = _svd(features, ATTRIBUTE_WIDTH, 1.0, seed)
    joint = np.hstack([INTERACTION_WEIGHT * _unit_rows(met), ATTRIBUTE_WEIGHT * _unit_rows(about)])
    return _unit_rows(joint).astype(np.float32), known


def _unit_rows(x: np.ndarray) -> np.ndarray:
    """Return each row at length 1; rows of zeros stay."""
    length = np.sqrt((x * x).sum(1, keepdims=True))
    return x / np.where(length > 0, length, 1)


def _counts(interactions: Interactions, items: pa.Table) -> sp.csr_matrix:
    """Count [n, n]: how often two different items stand at most WINDOW apart in a user's history; symmetric."""
    item = item_rows(interactions, items)
    starts = interactions.user_starts()
    user = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    n = items.num_rows
    counts = sp.csr_matrix((n, n))
    for apart in range(1, WINDOW + 1):
        pair = (user[apart:] == user[:-apart]) & (item[apart:] != item[:-apart])
        left, right = item[:-apart][pair], item[apart:][pair]
        counts += sp.csr_matrix((np.ones(len(left)), (left, right)), shape=(n, n))
    return counts + counts.T


def _ppmi(counts: sp.csr_matrix) -> sp.csr_matrix:
    """Return the positive pointwise mutual information with smoothed contexts: max(0, log(P(i, j) /
    (P(i) * P(j)^s / norm))).
    """
    pairs = counts.tocoo()
    total = np.asarray(counts.sum(1)).ravel()
    context = total**SMOOTHING / max((total**SMOOTHING).sum(), 1)
    information = np.log(pairs.data / (total[pairs.row] * context[pairs.col]))
    out = sp.csr_matrix((information.clip(min=0), (pairs.row, pairs.col)), shape=counts.shape)
    out.eliminate_zeros()
    return out


def _svd(rows: sp.csr_matrix, width: int, power: float, seed: int) -> np.ndarray:
    """Return U * S^power of the `width` largest singular values (fewer, if there are fewer columns or
    rows): [n, <= width].
    """
    width = min(width, *rows.shape)
    if width == 0 or rows.nnz == 0:
        return np.zeros((rows.shape[0], width))
    if rows.shape[1] == 1:  # scikit-learn asks for two columns
        column = rows.toarray()
        return column * np.linalg.norm(column) ** (power - 1)
    svd = TruncatedSVD(width, random_state=seed)
    scaled = svd.fit_transform(rows)  # U * S
    largest = svd.singular_values_.max()
    real = svd.singular_values_ > 1e-6 * largest
    return scaled[:, real] * svd.singular_values_[real] ** (power - 1)
