"""Figures look the same whatever matplotlib's settings of the user are."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from lrp_fx import LRPFx
from lrp_fx._common import own_style
from lrp_fx.concepts.channels import Concept, Edge
from lrp_fx.concepts.graph import AttributionGraph
from lrp_fx.evaluate import Estimate, Summary
from lrp_fx.evaluate.figure import report_figure
from lrp_fx.evaluate.summary import MetricInfo
from lrp_fx.visualize import (
    bar,
    beeswarm,
    channel_map,
    concept_figure,
    ledger_figure,
    overlay,
    plan_figure,
    save,
    show,
    signal,
    to_pil,
    tokens,
    volume,
)

HOSTILE: Any = {
    "image.origin": "lower",
    "image.interpolation": "bilinear",
    "text.usetex": True,
    "savefig.facecolor": "black",
    "savefig.dpi": 300,
    "savefig.bbox": "tight",
    "savefig.transparent": True,
    "figure.autolayout": True,
    "axes.facecolor": "black",
    "axes.edgecolor": "white",
    "axes.grid": True,
    "axes.xmargin": 0.4,
    "text.color": "white",
    "lines.linewidth": 9,
    "font.size": 30,
    "figure.dpi": 30,
}
ODD = "a $x_1 % & # cost$"
R = torch.arange(-7.0, 5).reshape(1, 3, 4)
PHOTOGRAPH = Image.fromarray(np.arange(36, dtype=np.uint8).reshape(3, 4, 3) * 7)
UPPER, LOWER = Concept(ODD, 1, 2.0), Concept("b", 3, -1.0)


METHODS = ("$x^ $", "b")
SCORES = Summary(
    cells={(method, "srg"): Estimate(1.0, 0.1, 0.5, 1.5, count=4) for method in METHODS},
    metrics=(MetricInfo("srg", higher_is_better=True, settings=""),),
    seconds=dict.fromkeys(METHODS, 1.0),
    notes=("a $note^",),
)


def lrp() -> LRPFx:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("$x^", nn.Linear(4, 3))
    model.add_module("last", nn.Sequential(nn.ReLU(), nn.Linear(3, 2)))
    return LRPFx(model.eval())


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "show": lambda: show(R, PHOTOGRAPH, target=ODD, size=40, smooth=0.5),
    "overlay": lambda: overlay(R, PHOTOGRAPH, contours=(0.5,), title=ODD, size=40),
    "band": lambda: signal(R[0], R[0], names=[ODD, "b", "c"], style="band"),
    "trace": lambda: signal(R[0], R[0], rate=2.0),
    "channels": lambda: channel_map(R[0], names=[ODD, "b", "c"]),
    "volume": lambda: volume(R, R, size=40),
    "bar": lambda: bar(R[0, 0], [ODD, "b", "c", "d"], target=ODD),
    "beeswarm": lambda: beeswarm(R[0], R[0], [ODD, "b", "c", "d"]),
    "tokens": lambda: tokens([ODD, "b", "c", "d"], R[0, 0]).figure(ODD),
    "plan": lambda: plan_figure(lrp().plan()),
    "ledger": lambda: ledger_figure(lrp().audit(torch.ones(1, 4), target=1)),
    "report": lambda: report_figure(SCORES),
    "concepts": lambda: concept_figure(
        AttributionGraph((UPPER, LOWER), (Edge(UPPER, LOWER, -1.0),), 2.0)
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_no_setting_changes_a_figure(name: str, tmp_path: Path) -> None:
    draw = DRAWINGS[name]
    with mpl.rc_context(mpl.rcParamsDefault.copy() | {"backend": "agg"}):
        expected = np.asarray(to_pil(draw()))
    with mpl.rc_context(HOSTILE):
        figure = draw()
        assert np.array_equal(np.asarray(to_pil(figure)), expected)
        figure.savefig(tmp_path / "a.png")
        save(figure, tmp_path / "b.png")
        assert all(mpl.rcParams[key] == value for key, value in HOSTILE.items())
    for file in ("a.png", "b.png"):
        with Image.open(tmp_path / file) as written:
            assert np.array_equal(np.asarray(written.convert("RGB")), expected)


def test_the_font_is_the_users() -> None:
    plain = np.asarray(to_pil(show(R, title="title")))
    with mpl.rc_context({"font.family": "serif"}):
        assert not np.array_equal(np.asarray(to_pil(show(R, title="title"))), plain)


def test_threads_leave_the_settings_as_they_were() -> None:
    """Without a lock, the thread that ends last would leave the settings of the other behind."""
    first_is_in, second_tries = threading.Event(), threading.Event()
    seen: list[Any] = []

    def first() -> None:
        with own_style():
            first_is_in.set()
            second_tries.wait(5)

    def second() -> None:
        first_is_in.wait(5)
        second_tries.set()
        with own_style():
            seen.append(mpl.rcParams["image.origin"])

    with mpl.rc_context({"image.origin": "lower"}):
        threads = [threading.Thread(target=each) for each in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert mpl.rcParams["image.origin"] == "lower"
    assert seen == ["upper"]
