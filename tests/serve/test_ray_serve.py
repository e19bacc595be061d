"""The server in replicas of a real Ray Serve: what a client gets, and a replica that is killed under load."""

import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from benchmarks.overload_model import save_demo_size

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
CLIENTS = 6


def test_replicas_answer_as_one_server_and_one_may_be_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from tests.serve.clustered import QUESTIONS, cluster, deployed, expected, require_right, under_load

    save_demo_size(tmp_path / "one")
    (tmp_path / "tokens").write_text("secret\n")
    (tmp_path / "tokens").chmod(0o600)
    known = {"Authorization": "Bearer secret"}
    with cluster(2):
        found = deployed(tmp_path / "one", 2, token_file=str(tmp_path / "tokens"), max_body_bytes=10_000)
        with httpx.Client(base_url=found.url, headers=known, timeout=60) as client:
            refused = client.post("/v1/recommend", json=QUESTIONS[0], headers={"Authorization": b"Bearer caf\xe9"})
            assert (refused.status_code, refused.json()["error"]["type"]) == (401, "unauthorized")
            large = client.post("/v1/recommend", json={"history": ["i1"] * 10_000})
            assert (large.status_code, large.json()["error"]["type"]) == (413, "too_large")
            wrong = client.post("/v1/recommend", json={"history": ["i1"], "k": 0})
            assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "k")
            for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/octorec", "/openapi.json", "/docs"):
                assert client.get(path).status_code == 200, path
            assert "octorec_version_info{catalog=" in client.get("/metrics").text
        right = expected(tmp_path / "one", QUESTIONS)
        with under_load(found.url, QUESTIONS, CLIENTS, known) as seen:
            time.sleep(2)
            before = found.pids()
            os.kill(before[0], signal.SIGKILL)
            found.until(lambda: len(set(found.pids()) - set(before)) == 1, "another takes its place")
            time.sleep(2)
        require_right(seen, right)
        assert len(seen.failed) <= CLIENTS, seen.failed  # requests that it held
