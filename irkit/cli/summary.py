"""What a tired person needs to know at the end of a run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import click
from dateutil.parser import isoparse

from irkit.cli.running import Finished
from irkit.compare.crowd import few
from irkit.text import printable

STATES = {
    "proven": ("ISOLATED, and proven", "green"),
    "frozen-only": ("FROZEN ONLY: do not thaw it", "yellow"),
    "unproven": ("NOT PROVEN: treat it as able to talk", "red"),
    "open": ("OPEN: something got through", "red"),
    "": ("not isolated", "red"),
}
SEVERITY_COLOURS = {"critical": "red", "high": "red", "medium": "yellow", "low": None, "info": None}
SHOWN = 12
EACH = 4
"""Findings of one rule."""
Say = Callable[[str], None]


def summarize(finished: Finished, *, to_stderr: bool) -> None:
    """Print it; to standard error when standard output carries JSON."""

    def say(text: str) -> None:
        click.echo(text, err=to_stderr)

    facts, context = finished.context.facts, finished.context
    say("")
    say(click.style(f"{context.target.name}: {finished.outcome.status}", bold=True))
    if finished.outcome.error is not None:
        say(f"  {click.style('why', fg='red')}         {printable(finished.outcome.error.message)}")
    text, colour = STATES.get(facts.quarantine_state, ("unknown", "red"))
    frozen = _after(finished, "frozen")
    say(f"  frozen      {frozen}" if frozen else "  frozen      no (it was not running, or freezing failed)")
    say(f"  quarantine  {click.style(text, fg=colour)}{_after(finished, 'proven', ', ')}")
    if facts.quarantine_state == "frozen-only":
        say(f"              {printable(facts.quarantine_note or 'the isolation from the network failed: see above')}")
    elif facts.quarantine_state == "proven" and facts.quarantine_note:
        say(f"              {printable(facts.quarantine_note)}")
    _probes(finished, say)
    if facts.sealed is not None:
        say(f"  evidence    {facts.sealed.path}")
        say(
            f"              {facts.sealed.status}, sealed and {'verified' if facts.timeline.get('bundled') else 'not yet verified'}; {facts.sealed.digest}"
        )
    else:
        say(
            f"  evidence    {click.style('no sealed bundle', fg='red')}; what was taken lies in {context.writer.folder}"
        )
    _observed(finished, say)
    _findings(finished, say)
    _gaps(finished, say)
    _next(finished, say)


def _after(finished: Finished, moment: str, lead: str = "") -> str:
    timeline = finished.context.facts.timeline
    if not timeline.get(moment):
        return ""
    seconds = (_time(timeline[moment]) - _time(timeline["started"])).total_seconds()
    return f"{lead}{seconds * 1000:.0f} ms after the run began ({timeline[moment]})"


def _time(text: str) -> datetime:
    return isoparse(text)


def _probes(finished: Finished, say: Say) -> None:
    probes = finished.context.facts.probes
    counts = {
        result: sum(1 for probe in probes if probe.result == result) for result in ("blocked", "reached", "unknown")
    }
    if probes:
        say(
            f"  probes      {len(probes)} tried: {counts['blocked']} blocked, {counts['reached']} reached, {counts['unknown']} unknown"
        )
    for probe in [one for one in probes if one.result != "blocked"][:SHOWN]:
        say(f"              {click.style(probe.result, fg='red')}: {printable(probe.path)}: {printable(probe.detail)}")


def _observed(finished: Finished, say: Say) -> None:
    seen = finished.context.facts.result.get("observed")
    if seen:
        say(f"  observed    {seen['packets']} packets recorded, {seen['events']} events in the sinkhole")
        for text in (*seen["names"][:SHOWN], *seen["places"][:SHOWN]):
            say(f"              called for {printable(text, 120)}")


def _findings(finished: Finished, say: Say) -> None:
    findings = finished.context.facts.findings
    say(f"  findings    {len(findings)}")
    shown = [finding for finding, _ in few(findings, EACH)][:SHOWN]
    for finding in shown:
        severity = click.style(f"{finding.severity:<8}", fg=SEVERITY_COLOURS[finding.severity])
        say(
            f"              {severity} {finding.title} ({', '.join(finding.attack)}): {printable(finding.subject, 120)}"
        )
    if len(findings) > len(shown):
        say(f"              and {len(findings) - len(shown)} more: see the report")


def _gaps(finished: Finished, say: Say) -> None:
    gaps = finished.context.writer.gaps
    if gaps:
        say(f"  gaps        {len(gaps)}: not captured or not checked")
        for gap in gaps[:SHOWN]:
            say(f"              {gap.collector}: {printable(gap.what, 80)}: {printable(gap.why, 200)}")
        if len(gaps) > SHOWN:
            say(f"              and {len(gaps) - SHOWN} more: see the report")


def _next(finished: Finished, say: Say) -> None:
    name, facts = finished.context.target.name, finished.context.facts
    say("  next")
    if finished.outcome.status == "waiting":
        say(f"              irkit case pending, irkit case approve; then irkit resume {finished.context.case.id}")
        return
    if finished.outcome.status == "interrupted":
        say(f"              irkit contain {name}          go on in the same case: it stays as it is now until then")
        return
    if facts.sealed is not None:
        say(f"              irkit report {facts.sealed.path}")
    done = facts.result.get("failover")
    if done:
        say(
            f"              irkit release {printable(done['old_name'])}          if it was a false alarm; remove the new one first"
        )
        return
    say(f"              irkit rebuild {name} --image REPOSITORY:TAG   a clean one in its place")
    say(f"              irkit release {name}          if it was a false alarm")
