"""Playbooks: loaded into types, run step by step, with a journal record before and after each."""
