"""The live path: frames per second of the explanation alone and end to end, in stages.

    python benchmarks/live.py --out docs/live.md

A film is made of the two photographs of examples/, panned and zoomed. Each frame goes the way of the
page: a JPEG data URL is decoded, the predicted class is explained, the map is drawn and sent as a JPEG
data URL. The ways are measured in turn, frame by frame, so that all of them meet the same load.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import torch
from harness.tables import options, put, table
from PIL import Image

from lrp_fx.app import Explainer, classifier_of
from lrp_fx.app.drawing import data_url, encoded
from lrp_fx.app.uploads import read_upload
from lrp_fx.zoo import load

PHOTOGRAPHS = Path(__file__).parents[1] / "examples" / "photographs"
SIZE = 640, 480
WAYS = {
    "the default": ("", 1.0),
    "the default, filter 5 %": ("", 0.05),
    "z⁺": ("z_plus", 1.0),
    "z⁺, filter 5 %": ("z_plus", 0.05),
}
STAGES = ("decode", "explain", "draw", "send")


def film(frames: int) -> list[str]:
    """Data URLs of JPEG files, as a browser sends them."""
    found = []
    for number in range(frames):
        files = sorted(PHOTOGRAPHS.glob("*.jpg"))
        photograph = Image.open(files[number % len(files)]).convert("RGB")
        inset = 2 * (number % 20)
        box = (inset, inset, photograph.width - inset, photograph.height - inset)
        found.append(data_url(encoded(photograph.resize(SIZE, box=box))))
    return found


def spread(values: Sequence[float], form: str) -> str:
    """The median, and the range of the middle 80 %."""
    low, high = statistics.quantiles(values, n=10)[0], statistics.quantiles(values, n=10)[-1]
    return f"{statistics.median(values):{form}} ({low:{form}} to {high:{form}})"


def measured(frames: int, warm_up: int) -> list[str]:
    """Measure; the lines of the table."""
    classifier = classifier_of(load("efficientnet-lite0"))
    explainers = {
        name: Explainer(classifier, composite=composite, share=share, side=448)
        for name, (composite, share) in WAYS.items()
    }
    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in WAYS}
    whole: dict[str, list[float]] = {name: [] for name in WAYS}
    forward: list[float] = []
    for number, url in enumerate(film(warm_up + frames)):
        x = classifier.input_of(classifier.see(read_upload(url)))
        begin = perf_counter()
        with torch.no_grad():
            classifier.model(x)
        if number >= warm_up:
            forward.append(perf_counter() - begin)
        for name, explainer in explainers.items():
            begin = perf_counter()
            stages = explainer.show(url).stages
            if number >= warm_up:
                whole[name].append(perf_counter() - begin)
                times[name].append(tuple(getattr(stages, stage) for stage in STAGES))
    head = ["", "frames/s, end to end", "explanations/s alone", *(f"{each}, ms" for each in STAGES)]
    rows = []
    for name in WAYS:
        columns = dict(zip(STAGES, zip(*times[name], strict=True), strict=True))
        rates = [1 / seconds for seconds in whole[name]]
        alone = [1 / seconds for seconds in columns["explain"]]
        ratios = [a / b for a, b in zip(columns["explain"], forward, strict=True)]
        milliseconds = (f"{1000 * statistics.median(columns[stage]):.1f}" for stage in STAGES)
        cells = (spread(rates, ".1f"), spread(alone, ".1f"), *milliseconds, spread(ratios, ".1f"))
        rows.append([name, *cells])
    head.append("explain / forward")
    return table(head, rows, "l" + "r" * (len(head) - 1))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--warm-up", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    put(chosen.out, "live", {"": measured(chosen.frames, chosen.warm_up)})


if __name__ == "__main__":
    main()
