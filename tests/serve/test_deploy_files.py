"""What `deploy/` holds for Ray is what `octorec ray config` writes, and what Ray reads."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from octorec.serve.config import ServeConfig
from octorec.serve.ray_config import RayOptions, config_file

DEPLOY = Path(__file__).parents[2] / "deploy"
OF_RAY = {"min_replicas": 2, "max_replicas": 4, "replica_cpus": 8.0, "manifest": "/shared/manifest.json"}


def of_kuberay() -> dict[str, Any]:
    return next(
        one for one in yaml.safe_load_all((DEPLOY / "kuberay/octorec.yaml").read_text()) if one["kind"] != "Secret"
    )


def test_kuberay_has_what_the_verb_writes() -> None:
    written = yaml.safe_load(of_kuberay()["spec"]["serveConfigV2"])
    app = written["applications"][0]
    settings = {name: value for name, value in app["args"].items() if name not in ("checkpoint", "manifest")}
    made = config_file(app["args"]["checkpoint"], ServeConfig.of(**settings), RayOptions(**OF_RAY))
    del made["controller_options"]  # the pods have it in their environment
    assert written == made


def test_ray_accepts_it() -> None:
    schema = pytest.importorskip("ray.serve.schema")
    service = of_kuberay()["spec"]
    read = schema.ServeDeploySchema.model_validate(yaml.safe_load(service["serveConfigV2"]))
    assert read.applications[0].deployments[0].max_ongoing_requests == 256 + 2 * 64


def test_pods_hold_what_a_replica_asks_for() -> None:
    service = of_kuberay()["spec"]
    asked = yaml.safe_load(service["serveConfigV2"])["applications"][0]
    workers = service["rayClusterConfig"]["workerGroupSpecs"][0]
    pod = workers["template"]["spec"]
    limits = pod["containers"][0]["resources"]["limits"]
    options = asked["deployments"][0]["ray_actor_options"]
    assert float(limits["cpu"]) >= options["num_cpus"]
    assert float(limits["nvidia.com/gpu"]) == options["num_gpus"]
    assert workers["maxReplicas"] > asked["deployments"][0]["autoscaling_config"]["max_replicas"]
    mounted = tuple(one["mountPath"] for one in pod["containers"][0]["volumeMounts"])
    for name in ("checkpoint", "token_file", "catalog_root", "model_root", "manifest"):
        assert asked["args"][name].startswith(mounted), name
    assert pod["terminationGracePeriodSeconds"] > asked["deployments"][0]["graceful_shutdown_timeout_s"]


def test_compose_opens_the_entrance_alone() -> None:
    services = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())["services"]
    assert {name for name, one in services.items() if "ports" in one} == {"head"}
    assert services["head"]["ports"] == ["127.0.0.1:8000:8000"]
    assert all("RAY_AUTH_TOKEN" in one["environment"] for one in services.values())
