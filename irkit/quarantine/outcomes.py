"""What the kernel says when a road is closed."""

from __future__ import annotations

import errno

BLOCKING = {
    errno.ENETUNREACH: "no route", errno.EHOSTUNREACH: "host unreachable", errno.EADDRNOTAVAIL: "no address of that family",
    errno.EACCES: "administratively prohibited", errno.EPERM: "administratively prohibited", errno.ENETDOWN: "the interface is down",
    errno.EAFNOSUPPORT: "address family not supported", errno.EINVAL: "no address of that family on the interface",
    errno.ENODEV: "no such interface",
}  # fmt: skip
"""``errno`` → reason, for errors that mean: not a single packet left."""
