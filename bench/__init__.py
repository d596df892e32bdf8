"""Benchmarks: ratios against the docker command line in the same run."""
