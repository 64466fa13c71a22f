"""Serves the page: on this machine alone unless another address is asked for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from lrp_fx._common import needed
from lrp_fx.app.classifier import Classifier
from lrp_fx.app.guard import Application, Guard
from lrp_fx.app.uploads import LARGEST_UPLOAD
from lrp_fx.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
STREAM_SECONDS = 600
"""A live stream ends after ten minutes, so that a forgotten tab does not compute all night."""


@contextmanager
def application(
    classifier: Classifier,
    *,
    hosts: tuple[str, ...] | None = LOOPBACK,
    examples: Sequence[Path] = (),
    frames: Path | None = None,
    seconds: int = STREAM_SECONDS,
    at_once: int = 2,
) -> Iterator[Application]:
    """The page as an ASGI application, for any server. Files of visitors are deleted at its end.

    Args:
        classifier: the model.
        hosts: the names under which it may be called; None for all.
        examples: photographs to try.
        frames: a video or a folder of pictures for the Live tab.
        seconds: how long one live stream may last.
        at_once: how many explanations are computed at the same time.

    Raises:
        OptionError: if Gradio is missing.
    """
    with needed("the page needs"):
        # read when Gradio is imported; a switch that the user has set stays
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
        import gradio
        from fastapi import FastAPI

        from lrp_fx.app.page import page
        from lrp_fx.app.tabs import Site
    with TemporaryDirectory(prefix="lrp_fx-") as folder:
        files = Path(folder).resolve()
        site = Site(classifier, examples, frames, files, seconds, at_once)
        mounted = gradio.mount_gradio_app(
            FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
            page(site),
            path="/",
            allowed_paths=[folder, *(str(file.resolve()) for file in examples)],
            max_file_size=LARGEST_UPLOAD,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            show_error=True,
        )
        yield Guard(mounted, hosts=hosts)


def serve(
    classifier: Classifier,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    examples: Sequence[Path] = (),
    frames: Path | None = None,
    seconds: int = STREAM_SECONDS,
    at_once: int = 2,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the page until it is interrupted.

    Args:
        classifier: the model.
        host: the address to listen at; the default is this machine alone.
        port: 0 for any free one.
        examples: photographs to try.
        frames: a video or a folder of pictures for the Live tab.
        seconds: how long one live stream may last.
        at_once: how many explanations are computed at the same time.
        say: gets the address of the page.

    Raises:
        OptionError: if Gradio is missing.
        InputError: if the address is in use, or the model is not a classifier of pictures.
    """
    with needed("the page needs"):
        import uvicorn
    classifier.explain(classifier.see(Image.new("RGB", (256, 256), "gray")))  # reads the model now
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    with listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"cannot listen at {host}, port {port}: {reason}; --port 0 takes a free one"
            ) from error
        local = host in LOOPBACK or host == "::1"
        with application(
            classifier,
            hosts=LOOPBACK if local else None,
            examples=examples,
            frames=frames,
            seconds=seconds,
            at_once=at_once,
        ) as asgi:
            name = f"[{host}]" if ":" in host else host
            say(f"lrp-fx app: http://{name}:{listening.getsockname()[1]} (Ctrl-C ends it)")
            server = uvicorn.Server(uvicorn.Config(asgi, log_level="warning"))
            server.run(sockets=[listening])
