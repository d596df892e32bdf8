"""A container's place on a network, given up so that it can be asked for again."""

from __future__ import annotations

from irkit.engine.interface import Engine
from irkit.errors import EngineError, NotFound


def leave(engine: Engine, network: str, container: str) -> None:
    """Leave a network; no error when it, or the place on it, is gone already."""
    try:
        engine.disconnect(network, container)
    except NotFound:
        return  # the network or the endpoint is gone already
    except EngineError as error:
        if "is not connected to" not in error.message:
            raise
