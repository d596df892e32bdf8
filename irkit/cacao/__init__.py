"""CACAO Security Playbooks v2.0 (OASIS): export, checks that its JSON schemas do not make, and import."""
