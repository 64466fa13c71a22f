"""The cost of a map: its time in units of the input gradient."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from lrp_fx.errors import InputError
from lrp_fx.evaluate.metric import Explain, Forward


def relative_cost(
    forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor, repeats: int
) -> float:
    """The time of the maps of a batch over the time of its input gradient.

    Both are measured in turns, and of each the shortest time counts: other programs on the machine
    make times longer, never shorter.

    Args:
        forward: the model.
        explain: the method. One call that is not measured comes first.
        inputs: ``(N, …)``.
        targets: ``(N,)``.
        repeats: how often each is measured.

    Raises:
        InputError: for inputs without a gradient.
    """
    if not inputs.is_floating_point():
        raise InputError(
            "the cost of a map is measured in input gradients, and these inputs have none: give a "
            f"model of embeddings instead of {inputs.dtype} inputs"
        )

    def gradient() -> object:
        x = inputs.detach().clone().requires_grad_()
        with torch.enable_grad():
            value = forward(x).gather(1, targets[:, None]).sum()
        return torch.autograd.grad(value, x)

    def maps() -> object:
        return explain(inputs, targets)

    gradient(), maps()
    times = [(_seconds(maps, inputs), _seconds(gradient, inputs)) for _ in range(repeats)]
    return min(of_maps for of_maps, _ in times) / min(of_gradient for _, of_gradient in times)


def _seconds(call: Callable[[], object], inputs: Tensor) -> float:
    synchronize(inputs)
    began = time.perf_counter()
    call()
    synchronize(inputs)
    return time.perf_counter() - began


def synchronize(inputs: Tensor) -> None:
    """Wait until the device of the inputs has finished."""
    if inputs.is_cuda:
        torch.cuda.synchronize(inputs.device)
