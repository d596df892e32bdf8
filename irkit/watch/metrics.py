"""Metrics for Prometheus, text exposition format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).

By hand: a few counters need no library (docs/adr/0016).  Labels are sources, decisions, the operator's rules and playbooks:
never a text of an alert's, so their number is bounded.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COUNTERS: Mapping[str, str] = {
    "irkit_watch_alerts_received_total": "Alerts received, by source.",
    "irkit_watch_alerts_total": "What became of alerts, by source and decision.",
    "irkit_watch_requests_refused_total": "HTTP requests refused, by status code.",
    "irkit_watch_event_gaps_total": "Times that events of the engine may have been lost.",
    "irkit_watch_runs_started_total": "Runs started, by playbook; dry runs apart.",
    "irkit_watch_runs_finished_total": "Runs ended, by playbook and outcome; dry runs apart.",
    "irkit_watch_reloads_total": "Times that the rules were read anew, by result.",
}
GAUGES: Mapping[str, str] = {
    "irkit_watch_queue_length": "Alerts that wait to be decided on.",
    "irkit_watch_runs_waiting_for_approval": "Runs that wait for an approval.",
    "irkit_watch_runs_under_way": "Runs under way, dry runs too.",
    "irkit_watch_last_alert_timestamp_seconds": "When the last alert came, by source.",
    "irkit_watch_start_timestamp_seconds": "When the watch began.",
}
HISTOGRAM = "irkit_watch_alert_to_frozen_seconds"
Labels = tuple[tuple[str, str], ...]


class Metrics:
    """All numbers.  Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, dict[Labels, float]] = {name: {} for name in (*COUNTERS, *GAUGES)}
        self._buckets = [0] * len(BUCKETS)
        self._sum, self._count = 0.0, 0

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        with self._lock:
            values, key = self._values[name], tuple(sorted(labels.items()))
            values[key] = values.get(key, 0) + amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        with self._lock:
            self._values[name][tuple(sorted(labels.items()))] = value

    def value(self, name: str, **labels: str) -> float:
        """A counter's or gauge's value; 0 when there is none yet."""
        with self._lock:
            return self._values[name].get(tuple(sorted(labels.items())), 0)

    def frozen(self, seconds: float) -> None:
        """How long it took from an alert to the frozen target."""
        with self._lock:
            for place, limit in enumerate(BUCKETS):
                self._buckets[place] += seconds <= limit
            self._sum += seconds
            self._count += 1

    def text(self) -> str:
        """The exposition."""
        with self._lock:
            lines = []
            for name, help_ in (*COUNTERS.items(), *GAUGES.items()):
                lines += [f"# HELP {name} {help_}", f"# TYPE {name} {'counter' if name in COUNTERS else 'gauge'}"]
                values = self._values[name] or ({(): 0.0} if name in GAUGES and "timestamp" not in name else {})
                lines += [f"{name}{_labels(labels)} {_number(value)}" for labels, value in sorted(values.items())]
            lines += [
                f"# HELP {HISTOGRAM} From the alert's own time to the frozen target.",
                f"# TYPE {HISTOGRAM} histogram",
            ]
            for limit, count in zip((*map(_number, BUCKETS), "+Inf"), (*self._buckets, self._count), strict=True):
                lines.append(f'{HISTOGRAM}_bucket{{le="{limit}"}} {count}')
            lines += [f"{HISTOGRAM}_sum {_number(self._sum)}", f"{HISTOGRAM}_count {self._count}"]
        return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
