"""Variants are engines of one process that share what they can, and a file that does not fit the server is refused."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from octorec.engine import memory
from octorec.engine.memory import folder_bytes, free_bytes, model_bytes
from octorec.errors import InputError, MismatchError
from octorec.evaluate.online import record as records
from octorec.models.weights import save
from octorec.serve.config import ServeConfig
from octorec.serve.pending import Serving
from octorec.serve.variants import Answering, checkpoint_version, has_ended, read_variants
from octorec.serve.versions import load_engine
from tests.serve.served import FIELDS, make_catalog, make_model, save_checkpoint
from tests.serve.tried import file_with


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints `first` and `second` of one codebook, `foreign` of another; the catalog `other` of the first two."""
    root = tmp_path_factory.mktemp("variants")
    for name, seed, codebook in (("first", 0, 0), ("second", 1, 0), ("foreign", 2, 5)):
        save_checkpoint(root / name, make_catalog(codebook=codebook), seed)
    make_catalog(60, seed=3).save(root / "other")
    (root / "experiments").mkdir()
    return root


def config_of(root: Path, file: dict[str, Any], scratch: Path, **settings: Any) -> ServeConfig:
    path = scratch / "ab.yaml"
    path.write_text(yaml.safe_dump(file, sort_keys=False))
    small = {"batch_sizes": (1,), "beam_widths": (16,), "default_beam_width": 16}
    return ServeConfig.of(experiment=str(path), **{"experiment_root": str(root / "experiments"), **small, **settings})


def variants(root: Path, **parts: dict[str, Any]) -> dict[str, Any]:
    """A file with these variants of equal shares; folders are below `root`."""
    made: dict[str, Any] = {}
    for name, part in parts.items():
        below = {key: str(root / value) if key in ("checkpoint", "catalog") else value for key, value in part.items()}
        made[name] = {"share": f"1/{len(parts)}", **below}
    return file_with(variants=made)


def loaded(root: Path, file: dict[str, Any], scratch: Path, **settings: Any) -> dict[str, Answering]:
    config = config_of(root, file, scratch, **settings)
    found = read_variants(root / "first", config)
    return found.load(Serving(load_engine(root / "first", None, config), "first"))


def test_what_is_the_same_is_one_engine_and_one_catalog(folders: Path, tmp_path: Path) -> None:
    file = variants(
        folders,
        control={"checkpoint": "first", "catalog": "first/../first/catalog"},
        narrow={"beam_width": 4},
        second={"checkpoint": "second"},
        other={"catalog": "other"},
        both={"checkpoint": "second", "catalog": "other", "beam_width": 8},
    )
    found = loaded(folders, file, tmp_path)
    engines = {name: one.serving.engine for name, one in found.items()}
    assert engines["narrow"] is engines["control"]
    assert len({id(engine) for engine in engines.values()}) == 4
    assert engines["second"].catalog is engines["control"].catalog
    assert engines["both"].catalog is engines["other"].catalog
    assert engines["other"].catalog is not engines["control"].catalog
    assert [found[name].beam_width for name in found] == [None, 4, None, None, 8]
    models = {name: one.versions[0] for name, one in found.items()}
    assert models["control"] == models["narrow"] == models["other"] == checkpoint_version(folders / "first")
    assert models["second"] == models["both"] != models["control"]
    assert models["second"].startswith("second-")


def test_a_checkpoints_version_changes_with_its_bytes_and_not_with_its_place(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "first", tmp_path / "first")
    before = checkpoint_version(tmp_path / "first")
    assert before == checkpoint_version(folders / "first")
    (weights,) = (tmp_path / "first").glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert checkpoint_version(tmp_path / "first") != before


@pytest.mark.parametrize(
    ("control", "field", "said"),
    [
        ({"checkpoint": "second"}, "variants.control.checkpoint", "is what the server serves"),
        ({"catalog": "other"}, "variants.control.catalog", "is what the server serves"),
    ],
)
def test_a_control_that_is_not_what_the_server_serves_is_refused(
    control: dict[str, Any], field: str, said: str, folders: Path, tmp_path: Path
) -> None:
    config = config_of(folders, variants(folders, control=control, fp8={}), tmp_path)
    with pytest.raises(InputError, match=said) as refused:
        read_variants(folders / "first", config)
    assert refused.value.field == f"experiment {config.ab.experiment}: {field}"


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"checkpoint": "nowhere"}, "variants.fp8.checkpoint"),
        ({"checkpoint": "other"}, "variants.fp8.checkpoint"),
        ({"catalog": "nowhere"}, "variants.fp8.catalog"),
        ({"catalog": "first"}, "variants.fp8.catalog"),
    ],
)
def test_a_folder_that_is_none_names_the_variant(
    part: dict[str, Any], field: str, folders: Path, tmp_path: Path
) -> None:
    config = config_of(folders, variants(folders, control={}, fp8=part), tmp_path)
    with pytest.raises(InputError) as refused:
        read_variants(folders / "first", config)
    assert refused.value.field.startswith(f"experiment {config.ab.experiment}: {field}")


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"checkpoint": "foreign"}, "variants.fp8.checkpoint"),  # with the server's catalog
        ({"catalog": "foreign/catalog"}, "variants.fp8.catalog"),
        ({"checkpoint": "foreign", "catalog": "other"}, "variants.fp8.catalog"),
    ],
)
def test_a_catalog_of_another_codebook_than_its_checkpoint_names_the_variant(
    part: dict[str, Any], field: str, folders: Path, tmp_path: Path
) -> None:
    with pytest.raises(MismatchError) as refused:
        loaded(folders, variants(folders, control={}, fp8=part), tmp_path)
    assert refused.value.field.startswith(f"experiment {tmp_path / 'ab.yaml'}: {field}: ")


def test_another_codebook_is_served_where_checkpoint_and_catalog_agree(folders: Path, tmp_path: Path) -> None:
    file = variants(folders, control={}, fp8={"checkpoint": "foreign", "catalog": "foreign/catalog"})
    found = loaded(folders, file, tmp_path)
    assert found["fp8"].serving.engine.catalog.fingerprint != found["control"].serving.engine.catalog.fingerprint


@pytest.mark.parametrize(
    ("name", "width", "said"), [("fp8", 17, "at most 16 in this engine, the server's"), ("control", 8, "leave it out")]
)
def test_a_beam_that_the_server_has_not_names_the_variant(
    name: str, width: int, said: str, folders: Path, tmp_path: Path
) -> None:
    file = variants(folders, **{"control": {}, "fp8": {}, name: {"beam_width": width}})
    with pytest.raises(InputError, match=said) as refused:
        loaded(folders, file, tmp_path)
    assert refused.value.field.endswith(f": variants.{name}.beam_width")


def test_a_model_without_the_controls_user_fields_is_refused(folders: Path, tmp_path: Path) -> None:
    catalog = make_catalog()
    (tmp_path / "fewer").mkdir()
    save(make_model(catalog, fields=FIELDS[:1]), tmp_path / "fewer", torch.float32)
    file = variants(folders, control={}, fp8={"checkpoint": str(tmp_path / "fewer")})
    with pytest.raises(InputError, match="lacks plan") as refused:
        loaded(folders, file, tmp_path)
    assert refused.value.field.endswith("variants.fp8.checkpoint: user_fields")


def test_the_file_must_fit_the_servers_settings(folders: Path, tmp_path: Path) -> None:
    config = config_of(folders, {**variants(folders, control={}, fp8={}), "unit": "session"}, tmp_path)
    with pytest.raises(InputError, match=r"unit: got 'session'; must be the server's unit_field, user_id"):
        read_variants(folders / "first", config)
    config = config_of(folders, {**variants(folders, control={}, fp8={}), "hold_out": 0.05}, tmp_path)
    with pytest.raises(InputError, match=r"hold_out_salt: got None; is required"):
        read_variants(folders / "first", config)
    for wrong in ({"experiment": "x"}, {"hold_out_salt": ""}, {"hold_out_salt": "a\0b"}, {"unit_field": ""}):
        with pytest.raises(InputError):
            ServeConfig.of(**wrong)
    for missing in ({"experiment": str(tmp_path / "no.yaml")}, {"experiment": str(config.ab.experiment)}):
        with pytest.raises(InputError, match="there is no such file or folder"):
            ServeConfig.of(experiment_root=str(tmp_path / "none"), **missing).look_at_paths()


def test_too_little_memory_is_refused_with_both_numbers_before_anything_is_loaded(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = variants(folders, control={}, fp8={"checkpoint": "second"}, same={"beam_width": 4})
    needed = sum(model_bytes(folders / name, "cpu") for name in ("first", "second"))
    needed += folder_bytes(folders / "first" / "catalog")
    config = config_of(folders, file, tmp_path)
    monkeypatch.setattr("octorec.serve.variants.free_bytes", lambda device: needed)
    read_variants(folders / "first", config)
    monkeypatch.setattr("octorec.serve.variants.free_bytes", lambda device: needed - 1)
    with pytest.raises(InputError) as refused:
        read_variants(folders / "first", config)
    said = str(refused.value)
    assert f"{needed:,} bytes for 2 checkpoints and 1 catalogs" in said
    assert f"{needed - 1:,} bytes of memory are free" in said


def test_a_model_needs_what_it_takes_once_loaded(folders: Path) -> None:
    engine = load_engine(
        folders / "first", None, ServeConfig.of(batch_sizes=(1,), beam_widths=(16,), default_beam_width=16)
    )
    held = sum(tensor.numel() * tensor.element_size() for tensor in engine.model.state_dict().values())  # type: ignore[attr-defined]
    assert model_bytes(folders / "first", "cpu") == pytest.approx(held, rel=0.02)


def test_free_memory_is_the_least_of_what_host_and_group_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PROC", tmp_path)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "group")
    (tmp_path / "group").mkdir()
    assert free_bytes("cpu") == memory.UNLIMITED
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    1000 kB\n")
    assert free_bytes("cpu") == 1000 * 1024
    (tmp_path / "group" / "memory.max").write_text("max\n")
    assert free_bytes("cpu") == 1000 * 1024
    (tmp_path / "group" / "memory.max").write_text("500000\n")
    (tmp_path / "group" / "memory.current").write_text("300000\n")
    assert free_bytes("cpu") == 200_000
    (tmp_path / "group" / "memory.stat").write_text("anon 1\ninactive_file 50000\n")
    assert free_bytes("cpu") == 250_000


def test_an_experiment_that_was_ended_takes_no_server_down_and_one_of_another_salt_is_no_such(
    folders: Path, tmp_path: Path
) -> None:
    file = variants(folders, control={}, fp8={})
    (tmp_path / "root").mkdir()
    config = config_of(folders, file, tmp_path, experiment_root=str(tmp_path / "root"))
    found = read_variants(folders / "first", config)
    assert not has_ended(found)
    versions = dict.fromkeys(file["variants"], ("model", "catalog"))
    record = records.start(tmp_path / "root", found.experiment, versions, 1000.0)
    assert not has_ended(found)
    records.end(record.folder, 2000.0)
    assert has_ended(found)
    assert not has_ended(dataclasses.replace(found, experiment=dataclasses.replace(found.experiment, salt="another")))
