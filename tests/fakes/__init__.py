"""Stand-ins for what irkit talks to.  Each passes the contract suite of what it stands for (``tests/contract``)."""
