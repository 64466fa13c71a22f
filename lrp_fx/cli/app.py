"""The command ``lrp-fx app``: a page that explains photographs, patches over them, and the camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lrp_fx.app import classifier_of, serve
from lrp_fx.cli.inputs import find_images
from lrp_fx.cli.models import open_model
from lrp_fx.cli.options import ModelOptions, TalkOptions
from lrp_fx.cli.talk import Talk

EXAMPLES = Path(__file__).parents[2] / "examples" / "photographs"
"""The photographs of a checkout."""


def app(
    model: ModelOptions,
    examples: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="A folder with photographs to try.",
            show_default="those of a checkout",
        ),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(exists=True, help="A video or a folder of pictures that the Live tab plays."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen at; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 for any free one.")
    ] = 7860,
    seconds: Annotated[
        int, typer.Option(min=1, help="How long one live stream may last, in seconds.")
    ] = 600,
    at_once: Annotated[
        int, typer.Option(min=1, help="How many explanations are computed at the same time.")
    ] = 2,
) -> None:
    """Serve a page that explains photographs, patches over them, and the camera.

    Nothing is asked of any other host.

    Exit code: 0 when it is interrupted, 2 wrong usage.

    Examples:
      lrp-fx app
      lrp-fx app --model my_models.py:make --weights w.safetensors --mean 0.5 --std 0.25 --resize 256
      lrp-fx app --frames film.mp4 --port 0
    """
    voice = Talk(TalkOptions())
    with voice.usage():
        classifier = classifier_of(open_model(model, voice))
        folder = examples or (EXAMPLES if EXAMPLES.is_dir() else None)
        serve(
            classifier,
            host=host,
            port=port,
            examples=find_images([folder]) if folder else (),
            frames=frames,
            seconds=seconds,
            at_once=at_once,
            say=voice.result,
        )
