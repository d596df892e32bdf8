"""For reviewers: reads bundles, without an engine."""
