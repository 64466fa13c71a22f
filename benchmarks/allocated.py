"""The peak of what torch has allocated in a call, beside the resident memory of `benchmarks/speed`.

    python benchmarks/allocated.py

The C library keeps freed blocks of up to 32 MB, so resident memory is more than what is in use. Here only
what is in use counts, by the allocator's own events. Modified weights are added: they are there between
calls.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from lrp_fx import LRPFx

MODELS, BATCH = ("vgg16", "resnet50"), 8
OPTIONS = {"keep": {}, "recompute": {"memory": "recompute"}}


def peak(call: Callable[[Tensor], object], x: Tensor) -> int:
    """The largest number of bytes in use above those at the beginning."""
    call(x)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call(x)
    in_use = largest = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            in_use += event.nbytes()
            largest = max(largest, in_use)
    return largest


def kept(lrp: LRPFx, model: nn.Module) -> int:
    """What the explainer keeps of the parameters beyond the model's own."""
    own = {tensor.data_ptr() for tensor in model.state_dict().values()}
    module = lrp._program().lrp.module
    tensors = {t.data_ptr(): t for t in (*module.parameters(), *module.buffers())}
    return sum(t.nbytes for pointer, t in tensors.items() if pointer not in own)


def main() -> None:
    torch.set_num_threads(1)
    for name in MODELS:
        model = torchvision.models.get_model(name, weights=None).eval()
        x = torch.randn(BATCH, 3, 224, 224)
        for parameter in model.parameters():
            parameter.requires_grad_(False)

        def gradient(x: Tensor, model: nn.Module = model) -> Tensor:
            leaf = x.clone().requires_grad_()
            return torch.autograd.grad(model(leaf)[:, 3].sum(), leaf)[0]

        baseline = peak(gradient, x)
        print(f"{name}: gradient {baseline / 2**20:.0f} MB")
        for composite in ("epsilon", "epsilon_plus"):
            for memory, options in OPTIONS.items():
                lrp = LRPFx(model, composite, **options)
                used = peak(lambda x, lrp=lrp: lrp.attribute(x, 3), x) + kept(lrp, model)
                print(f"  {composite} {memory}: {used / 2**20:.0f} MB, {used / baseline:.2f} ×")


if __name__ == "__main__":
    main()
