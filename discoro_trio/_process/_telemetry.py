"""OpenTelemetry: spans of computations and coroutines, and measurements; on while `config.opentelemetry` is set.

This module owns everything that imports OpenTelemetry, and does so at the first use. It uses the API only: the program
sets up the SDK and the exporters. The starter of a coroutine makes its span and sends its context with the start. The
server makes that context current, so spans, logs and coroutines that the coroutine begins there belong to it; if the
server has an SDK, it adds a span for the run itself.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from .._config import config
from .execution._outcome import Ending

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.context import Context
    from opentelemetry.metrics import Observation
    from opentelemetry.trace import Span, SpanContext, Tracer

    from .._values import Location
    from .execution._outcome import Outcome
    from .execution._submission import Submission

Carrier = dict[str, str]
"""A span's context as it travels: the headers of the propagators, by default `traceparent` and `baggage`."""

_SCOPE = "discoro_trio"


def _tracer() -> Tracer:
    from opentelemetry import trace  # noqa: PLC0415 - only if it is switched on

    return trace.get_tracer(_SCOPE)


def is_installed() -> bool:
    """Whether the API of OpenTelemetry can be imported."""
    try:
        import opentelemetry.trace  # noqa: F401, PLC0415 - as above
    except ImportError:
        return False
    return True


# --- at the starter


class Started:
    """The span of a coroutine, from its start until its outcome is known.

    Attributes:
        carrier: Its context, which is sent with the start.
    """

    def __init__(self, name: str) -> None:
        from opentelemetry import propagate, trace  # noqa: PLC0415 - as above

        self._span: Span = _tracer().start_span(name, kind=trace.SpanKind.PRODUCER)
        _own.begun()
        self.carrier: Carrier = {}
        propagate.inject(self.carrier, trace.set_span_in_context(self._span))
        self._follows = False

    def follow(self, started: Submission) -> None:
        """End the span with the coroutine. A further call does nothing."""
        if not self._follows:
            self._follows = True
            started.then(self._ended)

    def current(self) -> AbstractContextManager[Span]:
        """Make it the parent of all that begins in the block."""
        from opentelemetry import trace  # noqa: PLC0415 - as above

        return trace.use_span(self._span, record_exception=False, set_status_on_exception=False)

    def failed(self, error: BaseException) -> None:
        """End the span of a coroutine that was never sent."""
        _own.ended(failed=True)
        _set_error(self._span, error)
        self._span.end()

    def _ended(self, started: Submission) -> None:
        self._span.set_attribute("discoro.coroutine", f"{started.home.hex()}-{started.serial:x}")
        if started.host is not None:
            self._span.set_attribute("discoro.server", str(started.host.link.peer.location))
        assert started.outcome is not None  # noqa: S101 - it has ended
        _own.ended(failed=started.failed)
        _set_outcome(self._span, started.outcome)
        self._span.end()


@asynccontextmanager
async def traced(name: str) -> AsyncIterator[None]:
    """Make a new span the parent of all that begins in the block, if telemetry is on."""
    if not config.opentelemetry:
        yield
        return
    with _tracer().start_as_current_span(name):
        yield


# --- at the server


class Entered:
    """The context of a coroutine that another process has started, in the coroutine's task.

    It must be left in the task that made it.
    """

    def __init__(self, carrier: Carrier, name: str, at: Location) -> None:
        from opentelemetry import context, propagate, trace  # noqa: PLC0415 - as above

        config.opentelemetry = True  # what is started from here is traced, too
        sent: Context = propagate.extract(carrier)
        attributes = {"discoro.server": str(at)}
        self._span: Span = _tracer().start_span(name, sent, trace.SpanKind.CONSUMER, attributes)
        self._token = context.attach(trace.set_span_in_context(self._span, sent))

    def leave(self, outcome: Outcome) -> None:
        """End the span with the coroutine's outcome."""
        from opentelemetry import context  # noqa: PLC0415 - as above

        context.detach(self._token)
        _set_outcome(self._span, outcome)
        self._span.end()


def entered(carrier: Carrier, name: str, at: Location) -> Entered | None:
    """Make a received context current; None if this process has no OpenTelemetry."""
    return Entered(carrier, name, at) if is_installed() else None


# --- outcomes


def _set_outcome(span: Span, outcome: Outcome) -> None:
    span.set_attribute("discoro.ending", outcome.ending.name.lower())
    if outcome.ending is Ending.VALUE or not span.is_recording():
        return
    error = outcome.error()
    if outcome.ending is not Ending.CANCELLED and error is not None:
        _set_error(span, error)


def _set_error(span: Span, error: BaseException) -> None:
    from opentelemetry.trace import StatusCode  # noqa: PLC0415 - as above

    span.record_exception(error)
    span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")


# --- logs


def current_ids() -> tuple[str, str]:
    """Return the trace id and the span id of the calling task, as hexadecimal digits; empty without a span."""
    from opentelemetry import trace  # noqa: PLC0415 - as above

    context: SpanContext = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return "", ""
    return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)


@contextmanager
def within(trace_id: str, span_id: str, record: logging.LogRecord) -> Iterator[None]:
    """Handle a forwarded log record in the context in which it was logged.

    The record gets the attributes that OpenTelemetry's instrumentation of `logging` sets.
    """
    from opentelemetry import trace  # noqa: PLC0415 - as above

    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    context = trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=flags)
    record.__dict__.update(otelTraceID=trace_id, otelSpanID=span_id, otelTraceSampled=True)
    with trace.use_span(trace.NonRecordingSpan(context)):
        yield


# --- metrics


@attrs.frozen
class Measured:
    """One measurement."""

    name: str
    text: str
    """What is measured."""
    value: float
    counts: bool = False
    """Whether it only grows."""
    attributes: Mapping[str, str] = attrs.Factory(dict)


_sources: list[Callable[[], Iterable[Measured]]] = []
"""Exporters call these in threads of their own, so they read only values that never change, or single numbers."""
_instruments: set[str] = set()


@contextmanager
def measured_by(source: Callable[[], Iterable[Measured]]) -> Iterator[None]:
    """Let exporters read measurements from a source while the block lasts, if telemetry is on.

    Args:
        source: Returns the measurements; called in any thread. `declare` must know their names.
    """
    if not config.opentelemetry:
        yield
        return
    _add(source)
    try:
        yield
    finally:
        _sources.remove(source)


def _add(source: Callable[[], Iterable[Measured]]) -> None:
    declare(source())
    _sources.append(source)


def declare(measured: Iterable[Measured]) -> None:
    """Make the instruments of measurements whose names are new."""
    for one in measured:
        if one.name not in _instruments:
            _instruments.add(one.name)
            _make(one)


def _make(first: Measured) -> None:
    from opentelemetry import metrics  # noqa: PLC0415 - as above

    meter = metrics.get_meter(_SCOPE)
    make = meter.create_observable_counter if first.counts else meter.create_observable_gauge
    make(first.name, [_reader(first.name)], description=first.text)


def _reader(name: str) -> Callable[[Any], list[Observation]]:
    from opentelemetry.metrics import Observation  # noqa: PLC0415 - as above

    def read(_options: object) -> list[Observation]:
        every = [one for source in list(_sources) for one in source() if one.name == name]
        return [Observation(one.value, dict(one.attributes)) for one in every]

    return read


COUNTERS = {
    "submitted": "Coroutines that were started.",
    "done": "Coroutines that have ended, in any way.",
    "failed": "Coroutines that raised or were lost with their server.",
}
"""The names and descriptions of the counts of coroutines, also those of a monitor."""
RUNNING = "Coroutines that have not ended."


class _Own:
    """The counts of the coroutines that this process has started since telemetry is on."""

    def __init__(self) -> None:
        self.submitted = 0
        self.done = 0
        self.failed = 0
        self._added = False

    def begun(self) -> None:
        self.submitted += 1
        if not self._added:
            self._added = True
            _add(self.measured)

    def ended(self, *, failed: bool) -> None:
        self.done += 1
        self.failed += failed

    def measured(self) -> Iterable[Measured]:
        own = {"discoro.source": "starter"}
        yield Measured("discoro_running", RUNNING, self.submitted - self.done, attributes=own)
        for name, text in COUNTERS.items():
            value: int = getattr(self, name)
            yield Measured(f"discoro_coroutines_{name}", text, value, counts=True, attributes=own)


_own = _Own()
