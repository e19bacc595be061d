"""The config file of Ray Serve has the server's settings, and lets Ray send a replica full batches."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from octorec.errors import InputError
from octorec.serve.config import ServeConfig
from octorec.serve.ray_config import RayOptions, config_file, of_deployment
from tests.cli.test_command import said_at_the_end
from tests.serve.served import make_catalog, save_checkpoint


def options(**given: Any) -> RayOptions:
    return RayOptions(**given)


@pytest.mark.parametrize(
    ("settings", "queued", "batch"),
    [
        ({}, 4 * 32, 32),
        ({"batch_sizes": (1, 128)}, 4 * 128, 128),
        ({"batch_sizes": (1, 128), "max_batch_size": 64}, 4 * 64, 64),
        ({"max_queued_requests": 1000, "batch_sizes": (512,)}, 1000, 512),
    ],
)
def test_a_replica_is_sent_what_fills_its_queue_and_its_batches(
    settings: dict[str, Any], queued: int, batch: int
) -> None:
    made = of_deployment(ServeConfig.of(**settings), options(max_replicas=3))
    assert made["max_queued_requests"] == queued
    assert made["max_ongoing_requests"] == queued + 2 * batch
    assert made["autoscaling_config"]["target_ongoing_requests"] == batch
    assert "num_replicas" not in made


def test_a_replica_has_a_gpu_of_its_own_or_none() -> None:
    assert of_deployment(ServeConfig.of(), options(min_replicas=2, max_replicas=2))["num_replicas"] == 2
    on_gpu = of_deployment(ServeConfig.of(device="cuda"), options(replica_cpus=4))
    assert on_gpu["ray_actor_options"] == {"num_cpus": 4, "num_gpus": 1}
    assert of_deployment(ServeConfig.of(), options())["ray_actor_options"] == {"num_cpus": 1}


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="max_replicas"):
        options(min_replicas=2)
    with pytest.raises(InputError, match="replica_cpus"):
        options(replica_cpus=0)
    with pytest.raises(InputError, match="admin_port"):
        config_file("x", ServeConfig.of(admin_port=0), options())


def test_paths_mean_the_same_on_every_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"catalog": "c", "token_file": "t", "context_module": "m.py:Own", "beam_widths": "8,4-8-16"}
    made = config_file("model", ServeConfig.of(**settings), options(manifest="s3://bucket/manifest.json"))
    args = made["applications"][0]["args"]
    assert args == {
        "checkpoint": f"{tmp_path}/model",
        "token_file": f"{tmp_path}/t",
        "catalog": f"{tmp_path}/c",
        "beam_widths": [8, [4, 8, 16]],
        "context_module": f"{tmp_path}/m.py:Own",
        "manifest": "s3://bucket/manifest.json",
    }
    again = ServeConfig.of(**{name: value for name, value in args.items() if name not in ("checkpoint", "manifest")})
    assert again.engine.beam_widths == (8, (4, 8, 16))
    several = ServeConfig.of(catalog=("video=a", "ad=b"))
    made = config_file("model", several, options())
    assert made["applications"][0]["args"]["catalog"] == [f"video={tmp_path}/a", f"ad={tmp_path}/b"]


def test_the_verb_writes_a_file_that_ray_accepts(tmp_path: Path) -> None:
    schema = pytest.importorskip("ray.serve.schema")
    save_checkpoint(tmp_path / "model", make_catalog())
    flags = ["--out", str(tmp_path / "serve.yaml"), "--manifest", str(tmp_path / "m.json"), "--max-replicas", "3"]
    call = ["ray", "config", str(tmp_path / "model"), *flags, "--batch-sizes", "1,64"]
    for _ in range(2):  # it replaces its own
        assert said_at_the_end(call) == (0, "")
    written = yaml.safe_load((tmp_path / "serve.yaml").read_text())
    read = schema.ServeDeploySchema.model_validate(written)
    assert read.applications[0].deployments[0].max_ongoing_requests == 256 + 2 * 64
    assert read.applications[0].args["batch_sizes"] == [1, 64]
    assert (tmp_path / "m.json").exists()
    (tmp_path / "serve.yaml").write_text("mine: 1\n")
    code, said = said_at_the_end(call)
    assert code == 2
    assert said.startswith("error: out")


def test_the_application_checks_its_args() -> None:
    app = pytest.importorskip("octorec.serve.ray").app
    for args, field in [
        ({}, "checkpoint"),
        ({"checkpoint": "x", "beam": 1}, "args"),
        ({"checkpoint": "x", "k": 1}, "k"),
    ]:
        with pytest.raises(InputError, match=field):
            app(args)
    with pytest.raises(InputError, match="admin_port"):
        app({"checkpoint": "x", "admin_port": 8081})
    with pytest.raises(InputError, match="max_queued_requests"):
        app({"checkpoint": "x", "max_queued_requests": "many"})
