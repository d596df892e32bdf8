"""Collectors: each reads one kind of state, from the host's side, and hands streams to the bundle."""
