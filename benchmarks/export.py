"""What exported explainers weigh, how exact they are, and how fast they run.

    python benchmarks/export.py --results export.json --out docs/export.md
    python benchmarks/export.py --only resnet50 --formats aot --results export.json --out docs/export.md

Each model is exported in the three formats and run on photographs, whose number is not that of the
example. One thread; the runs of the formats and of ``attribute`` are timed in turn, and the ratios
are medians over the rounds. The table goes between the marks in the page. It needs ``lrp_fx[export]``
and for the compiled form a C++ compiler. VGG-16, ResNet-50 and ViT-B/16 have random weights,
EfficientNet-Lite0 those of its package.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch
import torchvision
from harness.tables import put
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional

from lrp_fx import Composite, LRPFx, composites, rules, zoo
from lrp_fx.run.export import Format, save

PHOTOGRAPHS = sorted(
    (Path(__file__).parents[1] / "examples" / "photographs").glob("*.jpg"), key=lambda p: p.name
)
TARGETS = (282, 504, 285, 967)


def vgg16() -> nn.Module:
    return torchvision.models.vgg16(weights=None)


def resnet50() -> nn.Module:
    return torchvision.models.resnet50(weights=None)


def efficientnet_lite0() -> nn.Module:
    return zoo.load("efficientnet-lite0").model


def vit_b_16() -> nn.Module:
    """Random weights; those of the head are zero in a new model."""
    model = torchvision.models.vit_b_16(weights=None)
    nn.init.normal_(model.heads.head.weight, std=0.02)
    return model


MODELS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "vgg16": ("VGG-16", vgg16),
    "resnet50": ("ResNet-50", resnet50),
    "efficientnet_lite0": ("EfficientNet-Lite0", efficientnet_lite0),
    "vit_b_16": ("ViT-B/16", vit_b_16),
}


def photographs(count: int) -> Tensor:
    """Two photographs, then these mirrored, normalized: (count, 3, 224, 224)."""
    images = []
    for path in PHOTOGRAPHS:
        cropped = functional.center_crop(functional.resize(Image.open(path), [256]), [224])
        images.append((functional.to_tensor(cropped) - 0.5) / 0.5)
    images += [image.flip(-1) for image in images]
    return torch.stack(images[:count])


def seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def errors(mine: Tensor, expected: Tensor) -> list[float]:
    """Of each sample max |mine − expected| of max |expected|."""
    largest = ((mine - expected).flatten(1).abs().amax(1), expected.flatten(1).abs().amax(1))
    return sorted((largest[0] / largest[1]).tolist())


Run = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def loaded(path: Path, format: Format) -> Run:
    """The file as a function of images and targets."""
    if format == "pt2":
        return torch.export.load(path).module()
    if format == "aot":
        return torch._inductor.aoti_load_package(str(path))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        values = dict(zip(names, (x.numpy(), target.numpy()), strict=True))
        output, relevance = session.run(None, values)
        return torch.from_numpy(output), torch.from_numpy(relevance)

    return run


def composite(name: str, eps: float | None) -> Composite | None:
    """The default composite of a network, with another ε."""
    if eps is None:
        return None
    if name == "vit_b_16":
        return composites.AttnLRP(dense=rules.Epsilon(eps))
    return composites.EpsilonPlus(eps)


def measured(
    model: nn.Module, how: Composite | None, formats: list[Format], repeats: int
) -> dict[str, Any]:
    """Of each format: seconds of the export, megabytes, errors, ratios of times."""
    lrp, x, target = LRPFx(model, how), photographs(4), torch.tensor(TARGETS)
    exact = LRPFx(copy.deepcopy(model).double(), how).attribute(x.double(), target=target)
    expected = lrp.attribute(x, target=target)
    found: dict[str, Any] = {"rounding": errors(expected.double(), exact)}
    began = time.perf_counter()
    program = lrp.export(x[:2])
    exporting = time.perf_counter() - began
    runs: dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for format in formats:
            path = Path(folder, format).with_suffix(".onnx" if format == "onnx" else ".pt2")
            took = exporting + seconds(lambda f=format, p=path: save(program, p, f))
            runs[format] = loaded(path, format)
            found[format] = {
                "seconds": took,
                "megabytes": path.stat().st_size / 1e6,
                "errors": errors(runs[format](x, target)[1], expected),
                "ratios": [],
            }
            print(format, found[format], flush=True)
        one = x[:1].contiguous(), target[:1]
        found["eager"] = []
        for _ in range(repeats + 1):
            eager = seconds(lambda: lrp.attribute(one[0], target=one[1]))
            found["eager"].append(eager)
            for format, run in runs.items():
                found[format]["ratios"].append(seconds(lambda r=run: r(*one)) / eager)
    for each in (found["eager"], *(found[format]["ratios"] for format in formats)):
        del each[0]  # the first round warms up
    return found


def words(found: list[float]) -> str:
    return ", ".join(
        f"{value:.0e}" if value else "0" for value in (statistics.median(found), max(found))
    )


def table(results: dict[str, Any]) -> str:
    """The page's table, and a line about the machine."""
    lines = [
        "| | | export | size | error: median, largest | time / `attribute` |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, (title, _) in MODELS.items():
        if name not in results:
            continue
        found, heading = results[name], title
        for format in ("pt2", "onnx", "aot"):
            if format in found:
                each = found[format]
                ratios = each["ratios"]
                spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
                lines.append(
                    f"| {heading} | `{format}` | {each['seconds']:.0f} s | {each['megabytes']:.0f} MB "
                    f"| {words(each['errors'])} | {statistics.median(ratios):.2f} ({spread}) |"
                )
                heading = ""
        eager = statistics.median(found["eager"])
        lines.append(
            f"| | `attribute`, from float64 | | | {words(found['rounding'])} | {eager:.2f} s |"
        )
    versions = (
        f"PyTorch {torch.__version__.partition('+')[0]}, onnxruntime {onnxruntime.__version__}, "
        f"{platform.machine()}, one thread, batch 1."
    )
    return "\n".join([*lines, "", versions])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=MODELS, nargs="*", default=list(MODELS))
    parser.add_argument("--formats", nargs="*", default=["pt2", "onnx", "aot"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--eps", type=float, help="ε of dense layers, 1e-6 unless given")
    parser.add_argument("--results", type=Path, required=True, help="JSON file, which is added to")
    parser.add_argument("--out", type=Path, help="page whose table is written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = json.loads(options.results.read_text()) if options.results.exists() else {}
    for name in options.only:
        torch.manual_seed(0)
        print(name, flush=True)
        model = MODELS[name][1]().eval()
        how = composite(name, options.eps)
        known.setdefault(name, {}).update(measured(model, how, options.formats, options.repeats))
        options.results.write_text(json.dumps(known, indent=1))
    print(table(known))
    if options.out is not None:
        put(options.out, "export", {"": table(known).splitlines()})


if __name__ == "__main__":
    main()
