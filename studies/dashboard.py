"""python -m studies.dashboard writes deploy/grafana/octorec.json: what to look at of a server, as Grafana reads it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).parent.parent / "deploy/grafana/octorec.json"
SOURCE = {"type": "prometheus", "uid": "${source}"}
OF = 'job=~"$job", instance=~"$instance"'
WIDTH, HEIGHT = 8, 8  # of a panel; a row has 24


class Panel(NamedTuple):
    """A Panel is a plot. unit: as Grafana names it. lines: expression and legend of each. about: what it tells."""

    title: str
    unit: str
    about: str
    lines: tuple[tuple[str, str], ...]


def rate(metric: str, by: str = "", where: str = "") -> str:
    of = f"{OF}, {where}" if where else OF
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{of}}}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str = "") -> str:
    names = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({names}) (rate({metric}_bucket{{{OF}}}[$__rate_interval])))"


def share(part: str, where: str, whole: str = "") -> str:
    return f"{rate(part, where=where)} / {rate(whole or part)}"


def mean(metric: str) -> str:
    return f"{rate(f'{metric}_sum')} / {rate(f'{metric}_count')}"


REFUSED, OK = 'outcome=~"queue_full|overloaded|deadline"', 'outcome="ok"'
HIT, CACHED, EXACT = 'outcome="hit"', 'source="cached"', 'exact="yes"'
ROWS: dict[str, tuple[Panel, ...]] = {
    "Traffic": (
        Panel(
            "Requests by outcome",
            "reqps",
            "What became of requests.",
            ((rate("octorec_requests_total", "outcome"), "{{outcome}}"),),
        ),
        Panel(
            "Answered in",
            "s",
            "From the decoded body to the encoded answer.",
            tuple(
                (quantile(share, "octorec_e2e_request_latency_seconds"), f"p{100 * share:g}")
                for share in (0.5, 0.9, 0.99)
            ),
        ),
        Panel(
            "No room",
            "percentunit",
            "Share of requests that were refused for lack of room or time.",
            ((share("octorec_requests_total", REFUSED), "refused"),),
        ),
        Panel(
            "Where time goes, p99",
            "s",
            "Queue: load. Device: beams, prompts, a shared card. Encode: long lists.",
            ((quantile(0.99, "octorec_stage_latency_seconds", "stage"), "{{stage}}"),),
        ),
        Panel(
            "Waiting and running",
            "short",
            "Requests in the queue, and on the device.",
            (
                (f"sum by (instance) (octorec_num_requests_waiting{{{OF}}})", "{{instance}} waiting"),
                (f"sum by (instance) (octorec_num_requests_running{{{OF}}})", "{{instance}} running"),
            ),
        ),
        Panel(
            "Wrong requests by field",
            "reqps",
            "Which field clients get wrong.",
            ((rate("octorec_invalid_fields_total", "field"), "{{field}}"),),
        ),
    ),
    "Device": (
        Panel(
            "Batches",
            "ops",
            "Batches a second, and those that failed and were tried request by request.",
            ((rate("octorec_batches_total"), "batches"), (rate("octorec_batch_retries_total"), "tried again")),
        ),
        Panel(
            "How full batches are",
            "percentunit",
            "Near 1: the device has no room left.",
            ((mean("octorec_batch_fill_ratio"), "fill"), (mean("octorec_padding_waste_ratio"), "beams for nobody")),
        ),
        Panel(
            "Memory",
            "bytes",
            "What the process keeps of the GPU, and of that for beginnings of prompts.",
            (
                (f"sum by (instance) (octorec_gpu_memory_bytes{{{OF}}})", "{{instance}} GPU"),
                (f"sum by (instance) (octorec_prefix_cache_bytes{{{OF}}})", "{{instance}} prompts"),
            ),
        ),
        Panel(
            "Prompts",
            "percentunit",
            "Share of prompts whose beginning was there, and of their tokens.",
            (
                (share("octorec_prefix_lookups_total", HIT), "prompts"),
                (share("octorec_prefix_tokens_total", CACHED), "tokens"),
            ),
        ),
    ),
    "Answers": (
        Panel(
            "Exact answers",
            "percentunit",
            "Share of answers that no wider beam could change.",
            ((share("octorec_exact_total", EXACT), "exact"),),
        ),
        Panel(
            "Beams",
            "short",
            "Beams of the search that answered.",
            ((quantile(0.5, "octorec_beam_width"), "p50"), (quantile(0.99, "octorec_beam_width"), "p99")),
        ),
        Panel(
            "Repeats of auto",
            "ops",
            "Searches with wider beams, by what came of them.",
            ((rate("octorec_repeats_total", "outcome"), "{{outcome}}"),),
        ),
        Panel(
            "Short lists",
            "percentunit",
            "Share of answers with fewer items than were asked for.",
            ((f"{rate('octorec_incomplete_total')} / {rate('octorec_requests_total', where=OK)}", "short"),),
        ),
        Panel(
            "Audits and faults",
            "ops",
            "Exact answers that were searched again; scores that are no numbers.",
            (
                (rate("octorec_audits_total", "items"), "audited: {{items}}"),
                (rate("octorec_nonfinite_total"), "no numbers"),
            ),
        ),
    ),
    "Versions": (
        Panel(
            "What answers",
            "short",
            "Replicas by checkpoint and catalog.",
            ((f"count by (model, catalog) (octorec_version_info{{{OF}}})", "{{model}} / {{catalog}}"),),
        ),
        Panel(
            "Age of the catalog",
            "s",
            "Since it was put in place.",
            ((f"octorec_catalog_age_seconds{{{OF}}}", "{{instance}}"),),
        ),
        Panel(
            "Operations",
            "short",
            "Loads, rollbacks and changes in five minutes, by how they ended.",
            (
                (
                    f"sum by (operation, outcome) (increase(octorec_admin_operations_total{{{OF}}}[5m]))",
                    "{{operation}}: {{outcome}}",
                ),
            ),
        ),
        Panel(
            "Weights in place",
            "short",
            "The newest comparison of weights: overlap, drift in nats, pause in s.",
            tuple(
                (f"octorec_refresh_{what}{{{OF}}}", f"{{{{instance}}}} {what}")
                for what in ("overlap", "drift", "pause_seconds")
            ),
        ),
    ),
    "Experiment": (
        Panel(
            "Requests by variant",
            "reqps",
            "Assigned requests.",
            ((rate("octorec_variant_requests_total", "variant"), "{{variant}}"),),
        ),
        Panel(
            "p99 by variant",
            "s",
            "Answered requests.",
            ((quantile(0.99, "octorec_variant_latency_seconds", "variant"), "{{variant}}"),),
        ),
        Panel(
            "Stopped",
            "short",
            "1: the control answers everybody.",
            ((f"max by (instance) (octorec_experiment_stopped{{{OF}}})", "{{instance}}"),),
        ),
        Panel(
            "Outcomes and lost rows",
            "ops",
            "What came in, and what could not be written.",
            (
                (rate("octorec_outcomes_total"), "outcomes"),
                (rate("octorec_outcomes_lost_total"), "outcomes lost"),
                (rate("octorec_exposures_lost_total"), "exposures lost"),
            ),
        ),
    ),
    "Process": (
        Panel(
            "Connections",
            "short",
            "Open ones of both ports.",
            ((f"sum by (instance) (octorec_connections{{{OF}}})", "{{instance}}"),),
        ),
        Panel(
            "Connections that were ended",
            "ops",
            "By why.",
            ((rate("octorec_connections_ended_total", "why"), "{{why}}"),),
        ),
        Panel(
            "Lost log lines and descriptors",
            "short",
            "Nothing here is well.",
            (
                (f"sum by (why) (octorec_log_lines_lost{{{OF}}})", "log: {{why}}"),
                (f"sum (increase(octorec_no_descriptors_total{{{OF}}}[5m]))", "no descriptors"),
            ),
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard. Its variables are the data source, and the servers to look at."""
    panels: list[dict[str, Any]] = []
    top = 0
    for name, row in ROWS.items():
        place = {"h": 1, "w": 24, "x": 0, "y": top}
        panels.append(
            {"type": "row", "title": name, "id": len(panels) + 1, "gridPos": place, "collapsed": False, "panels": []}
        )
        for number, panel in enumerate(row):
            y = top + 1 + HEIGHT * (number // 3)
            place = {"h": HEIGHT, "w": WIDTH, "x": WIDTH * (number % 3), "y": y}
            panels.append(drawn(panel, len(panels) + 1, place))
        top += 1 + HEIGHT * -(-len(row) // 3)
    return {
        "title": "OctoRec",
        "uid": "octorec",
        "tags": ["octorec"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables()},
        "panels": panels,
    }


def variables() -> list[dict[str, Any]]:
    return [
        {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1},
        chosen("job", "Job", "octorec_version_info"),
        chosen("instance", "Server", 'octorec_version_info{job=~"$job"}'),
    ]


def chosen(label: str, title: str, metric: str) -> dict[str, Any]:
    """Return a variable of the values that a metric has of a label, all of them at first."""
    return {
        "name": label,
        "label": title,
        "type": "query",
        "datasource": SOURCE,
        "query": f"label_values({metric}, {label})",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def drawn(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
        for at, (expression, legend) in enumerate(panel.lines)
    ]
    return {
        "type": "timeseries",
        "id": number,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def text() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
