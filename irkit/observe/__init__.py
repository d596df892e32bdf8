"""Watching a target that keeps running inside its quarantine, from the host: its traffic, and what it calls home for."""
