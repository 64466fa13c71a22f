"""The parts that tabs share: the components that look alike, and errors as sentences."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import gradio as gr
from gradio.data_classes import ImageData
from PIL import Image
from torch import Tensor

from lrp_fx.app.classifier import Classifier
from lrp_fx.app.live import Explainer
from lrp_fx.composites import PRESETS
from lrp_fx.errors import LRPError
from lrp_fx.visualize import color_key, color_maps

P = ParamSpec("P")
T = TypeVar("T")
PREDICTED = -1
"""The value of the first choice of classes."""
DEFAULT_RULES = "default"
MAX_CLASSES = 2000
"""The largest number of names in the list of classes."""
SIDE = 448
"""The side of drawn pictures in pixels."""


@dataclass(frozen=True)
class Site:
    """The settings of all tabs.

    Args:
        classifier: the model.
        examples: photographs to try.
        frames: a video file or a folder with pictures for the Live tab, where there is no camera.
        files: a folder for the files that visitors download.
        seconds: how long one live stream may last.
        at_once: how many explanations are computed at the same time.
    """

    classifier: Classifier
    examples: Sequence[Path]
    frames: Path | None
    files: Path
    seconds: int
    at_once: int

    def explainer(
        self, target: int, rules: str, percent: float, *, style: str = "map", colors: str
    ) -> Explainer:
        """How pictures are explained, from what the components hold."""
        return Explainer(
            self.classifier,
            composite="" if rules == DEFAULT_RULES else rules,
            share=percent / 100,
            target=None if target == PREDICTED else target,
            style="overlay" if style == "overlay" else "map",
            colors=colors,
            side=SIDE,
        )

    def classes(self, probabilities: Tensor | None = None) -> list[tuple[str, int]]:
        """The choices of classes: the most probable ones first, then all."""
        classifier = self.classifier
        first: list[tuple[str, int]] = [("the predicted class", PREDICTED)]
        best = {} if probabilities is None else classifier.best(probabilities)
        first += [
            (f"{classifier.name_of(index)} ({part:.1%})", index) for index, part in best.items()
        ]
        count = len(classifier.categories) if probabilities is None else len(probabilities)
        rest = [index for index in range(min(count, MAX_CLASSES)) if index not in best]
        return [*first, *((f"{index}: {classifier.name_of(index)}", index) for index in rest)]

    def bars(self, probabilities: Tensor) -> dict[str, float]:
        """The most probable classes by name, for the bars."""
        best = self.classifier.best(probabilities)
        return {self.classifier.name_of(index): part for index, part in best.items()}


def photograph(**options: Any) -> gr.Image:
    """An upload that nothing decodes before its size is known, so that all errors are ours.

    Gradio writes a file beside the source of every class that derives from a component. So this is no
    class, but one image with its own way of taking what was uploaded.
    """
    image = gr.Image(**options)
    image.preprocess = _undecoded
    return image


def _undecoded(payload: ImageData | None) -> str | None:
    """The path of the file, or the data URL of a camera's frame."""
    if payload is None:
        return None
    url: str = payload.url or ""
    return url if url.startswith("data:") else payload.path


def spoken(function: Callable[P, T]) -> Callable[P, T]:
    """Show the errors of the library as a sentence on the page."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generate(*args: P.args, **kwargs: P.kwargs) -> Iterator[object]:
            try:
                yield from function(*args, **kwargs)
            except LRPError as error:
                raise _sentence(error) from error

        return cast(Callable[P, T], generate)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except LRPError as error:
            raise _sentence(error) from error

    return call


def _sentence(error: LRPError) -> gr.Error:
    return gr.Error(str(error), title="This cannot be explained", print_exception=False)


def rules_choice(
    label: str = "Composite", first: str = DEFAULT_RULES, **options: Any
) -> gr.Dropdown:
    """The list of composites."""
    return gr.Dropdown([first, *PRESETS], value=first, label=label, **options)


def share_slider(**options: Any) -> gr.Slider:
    """The slider of the filter, in percent."""
    return gr.Slider(
        1, 100, value=100, step=1, label="The filter keeps the largest … % of relevance", **options
    )


def style_choice(**options: Any) -> gr.Radio:
    """The map alone or over the photograph."""
    return gr.Radio(["map", "overlay"], value="map", label="Show", **options)


def colors_choice(**options: Any) -> gr.Dropdown:
    """The list of colour maps."""
    return gr.Dropdown(list(color_maps()), value=color_maps()[0], label="Colours", **options)


def colors_key(colors: gr.Dropdown | None = None) -> None:
    """A line that says what the colours mean, for a list of colour maps or for the default."""
    key = gr.HTML(color_key(), elem_classes="key")
    if colors is not None:
        colors.input(color_key, colors, key, show_progress="hidden")


def enlarged(picture: Image.Image) -> Image.Image:
    """The picture as large as the maps beside it."""
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BICUBIC)


def visitors_folder(site: Site, request: gr.Request) -> Path:
    """The folder for one visitor's files. The name that the browser sends is not used as a path."""
    visitor = hashlib.sha256(str(request.session_hash).encode()).hexdigest()[:32]
    folder = site.files / visitor
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def drawn_image(label: str, **options: Any) -> gr.Image:
    """A picture that the page draws."""
    return gr.Image(
        label=label, interactive=False, format="png", buttons=["download", "fullscreen"], **options
    )
