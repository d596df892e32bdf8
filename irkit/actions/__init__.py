"""A playbook's verbs: thin, each calls one capability."""
