"""Whatever is sent to a server with an experiment, as its OpenAPI allows it: no crash, no 500."""

import asyncio
import threading
import time
from pathlib import Path

import httpx
import pytest
import schemathesis
import yaml
from test_fuzz import fuzz

from octorec.evaluate.online.experiment import parse_experiment
from octorec.serve.admin import create_admin_app
from octorec.serve.app import create_app
from octorec.serve.config import ServeConfig
from octorec.serve.run import server_on
from octorec.serve.service import Service
from tests.serve.tried import FILE, Loaded, make_engine, other_items


@pytest.mark.slow
def test_no_request_of_an_experiments_routes_breaks_it(tmp_path: Path) -> None:
    (tmp_path / "ab.yaml").write_text(yaml.safe_dump(FILE, sort_keys=False))
    (tmp_path / "experiments").mkdir()
    paths = {"experiment": str(tmp_path / "ab.yaml"), "experiment_root": str(tmp_path / "experiments")}
    config = ServeConfig.of(port=0, log_requests=False, body_timeout_s=0.5, **paths)
    engines = {"fp8": make_engine(other_items())}
    service = Service(make_engine, "first", config, Loaded(parse_experiment(FILE), config, {}, engines))
    servers = [server_on(app(service), "127.0.0.1", 0, config) for app in (create_app, create_admin_app)]

    async def serve() -> None:
        await asyncio.gather(*(one.serve() for one in servers))

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        while service.state == "loading" or not all(one.started for one in servers):
            time.sleep(0.05)
        assert service.error is None
        ports = [one.servers[0].sockets[0].getsockname()[1] for one in servers]
        for port in ports:
            schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
            operations = [found.ok() for found in schema.get_all_operations()]
            for operation in operations:
                if "experiment" in (operation.tags or ()) or operation.path == "/v1/items":
                    print(fuzz(operation))
        body = {"history": ["i1"], "k": 2, "user": {"user_id": "u1"}}
        assert httpx.post(f"http://127.0.0.1:{ports[0]}/v1/recommend", json=body).status_code == 200
        assert (service.accepted, service.not_live) == (0, None)
    finally:
        for one in servers:
            one.should_exit = True
        thread.join(120)
