"""Dimensions given as a file are read as strictly as a checkpoint's, and no model is begun that memory cannot hold."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from octorec.catalog.catalog import Catalog
from octorec.errors import InputError
from octorec.models.presets import preset
from octorec.training.run import check_memory, model_config


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    codes = np.arange(12).reshape(4, 3) % 5
    columns = {"item_id": list("abcd"), "codes": pa.array(codes.tolist(), pa.list_(pa.int32()))}
    return Catalog.of_items(pa.table(columns), (7, 5, 6))


def test_a_file_gives_dimensions_and_the_catalog_the_codebook(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"d_model": 32, "n_layer": 1, "n_head": 2, "embed_dim": 8, "dtype": "bfloat16"}))
    config = model_config(path, catalog)
    assert (config.d_model, config.codebook_sizes) == (32, (7, 5, 6))
    assert config.codebook_fingerprint == catalog.fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[1]", "an object"),
        ("3", "an object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"d_model": ' + "9" * 5000 + "}", "is no JSON"),
        ("\udcff", "is no JSON"),
        ('{"d_model": 32, "n_layer": 1, "n_head": 2, "embed_dim": "8"}', "embed_dim: got '8'; must be an integer"),
        ('{"d_model": 32, "n_layer": 1, "n_head": 2}', "config.json: embed_dim: got None; is required"),
        ('{"model_type": "qwen3"}', "model_type: got 'qwen3'"),
    ],
)
def test_a_broken_file_is_refused_in_a_line(catalog: Catalog, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as error:
        model_config(path, catalog)
    assert message in str(error.value)


def test_a_model_larger_than_memory_is_never_begun() -> None:
    check_memory(preset("tiny"), "cpu")
    with pytest.raises(InputError, match=r"model: got '[\d,.]+ GB of weights and optimiser state'; the device has"):
        check_memory(preset("tiny", d_model=2**20, n_layer=1024), "cpu")
    with pytest.raises(InputError, match="fewer or smaller layers and experts"):
        check_memory(preset("tiny", n_expert=2**16, d_expert=2**20), "cpu")
