"""The explanation itself: its contents, the figures that fit it, and its saving."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lrp_fx.errors import InputError, OptionError
from lrp_fx.explanation.files import (
    FORMAT,
    HEATMAP,
    INPUTS,
    MANIFEST,
    OVERLAY,
    PICTURE,
    RELEVANCE,
    npy,
    path_of,
    put,
)
from lrp_fx.visualize import bar, heatmap, overlay, show, signal, to_bytes, tokens, volume

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS: dict[str, tuple[type, ...]] = {
    "prediction": (int, type(None)),
    "target": (int, str, type(None)),
    "output": (int, float, type(None)),
    "delta": (int, float),
    "plan": (str,),
    "names": (list, tuple),
    "words": (list, tuple),
}
"""The fields in the manifest that are written as they are, and their types."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """The relevance of one sample, with all that is needed to read it. A notebook shows it as a picture.

    Args:
        relevance: ``(1, …)``, of the shape of the input; on the CPU.
        inputs: the model's input, ``(1, …)``; on the CPU.
        picture: what the model saw as 8-bit RGB, ``(H, W, 3)``, if the input is an image.
        prediction: the class with the largest output; None if the output has no classes.
        target: the explained target, as it was passed.
        output: the explained output at the target; None if the target is not one class.
        delta: the sum of the start less the sum of the relevance.
        plan: the plan as text: which operation got which rule, and why.
        names: the names of the classes; empty if none were given.
        words: the names of the input's entries: of tokens, of a table's features, or of channels.
        versions: of the library, torch, and Python.
    """

    relevance: Tensor
    inputs: Tensor
    picture: NDArray[np.uint8] | None
    prediction: int | None
    target: str | int | None
    output: float | None
    delta: float
    plan: str
    names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def target_name(self) -> str:
        """The name of the explained class; its index, or the target, where it has no name."""
        if isinstance(self.target, int) and 0 <= self.target < len(self.names):
            return self.names[self.target]
        return "" if self.target is None else str(self.target)

    @property
    def summary(self) -> str:
        """The explained target, in a line."""
        name = self.target_name or "the output"
        if isinstance(self.target, int) and not self.names:
            name = f"class {self.target}"
        value = "" if self.output is None else f", output {self.output:.4g}"
        other = ""
        if self.prediction is not None and self.prediction != self.target:
            named = 0 <= self.prediction < len(self.names)
            said = self.names[self.prediction] if named else f"class {self.prediction}"
            other = f" (the model says {said})"
        return f"{name}{value}{other}"

    def show(self, *, smooth: float = 0.0) -> Figure:
        """The figure that fits the input: an image, a signal, a volume, tokens or a row.

        Args:
            smooth: σ of Gaussian smoothing, for images, signals and volumes.

        Raises:
            InputError: for relevance of a shape that has no figure.
            OptionError: if matplotlib is missing.
        """
        name, title, shape = self.target_name, self.summary, self.relevance.shape
        if len(shape) == 4:
            picture = self.picture
            return show(self._map, picture, target=name, title=title, smooth=smooth)
        if len(shape) == 5:
            return volume(self.relevance, self.inputs, target=name, title=title, smooth=smooth)
        if len(shape) == 3:
            channels = self.words if len(self.words) == shape[1] else None
            return signal(
                self.relevance, self.inputs, names=channels, target=name, title=title, smooth=smooth
            )
        if len(shape) == 2 and self._is_text:
            return tokens(self._shown_words, self.relevance, target=name).figure(title)
        if len(shape) == 2:
            return bar(self.relevance, self.words or None, self.inputs, target=name, title=title)
        raise InputError(f"there is no figure for relevance of shape {tuple(shape)}")

    def overlay(self, *, smooth: float = 0.0) -> Figure:
        """The map with the outlines of the picture.

        Args:
            smooth: σ of Gaussian smoothing in pixels.

        Raises:
            InputError: if there is no picture.
            OptionError: if matplotlib is missing.
        """
        if self.picture is None:
            raise InputError("only the explanation of an image has an overlay: use show()")
        name, title = self.target_name, self.summary
        return overlay(self._map, self.picture, target=name, title=title, smooth=smooth)

    @property
    def _map(self) -> Tensor:
        """The relevance of an image, summed over its channels, (1, 1, H, W)."""
        return heatmap(self.relevance, dims=2)[:, None]

    @property
    def _is_text(self) -> bool:
        return not self.inputs.is_floating_point()

    @property
    def _shown_words(self) -> Sequence[str]:
        return self.words or [str(index) for index in self.inputs[0].tolist()]

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write a folder: arrays (.npy), pictures (.png), and finally ``manifest.json``.

        All files are made in memory first and take their places together at the end. So a save that
        fails leaves an older explanation as it was, and of several writers the last one wins. The
        manifest has the SHA-256 of all files: a folder without one, or with one that does not fit,
        is not an explanation.

        Args:
            folder: it is made if it does not exist. Files of these names in it are replaced.

        Returns:
            The folder.

        Raises:
            InputError: if it cannot be written.
            OptionError: if the folder is not a path, or if matplotlib is missing.
        """
        place = path_of(folder)
        contents = {RELEVANCE: npy(self.relevance), INPUTS: npy(self.inputs)}
        contents[HEATMAP] = to_bytes(self.show())
        if self.picture is not None:
            contents[PICTURE] = npy(self.picture)
            contents[OVERLAY] = to_bytes(self.overlay())
        manifest = {
            "format": FORMAT,
            "files": {name: hashlib.sha256(each).hexdigest() for name, each in contents.items()},
            "dtypes": [str(each.dtype).removeprefix("torch.") for each in self._tensors],
            **{name: getattr(self, name) for name in KINDS},
            "versions": dict(self.versions),
        }
        try:
            contents[MANIFEST] = json.dumps(manifest, indent=1, allow_nan=False).encode()
        except ValueError as error:
            raise InputError(
                f"an explanation needs a finite delta and output to be saved, not {self.delta} and "
                f"{self.output}"
            ) from error
        put(place, contents)
        return place

    @property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        return self.relevance, self.inputs

    def _repr_png_(self) -> bytes | None:
        """The figure; None, so that a notebook shows the text, without matplotlib or for other shapes."""
        try:
            return to_bytes(self.show())
        except (InputError, OptionError):
            return None

    def _repr_html_(self) -> str | None:
        """Tokens with their relevance, which need no matplotlib; None for other inputs."""
        if self.relevance.ndim != 2 or not self._is_text:
            return None
        words = tokens(self._shown_words, self.relevance, target=self.target_name)
        return f"<div>{escape(self.summary)}</div>{words.html()}"

    def __str__(self) -> str:
        shape = tuple(self.relevance.shape)
        return f"explanation of {self.summary}: relevance {shape}, delta {self.delta:.4g}"

    def __repr__(self) -> str:
        return f"<{self}>"
