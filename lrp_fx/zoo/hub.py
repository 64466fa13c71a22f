"""The hub of Hugging Face: whether it can be asked, so that without a network nothing waits for it."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit


def why_out_of_reach() -> str:
    """Why the hub cannot be asked; empty if it may answer.

    Only its name is looked up. With a proxy, the name is the proxy's affair.
    """
    import huggingface_hub

    host = urlsplit(huggingface_hub.constants.ENDPOINT).hostname or ""
    if urllib.request.getproxies():
        return ""
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        return f"no network: {host}: {error.strerror or error}"
    return ""


@contextmanager
def silent_hub() -> Iterator[None]:
    """Keep the hub's log of failed attempts out of what a command says."""
    import huggingface_hub

    logging: Any = huggingface_hub.utils.logging
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
