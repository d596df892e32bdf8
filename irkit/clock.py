"""Time: UTC, RFC 3339 with microseconds, everywhere."""

from __future__ import annotations

import time
from functools import lru_cache


def rfc3339(seconds: float) -> str:
    """``seconds`` since the epoch as RFC 3339 in UTC, to the microsecond."""
    return rfc3339_ns(int(seconds * 1_000_000) * 1000)[:-4] + "Z"


def rfc3339_ns(nanoseconds: int) -> str:
    """Nanoseconds since the epoch as RFC 3339 in UTC, to the nanosecond; years outside 1..9999 as ``@seconds``."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    text = _to_the_second(seconds)
    return f"{text}.{fraction:09d}Z" if text else f"@{seconds}.{fraction:09d}"


@lru_cache(maxsize=256)  # most moments of a run are of a few seconds
def _to_the_second(seconds: int) -> str:
    try:
        moment = time.gmtime(seconds)
    except (OverflowError, OSError, ValueError):
        return ""
    if not 1 <= moment.tm_year <= 9999:
        return ""
    return f"{moment.tm_year:04d}-{moment.tm_mon:02d}-{moment.tm_mday:02d}T{moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d}"


def now() -> str:
    """The present moment."""
    return rfc3339(time.time())
