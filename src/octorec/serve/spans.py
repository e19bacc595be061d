"""Spans of requests go to an OpenTelemetry collector. Nothing of OpenTelemetry is imported where they are off.

Where and how they are sent, and how many, is said by OpenTelemetry's own environment variables.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import octorec
from octorec.engine.rank import Ranked
from octorec.errors import InputError
from octorec.serve.pending import Pending
from octorec.serve.settle import Outcome
from octorec.serve.trace_context import TRACE, TraceContext, new_trace, parent_of

logger = logging.getLogger(__name__)
LAST_S = 2.0  # for what was not sent yet, on the way out


class Asked:
    """An Asked is a request of a trace. context: its own place in it."""

    def __init__(self, context: TraceContext, span: Any = None):
        self.context, self._span = context, span

    def ended(self, attribute: str, value: str | int) -> None:
        """Say how it ended."""
        if self._span is not None:
            self._span.set_attribute(attribute, value)


class Spans:
    """Spans are made of requests by a provider of OpenTelemetry's SDK. They hold sizes and names, no user's data."""

    def __init__(self, provider: Any):
        from opentelemetry import trace

        self._api, self._provider = trace, provider
        self._tracer = provider.get_tracer("octorec", octorec.__version__)

    def request(self, name: str, parent: TraceContext | None, attributes: dict[str, Any]) -> Any:
        """Begin the span of a request."""
        return self._tracer.start_span(name, self._below(parent), self._api.SpanKind.SERVER, attributes)

    def searched(self, batch: Sequence[Pending], outcomes: Sequence[Outcome]) -> None:
        """Record how long each request of a batch waited, and the batch."""
        for pending, outcome in zip(batch, outcomes, strict=True):
            if pending.trace is None or not pending.trace.sampled:
                continue
            about = {"octorec.batch_size": len(batch), "octorec.beam_width": pending.parsed.widths[-1]}
            failed = isinstance(outcome, Exception)
            self._record("queue", pending.trace, pending.queued, pending.started, {})
            self._record("engine", pending.trace, pending.started, pending.finished, about, failed)

    def ranked(self, trace: TraceContext | None, ranked: Ranked, start: float, end: float) -> None:
        """Record the time from the found beams to the encoded answer."""
        if trace is not None and trace.sampled:
            about = {"octorec.k": ranked.request.k, "octorec.exact": ranked.exact}
            self._record("ranking", trace, start, end, about)

    def shutdown(self) -> None:
        """Send what is left, for a moment at most."""
        last = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        last.start()
        last.join(LAST_S)

    def _record(
        self, name: str, trace: TraceContext, start: float, end: float, about: dict[str, Any], failed: bool = False
    ) -> None:
        """Record a span whose times are time.monotonic(); an `end` of 0 is now."""
        epoch = time.time_ns() - time.monotonic_ns()
        start_ns, end_ns = (epoch + round(at * 1e9) for at in (start, end or time.monotonic()))
        span = self._tracer.start_span(name, self._below(trace), attributes=about, start_time=start_ns)
        if failed:
            span.set_status(self._api.StatusCode.ERROR)
        span.end(max(start_ns, end_ns))

    def _below(self, parent: TraceContext | None) -> Any:
        """Return the context of spans below `parent`; of None, of the first span of a trace."""
        if parent is None:
            return self._api.set_span_in_context(self._api.INVALID_SPAN)
        api = self._api
        ids = int(parent.trace_id, 16), int(parent.span_id, 16)
        state = api.TraceState.from_header([parent.state]) if parent.state else None
        of = api.SpanContext(*ids, is_remote=True, trace_flags=api.TraceFlags(parent.flags), trace_state=state)
        return api.set_span_in_context(api.NonRecordingSpan(of))


def spans_of(on: bool) -> Spans | None:
    """Return what records spans, or None where they are off."""
    return Spans(_provider()) if on else None


def _provider() -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {"service.name": "octorec", "service.version": octorec.__version__}
    try:
        resource = Resource.create(named).merge(OTELResourceDetector().detect())
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as error:
        raise InputError("spans", True, f"an environment variable OTEL_... cannot be read: {error}") from None
    return provider


@contextmanager
def traced(
    spans: Spans | None, headers: Iterable[tuple[bytes, bytes]], name: str, attributes: dict[str, Any]
) -> Iterator[Asked]:
    """Answer a request within its trace, which is `TRACE` as long; its span ends with the block."""
    parent = parent_of(headers)
    span = None if spans is None else spans.request(name, parent, attributes)
    asked = Asked(_context(span, parent), span)
    token = TRACE.set(asked.context)
    try:
        yield asked
    finally:
        TRACE.reset(token)
        if span is not None:
            span.end()


def _context(span: Any, parent: TraceContext | None) -> TraceContext:
    """Return the place of a request's span; where there is none, a new one."""
    own = None if span is None else span.get_span_context()
    if own is None or not own.is_valid or (parent is not None and f"{own.span_id:016x}" == parent.span_id):
        return new_trace() if parent is None else parent.child()
    state = "" if parent is None else parent.state
    return TraceContext(f"{own.trace_id:032x}", f"{own.span_id:016x}", int(own.trace_flags), state)
