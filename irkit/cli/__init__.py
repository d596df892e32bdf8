"""The command line: one file a command; each builds a frozen configuration and calls one function."""
