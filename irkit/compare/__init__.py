"""What changed, and what it means: changes and processes → findings, by rules.  Works on a bundle, without an engine."""
