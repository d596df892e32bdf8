"""The exposition, as Prometheus' own parser reads it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from irkit.watch.metrics import BUCKETS, COUNTERS, GAUGES, HISTOGRAM, Metrics


def test_prometheus_reads_it() -> None:
    metrics = Metrics()
    metrics.count("irkit_watch_alerts_total", source="falco", decision="accepted")
    metrics.count("irkit_watch_alerts_total", 2, source="falco", decision="accepted")
    metrics.count("irkit_watch_runs_started_total", playbook='odd "name"\n\\')
    metrics.set("irkit_watch_queue_length", 3)
    for seconds in (0.2, 0.2, 7000.0):
        metrics.frozen(seconds)
    families = {one.name: one for one in text_string_to_metric_families(metrics.text())}
    assert {one.removesuffix("_total") for one in COUNTERS} | set(GAUGES) | {HISTOGRAM} == set(families)
    samples = {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in families.values()
        for one in family.samples
    }
    assert samples["irkit_watch_alerts_total", (("decision", "accepted"), ("source", "falco"))] == 3
    assert samples["irkit_watch_runs_started_total", (("playbook", 'odd "name"\n\\'),)] == 1
    assert samples["irkit_watch_queue_length", ()] == 3 and samples["irkit_watch_runs_under_way", ()] == 0
    counts = [samples[f"{HISTOGRAM}_bucket", (("le", str(one).removesuffix(".0")),)] for one in BUCKETS]
    assert counts == [0] + [2] * (len(BUCKETS) - 1) and samples[f"{HISTOGRAM}_bucket", (("le", "+Inf"),)] == 3
    assert samples[f"{HISTOGRAM}_count", ()] == 3 and samples[f"{HISTOGRAM}_sum", ()] == 7000.4
