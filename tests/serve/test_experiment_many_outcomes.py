"""A long list of outcomes delays nobody's answer."""

import threading
from pathlib import Path
from typing import Any

import pytest

from octorec.serve import outcomes as module
from tests.serve.served import run
from tests.serve.tried import tried


def test_a_long_list_is_read_beside_the_event_loop_and_a_short_one_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    rows_of = module.rows_of

    def seen(*what: Any) -> Any:
        threads.append(threading.current_thread())
        return rows_of(*what)

    monkeypatch.setattr(module, "rows_of", seen)

    async def test() -> None:
        async with tried(tmp_path) as server:
            many: list[dict[str, Any]] = [{"unit": f"u{number}", "event": "click"} for number in range(2000)]
            for body, taken in ((many[:10], 10), (many, 2000)):
                answer = await server.client.post("/v1/outcomes", json=body)
                assert (answer.status_code, answer.json()) == (202, {"taken": taken})
            assert [thread is threading.current_thread() for thread in threads] == [True, False]
            assert len(server.outcomes) == 2010
            assert server.metric("octorec_outcomes_total") == 2010
            many[1999]["value"] = "much"
            refused = await server.client.post("/v1/outcomes", json=many)
            assert (refused.status_code, refused.json()["error"]["field"]) == (422, "outcomes.1999.value")
            text = await server.client.post("/v1/outcomes", content=b"[" * 20_000, headers=JSON)
            assert (text.status_code, text.json()["error"]["type"]) == (400, "malformed")
            assert len(server.outcomes) == 2010

    run(test())


JSON = {"Content-Type": "application/json"}
