"""An engine in memory, for rehearsals and unit tests; it passes the same contract suite as a real one."""
