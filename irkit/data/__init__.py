"""Package data: the shipped playbooks and forensics rules, found by irkit.resources."""
