"""Triggers: alerts of detectors in, runs of playbooks out, by the operator's rules and nobody else's."""
