"""Drills: a staged, benign compromise that irkit itself handles, scored against what was staged."""
