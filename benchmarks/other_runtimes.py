"""Beyond eager torch: a compiled explainer at changing batch sizes, int8 weights, onnxruntime.

    python benchmarks/other_runtimes.py --out docs/performance.md

One thread, seconds of the processor. The first table compiles ResNet-18 once and calls it at one
batch size after the other. The second has torch.ao's dynamic int8 form of a BERT, whose packed weights
no rule can read: what its forward pass would save, and what the map changes if the float model gets the
rounded weights. The third has an explainer as an ONNX file beside the file of its forward pass alone,
both run by onnxruntime.
It needs ``lrp_fx[export]``, transformers and a C++ compiler.
"""

from __future__ import annotations

import copy
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from harness.contestants import TARGET, quietly
from harness.networks import TRAINED, Bert, examples, settle_batch_norm
from harness.tables import options, put, table
from harness.timing import quartiles
from torch import Tensor, nn
from torchvision.models import resnet18

from lrp_fx import LRPFx

SIZES = (2, 4, 3, 5, 8)


def _seconds(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The median seconds of the processor of each call, made in turn."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.process_time()
            call()
            found[name].append(time.process_time() - began)
    return {name: quartiles(each).median for name, each in found.items()}


def _distance(own: Tensor, other: Tensor) -> str:
    return f"{float((own - other).abs().max() / own.abs().max()):.0e}"


def _cosine(own: Tensor, other: Tensor) -> str:
    return f"{float(nn.functional.cosine_similarity(own.flatten(), other.flatten(), 0)):.4f}"


def changing_batches(rounds: int) -> list[str]:
    """One compiled explainer at several batch sizes."""
    torch.manual_seed(0)
    model = resnet18().eval()
    settle_batch_norm(model, torch.randn(2, 3, 224, 224))
    eager, compiled = LRPFx(model, "epsilon_plus"), LRPFx(model, "epsilon_plus").compile()
    rows = []
    for size in SIZES:
        x = torch.randn(size, 3, 224, 224)
        expected = eager.attribute(x, target=TARGET)
        began = time.perf_counter()
        distance = _distance(expected, compiled.attribute(x, target=TARGET))
        first = time.perf_counter() - began
        calls = {
            "eager": partial(eager.attribute, x, target=TARGET),
            "compiled": partial(compiled.attribute, x, target=TARGET),
        }
        seconds = _seconds(calls, rounds)
        ratio = seconds["compiled"] / seconds["eager"]
        rows.append(
            [str(size), f"{first:.1f}", f"{seconds['eager']:.2f}", f"{ratio:.2f}", distance]
        )
    head = ["batch, in this order", "first call, s by the clock", "eager, s", "compiled / eager"]
    return table([*head, "distance, of max ∣R∣"], rows)


def rounded_weights(rounds: int) -> list[str]:
    """A BERT in int8, and the map of the float model with weights rounded to int8."""
    torch.manual_seed(0)
    model = Bert(12).eval()
    tokens = torch.randint(30522, (1, 128))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao announces its successor
        quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    rounded = copy.deepcopy(model)
    for name, module in rounded.named_modules():
        if isinstance(module, nn.Linear):
            packed: Any = quantized.get_submodule(name)
            module.weight.data = packed.weight().dequantize()
    own, other = (LRPFx(each, "attn_lrp") for each in (model, rounded))
    maps = [each.attribute(tokens, target=1) for each in (own, other)]
    with torch.no_grad():
        logits = [each(tokens) for each in (model, quantized, rounded)]
        seconds = _seconds(
            {
                "float": partial(model, tokens),
                "int8": partial(quantized, tokens),
                "map": partial(own.attribute, tokens, target=1),
            },
            rounds,
        )
    rows = [
        ["forward pass in float32, s", f"{seconds['float']:.3f}"],
        ["forward pass in int8 (torch.ao, dynamic), s", f"{seconds['int8']:.3f}"],
        ["map in float32, s", f"{seconds['map']:.3f}"],
        ["logits of int8, distance of max", _distance(logits[0], logits[1])],
        ["logits of rounded weights, distance of max", _distance(logits[0], logits[2])],
        ["map of rounded weights, distance of max ∣R∣", _distance(*maps)],
        ["map of rounded weights, cosine", _cosine(*maps)],
    ]
    return table(["BERT-base, 128 tokens", ""], rows)


def _session(path: Path) -> onnxruntime.InferenceSession:
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, chosen, providers=["CPUExecutionProvider"])


def in_onnxruntime(rounds: int) -> list[str]:
    """An explainer in onnxruntime beside the forward pass alone."""
    model = TRAINED.make().eval()
    x = examples()[:1]
    lrp = LRPFx(model, "epsilon_plus")
    with tempfile.TemporaryDirectory() as folder:
        plain, explainer = Path(folder, "plain.onnx"), Path(folder, "explainer.onnx")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model, (x,), plain, dynamo=True, verbose=False)
        lrp.export(x, path=explainer, format="onnx")
        forward, both = _session(plain), _session(explainer)
        image, target = (each.name for each in both.get_inputs())
        given = {image: x.numpy(), target: torch.full((len(x),), TARGET).numpy()}
        only = {forward.get_inputs()[0].name: x.numpy()}
        relevance = torch.from_numpy(both.run(None, given)[1])
        with torch.no_grad():
            seconds = _seconds(
                {
                    "onnxruntime forward": lambda: forward.run(None, only),
                    "onnxruntime explainer": lambda: both.run(None, given),
                    "torch forward": lambda: model(x),
                    "torch attribute": lambda: lrp.attribute(x, target=TARGET),
                },
                rounds,
            )
        distance = _distance(lrp.attribute(x, target=TARGET), relevance)
    base = seconds["onnxruntime forward"]
    rows = [[name, f"{1e3 * each:.0f}", f"{each / base:.2f}"] for name, each in seconds.items()]
    rows.append(["distance of the maps, of max ∣R∣", distance, ""])
    return table(["EfficientNet-Lite0, batch 1", "ms", "× onnxruntime's forward"], rows)


def main() -> None:
    settings = options(__doc__, rounds=5, models=("compiled", "int8", "onnx")).parse_args()
    quietly()
    torch.set_num_threads(1)
    made = {"compiled": changing_batches, "int8": rounded_weights, "onnx": in_onnxruntime}
    tables = {name: made[name](settings.rounds) for name in settings.models or made}
    put(settings.out, "other_runtimes", tables)


if __name__ == "__main__":
    main()
