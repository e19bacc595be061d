"""Write an A/B report as one HTML page that needs nothing beside it: all that the terminal says, and plots."""

from collections.abc import Iterator

from octorec.evaluate.online.describe import described
from octorec.evaluate.online.experiment import Experiment
from octorec.evaluate.online.record import Record
from octorec.evaluate.online.results import AbReport
from octorec.evaluate.online.sections import Part, parts_of, verdict
from octorec.evaluate.online.words import moment
from octorec.report.ab_plots import as_svg, over_time
from octorec.report.ab_signs import PAGE
from octorec.report.page import Figure, Section, Table, Text, render


def page(report: AbReport, record: Record, now: float) -> str:
    """Render the whole page, with every name escaped. now: of the report, in seconds since 1970."""
    experiment, started = record.experiment, record.stages[0].since
    lead = f"{PAGE} of {experiment.name} on {moment(now)}; started {moment(started)}"
    sections = [_section(part) for part in parts_of(report, record)]
    sections[1 if report.broken else 0 : 0] = _over_time(report, experiment, started)
    plan = Table(("", "what the experiment's file says"), [list(pair) for pair in described(experiment)])
    return render("".join(verdict(report, experiment)), lead, [*sections, Section("The plan", [plan])])


def _section(part: Part) -> Section:
    table = [Table(part.columns, part.rows)] if part.columns else []
    return Section(part.title, [*table, *map(Text, part.lines)])


def _over_time(report: AbReport, experiment: Experiment, started: float) -> Iterator[Section]:
    """Yield one chart a metric, once there was a look."""
    if report.looks:
        figures = [
            Figure(as_svg(over_time(report.looks, experiment, metric, started)), f"{metric.name}: {about}")
            for metric, about in ((metric, _about(metric.role)) for metric in experiment.metrics.values())
        ]
        yield Section("Intervals over time", figures)


def _about(role: str) -> str:
    decides = "clear of the margin: not inferior" if role == "guardrail" else "clear of zero: better or worse"
    return f"difference to the control with its interval at each look; {decides}"
