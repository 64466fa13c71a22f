"""What exported explainers weigh, how exact they are, and how fast they run.

    python benchmarks/export.py --results export.json --out docs/export.md
    python benchmarks/export.py --models resnet50 --formats aot --results export.json --out docs/export.md

Each model is exported in the three formats and run on photographs, whose number is not that of the
example. The runs of the formats and of ``attribute`` are timed in turn, on one thread. It needs
``lrp_fx[export]``, and for the compiled form a C++ compiler. VGG-16, ResNet-50 and ViT-B/16 have random
weights, EfficientNet-Lite0 those of its package.
"""

from __future__ import annotations

import copy
import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from harness.networks import NETWORKS, TRAINED, Network, deviations, examples
from harness.tables import options, put, say, table
from harness.timing import interleaved, timed
from torch import Tensor

from lrp_fx import Composite, LRPFx, composites, rules
from lrp_fx.run.saving import Format, save

MEASURED = {
    each.name: each
    for each in (NETWORKS["vgg16"], NETWORKS["resnet50"], TRAINED, NETWORKS["vit_b_16"])
}
FORMATS: tuple[Format, ...] = ("pt2", "onnx", "aot")
TARGETS = (282, 504, 285, 967)

Run = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def read(path: Path, format: Format) -> Run:
    """The file as a function of images and targets."""
    if format == "pt2":
        return torch.export.load(path).module()
    if format == "aot":
        return torch._inductor.aoti_load_package(str(path))
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path, session_options, providers=["CPUExecutionProvider"]
    )
    names = [each.name for each in session.get_inputs()]

    def run(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        values = dict(zip(names, (x.numpy(), target.numpy()), strict=True))
        output, relevance = session.run(None, values)
        return torch.from_numpy(output), torch.from_numpy(relevance)

    return run


def composite(network: Network, eps: float | None) -> Composite | None:
    """The default composite of a network, with another ε."""
    if eps is None:
        return None
    if network.kind == "convolutional":
        return composites.EpsilonPlus(eps)
    return composites.AttnLRP(dense=rules.Epsilon(eps))


def measured(
    network: Network, how: Composite | None, formats: Sequence[Format], rounds: int
) -> dict[str, Any]:
    """Of each format: seconds of the export, megabytes, errors, ratios of times."""
    model, images = network.make(), examples()
    x, target = torch.cat([images, images.flip(-1)]), torch.tensor(TARGETS)
    lrp = LRPFx(model, how)
    exact = LRPFx(copy.deepcopy(model).double(), how).attribute(x.double(), target=target)
    expected = lrp.attribute(x, target=target)
    found: dict[str, Any] = {"rounding": deviations(expected.double(), exact)}
    programs = []
    exporting = timed(lambda: programs.append(lrp.export(x[:2])))
    one = x[:1].contiguous(), target[:1]
    calls: dict[str, Callable[[], object]] = {"eager": partial(lrp.attribute, *one)}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for format in formats:
            path = Path(folder, format).with_suffix(".onnx" if format == "onnx" else ".pt2")
            saving = timed(partial(save, programs[0], path, format))
            run = read(path, format)
            found[format] = {
                "seconds": exporting + saving,
                "megabytes": path.stat().st_size / 1e6,
                "errors": deviations(run(x, target)[1], expected),
            }
            say(f"{network.name} {format} {found[format]}")
            calls[format] = partial(run, *one)
            calls[format]()
        calls["eager"]()
        seconds = interleaved(calls, rounds)
    found["eager"] = seconds["eager"]
    for format in formats:
        pairs = zip(seconds[format], seconds["eager"], strict=True)
        found[format]["ratios"] = [mine / eager for mine, eager in pairs]
    return found


def median_and_largest(found: Sequence[float]) -> str:
    both = statistics.median(found), max(found)
    return ", ".join(f"{value:.0e}" if value else "0" for value in both)


def rows(network: Network, found: dict[str, Any]) -> list[list[str]]:
    """A line for each format, and one for ``attribute``."""
    lines = []
    for format in (each for each in FORMATS if each in found):
        each = found[format]
        spread = f"{min(each['ratios']):.2f} to {max(each['ratios']):.2f}"
        lines.append(
            [
                "" if lines else network.title,
                f"`{format}`",
                f"{each['seconds']:.0f} s",
                f"{each['megabytes']:.0f} MB",
                median_and_largest(each["errors"]),
                f"{statistics.median(each['ratios']):.2f} ({spread})",
            ]
        )
    eager = f"{statistics.median(found['eager']):.2f} s"
    rounding = median_and_largest(found["rounding"])
    return [*lines, ["", "`attribute`, from float64", "", "", rounding, eager]]


def main() -> None:
    parser = options(__doc__, rounds=7, models=MEASURED)
    parser.add_argument("--formats", choices=FORMATS, nargs="+", default=FORMATS)
    parser.add_argument("--eps", type=float, help="ε of dense layers, 1e-6 unless given")
    parser.add_argument("--results", type=Path, required=True, help="JSON file, which is added to")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    known = json.loads(settings.results.read_text()) if settings.results.exists() else {}
    for name in settings.models:
        network = MEASURED[name]
        how = composite(network, settings.eps)
        found = measured(network, how, settings.formats, settings.rounds)
        known.setdefault(name, {}).update(found)
        settings.results.write_text(json.dumps(known, indent=1))
    head = ["", "", "export", "size", "error: median, largest", "time / `attribute`"]
    lines = [
        line for name in MEASURED if name in known for line in rows(MEASURED[name], known[name])
    ]
    put(settings.out, "export", {"": table(head, lines, "llrrrr")})


if __name__ == "__main__":
    main()
