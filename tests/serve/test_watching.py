"""Dashboard and alerts name only metrics and labels that a server has, and alerts do as they say, by promtool."""

import json
import re
import shutil
import subprocess
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from octorec.serve.experiment_metrics import ExperimentMetrics
from octorec.serve.metrics import Metrics
from octorec.serve.refusal import STATUS
from studies.dashboard import FILE, dashboard, text
from tests.serve.served import Process, make_catalog, make_engine, one_process, run, save_checkpoint, served

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/octorec.rules.yaml"
FROM_PROMETHEUS = {"instance", "job", "le"}
ON_A_GPU = {"octorec_gpu_memory_bytes"}  # a server has it there alone
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def expressions() -> list[str]:
    rules = [one["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for one in group["rules"]]
    panels = [one["expr"] for panel in dashboard()["panels"] for one in panel.get("targets", [])]
    return [*rules, *panels, *(one["query"] for one in dashboard()["templating"]["list"] if "octorec" in one["query"])]


def asked() -> dict[str, set[str]]:
    """The labels that expressions ask for, by the names of metrics."""
    found: dict[str, set[str]] = {}
    for expression in expressions():
        for name, where in re.findall(r"(octorec_\w+)(?:\{(.*?)\})?", expression):
            found.setdefault(name, set()).update(re.findall(r"(\w+)(?==|!=)", where))
        by = {label for group in re.findall(r"by \((.*?)\)", expression) for label in group.split(", ")}
        for name in re.findall(r"octorec_\w+", expression):
            found[name] |= by
    return found


def labels_of_metrics() -> dict[str, set[str]]:
    """The labels of every metric that the server's classes have."""
    metrics = Metrics()
    metrics.watch(lambda: 0, lambda: 0, lambda: 0, on_gpu=True)
    metrics.watch_log({"full": 0, "sampled": 0, "failed": 0})
    registry = CollectorRegistry()
    ExperimentMetrics(registry)
    found = {}
    for one in (metrics.registry, registry):
        for collector in one._collector_to_names:
            for name in one._collector_to_names[collector]:
                found[name] = set(collector._labelnames)  # type: ignore[attr-defined]
    return found


def test_every_metric_and_label_is_there() -> None:
    known = labels_of_metrics()
    for name, labels in asked().items():
        assert name in known, name
        assert labels <= known[name] | FROM_PROMETHEUS, (name, labels - known[name])


def test_every_outcome_is_one_of_the_servers() -> None:
    named = [said for one in expressions() for said in re.findall(r'requests_total\{[^}]*outcome=~?"(.*?)"', one)]
    outcomes = {outcome for said in named for outcome in said.split("|")}
    assert outcomes
    assert outcomes <= set(STATUS)


@one_process
def test_a_running_server_has_them() -> None:
    async def test() -> None:
        async with served(make_engine()) as (service, client):
            ExperimentMetrics(service.metrics.registry)  # those of an experiment, which this server does not run
            service.metrics.watch_log({"full": 0, "sampled": 0, "failed": 0})
            await client.post("/v1/recommend", json={"history": ["i1"]})
            text = (await client.get("/metrics")).text
            families = {family.name: family for family in text_string_to_metric_families(text)}
            for name in set(asked()) - ON_A_GPU:
                family = re.sub(r"_(total|bucket|sum|count)$", "", name)
                assert name in families or family in families, name

    run(test())


@pytest.mark.slow
def test_a_server_with_workers_has_them(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    ExperimentMetrics(registry)
    experiments = {one.name for one in registry.collect()}  # which need one process
    save_checkpoint(tmp_path / "model", make_catalog())
    flags = ("--batch-sizes", "1", "--beam-widths", "16", "--default-beam-width", "16", "--http-workers", "2")
    process = Process(tmp_path / "model", *flags)
    try:
        url = f"http://127.0.0.1:{process.line('listening')['port']}"
        until = time.monotonic() + 60
        while httpx.get(f"{url}/v2/health/ready").status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert httpx.post(f"{url}/v1/recommend", json={"history": ["i1"]}, timeout=60).status_code == 200
        there = httpx.get(f"{url}/metrics", timeout=60).text
    finally:
        process.process.terminate()
        process.end()
    families = {family.name: family for family in text_string_to_metric_families(there)}
    for name in set(asked()) - ON_A_GPU:
        family = re.sub(r"_(total|bucket|sum|count)$", "", name)
        assert {name, family} & families.keys() or family in experiments, name


def test_every_metric_of_a_server_is_on_the_dashboard_or_an_alert() -> None:
    shown = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in asked()}
    there = {re.sub(r"_(total|bucket|sum|count|created|info)$", "", name) for name in labels_of_metrics()}
    assert there - shown - {"octorec_version", "octorec_experiment_stage"} == set()


def test_the_dashboard_is_the_one_of_its_program() -> None:
    assert FILE.read_text() == text(), "run python -m studies.dashboard"


def test_panels_do_not_overlap_and_ask_the_chosen_source() -> None:
    panels: list[dict[str, Any]] = json.loads(FILE.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert one["x"] + one["w"] <= 24
    for panel in panels:
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${source}"
        refs = [target["refId"] for target in panel.get("targets", [])]
        assert len(set(refs)) == len(refs)


@needs_promtool
def test_promtool_finds_the_rules_right_and_their_tests_pass() -> None:
    for how in (("check", "rules", "octorec.rules.yaml"), ("test", "rules", "octorec.test.yaml")):
        done = subprocess.run(["promtool", *how], cwd=RULES.parent, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_every_expression_is_one_of_prometheus(expression: str, tmp_path: Path) -> None:
    if expression.startswith("label_values"):
        return
    rule = {
        "record": "one",
        "expr": expression.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$job", ".*"),
    }
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": [rule]}]}))
    done = subprocess.run(["promtool", "check", "rules", str(tmp_path / "rules.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_alert_has_a_line_on_the_page() -> None:
    page = (ROOT / "docs/watching.md").read_text()
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert f"| `{rule['alert']}` |" in page
            assert set(rule["annotations"]) == {"summary", "description"}
