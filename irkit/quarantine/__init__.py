"""Quarantine: leave every network, join the case's own, prove it by trying, and give everything back on release."""
