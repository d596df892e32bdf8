"""Package data: the shipped playbooks and forensics rules, found through importlib.resources."""
