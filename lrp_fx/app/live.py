"""The live path: from a camera's frame to the picture that is sent back, timed in stages."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

from PIL import Image

from lrp_fx.app.classifier import Classifier, Explained
from lrp_fx.app.drawing import COLORS, Style, data_url, draw, encoded
from lrp_fx.app.uploads import read_upload

SPAN = 2.0
"""The frame rate is an average over this many seconds."""


@dataclass(frozen=True)
class Stages:
    """The seconds that one frame took, in each stage.

    Args:
        decode: from the file or data URL to the part of the frame that the model sees.
        explain: the prediction and its relevance.
        draw: the map as a picture.
        send: the picture as the data URL of a JPEG file.
    """

    decode: float
    explain: float
    draw: float
    send: float

    @property
    def total(self) -> float:
        """All stages together."""
        return self.decode + self.explain + self.draw + self.send


@dataclass(frozen=True, eq=False)
class Shown:
    """One frame of the live view.

    Args:
        explained: the explanation.
        drawn: the picture.
        url: the same as a data URL.
        stages: how long it took.
    """

    explained: Explained
    drawn: Image.Image
    url: str
    stages: Stages


@dataclass(frozen=True)
class Explainer:
    """Explains one frame after the other.

    Args:
        classifier: the model.
        composite: the name of a preset; empty for the default of the model.
        share: what the filter keeps.
        target: the class; None for the most probable class of each frame.
        style: the map alone, or over the frame.
        colors: see :func:`~lrp_fx.visualize.color_maps`.
        side: the side of the picture in pixels; None for that of the map.
    """

    classifier: Classifier
    composite: str = ""
    share: float = 1.0
    target: int | None = None
    style: Style = "map"
    colors: str = COLORS
    side: int | None = None

    def show(self, frame: str | Image.Image) -> Shown:
        """The picture for one frame.

        Args:
            frame: a file, the data URL that a browser sends, or a decoded picture.

        Raises:
            LRPError: if the frame cannot be read or explained.
        """
        begin = perf_counter()
        photograph = frame if isinstance(frame, Image.Image) else read_upload(frame)
        seen = self.classifier.see(photograph)
        return self.show_seen(seen, decode=perf_counter() - begin)

    def show_seen(self, seen: Image.Image, *, decode: float = 0.0) -> Shown:
        """The picture for what the model sees of a photograph.

        Args:
            seen: the result of the classifier's ``see``.
            decode: the seconds that this took.

        Raises:
            LRPError: if it cannot be explained.
        """
        times = [perf_counter()]
        explained = self.classifier.explain(
            seen, self.target, composite=self.composite, share=self.share
        )
        times.append(perf_counter())
        drawn = draw(
            explained.relevance, seen, style=self.style, colors=self.colors, side=self.side
        )
        times.append(perf_counter())
        url = data_url(encoded(drawn))
        times.append(perf_counter())
        spans = (end - begin for begin, end in pairwise(times))
        stages = Stages(decode, *spans)
        return Shown(explained, drawn, url, stages)


class Rate:
    """The frames per second of the last two seconds."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def count(self, now: float | None = None) -> float:
        """Count a frame, and return the rate; 0 at the first frame.

        Args:
            now: the time in seconds; None for now.
        """
        now = perf_counter() if now is None else now
        self._times.append(now)
        while self._times[0] < now - SPAN:
            self._times.popleft()
        passed = now - self._times[0]
        return (len(self._times) - 1) / passed if passed else 0.0
