"""Every mode of gradients and every dtype."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx

from lrp_fx import LayerLRPFx, LRPFx
from lrp_fx.relevance.node import RelevanceNode
from tests.helpers.closeness import SINGLE, distance
from tests.helpers.modes import composites, engines, images, net

HALF = 0.05
"""bfloat16 and float16 against float64: 8 and 11 bits, and z⁺, under which nothing cancels."""
AUTOCAST = 0.05
"""bfloat16 activations under float32 relevance."""


# Promise 3: every mode and dtype


@engines
@composites
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_grad_modes(mode: Any, composite: str, engine: Any) -> None:
    """Also where the first call, which makes everything, was in another mode than the next."""
    model, x = net(), images()
    expected = LRPFx(model, composite, propagation=engine).attribute(x, 1)
    lrp = LRPFx(model, composite, propagation=engine)
    with mode():
        relevance = lrp.attribute(x, 1)
        assert torch.equal(relevance, expected)
        assert not relevance.requires_grad
    assert torch.equal(lrp.attribute(x, 1), expected)
    with mode():
        assert torch.equal(lrp.attribute(x, 1), expected)


@engines
def test_model_and_inputs_made_in_inference_mode(engine: Any) -> None:
    """Such tensors have no version counter."""
    with torch.inference_mode():
        model, x = net(), images()
        inside = LRPFx(model, propagation=engine).attribute(x, 1)
    outside = LRPFx(model, propagation=engine).attribute(x, 1)
    assert torch.equal(inside, outside)


@engines
def test_gradients_are_neither_needed_nor_left(engine: Any) -> None:
    """Inputs and parameters may require them: no graph comes out, no ``.grad`` is filled."""
    model, x = net(), images().requires_grad_()
    assert all(parameter.requires_grad for parameter in model.parameters())
    relevance, delta = LRPFx(model, propagation=engine).attribute(
        x, 1, return_convergence_delta=True
    )
    layer = LayerLRPFx(model, "stem", propagation=engine).attribute(x, 1)
    for result in (relevance, delta, layer):
        assert isinstance(result, Tensor)
        assert not result.requires_grad
        assert result.grad_fn is None
    assert x.grad is None
    assert x.requires_grad
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    model.requires_grad_(False)
    assert torch.equal(LRPFx(model, propagation=engine).attribute(images(), 1), relevance)


@engines
@composites
def test_float32_is_close_to_float64(composite: str, engine: Any) -> None:
    model = net()
    single = LRPFx(model, composite, propagation=engine).attribute(images(), 1)
    double = LRPFx(model.double(), composite, propagation=engine).attribute(images().double(), 1)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert distance(single.double(), double) < SINGLE


@engines
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precisions_are_close_to_float64(dtype: torch.dtype, engine: Any) -> None:
    """Under z⁺; ε subtracts large numbers, of which half a precision leaves little."""
    model, x = net(dtype), images(dtype=dtype)
    half = LRPFx(model, "z_plus", propagation=engine).attribute(x, 1)
    assert half.dtype == dtype
    double = LRPFx(model.double(), "z_plus").attribute(x.double(), 1)
    assert distance(half.double(), double) < HALF


def test_one_object_follows_the_model_to_another_dtype() -> None:
    """``.double()`` keeps the parameters' identity; the modified weights must not stay behind."""
    model = net()
    lrp = LRPFx(model)
    lrp.attribute(images(), 1)
    model.double()
    x = images().double()
    assert torch.equal(lrp.attribute(x, 1), LRPFx(model).attribute(x, 1))
    model.float()
    assert torch.equal(lrp.attribute(images(), 1), LRPFx(model).attribute(images(), 1))


@engines
@pytest.mark.parametrize("composite", ["z_plus", "epsilon_plus", "epsilon_alpha2_beta1"])
def test_autocast(composite: str, engine: Any) -> None:
    """The model runs under autocast as the user wants; the relevance is in float32 all the way."""
    model, x = net(), images()
    plain, plain_delta = LRPFx(model, composite, propagation=engine).attribute(x, 1, None, True)
    lrp = LRPFx(model, composite, propagation=engine)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        relevance, delta = lrp.attribute(x, 1, return_convergence_delta=True)
        module = lrp.graph.owning_module
        assert isinstance(module, fx.GraphModule)
        dtypes = relevance_dtypes(module, x)
    assert relevance.dtype == delta.dtype == torch.float32
    assert dtypes == {torch.float32}
    assert not torch.equal(relevance, plain)
    assert distance(relevance, plain) < AUTOCAST
    # nothing computed under autocast is left
    again, again_delta = lrp.attribute(x, 1, return_convergence_delta=True)
    assert torch.equal(again, plain)
    assert torch.equal(again_delta, plain_delta)


def relevance_dtypes(module: fx.GraphModule, x: Tensor) -> set[torch.dtype]:
    """Of what every relevance node yields."""
    found: set[torch.dtype] = set()

    class Recorder(fx.Interpreter):
        def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
            result = super().call_module(target, args, kwargs)
            assert isinstance(module.get_submodule(target), RelevanceNode)
            found.update(
                t.dtype for t in (result if isinstance(result, (list, tuple)) else [result])
            )
            return result

    Recorder(module).run(x, 1)
    return found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_autocast_of_a_model_in_another_dtype(dtype: torch.dtype) -> None:
    """Relevance is at least float32 inside, and comes out in the inputs' dtype."""
    model, x = net(dtype), images(dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        relevance = LRPFx(model, "z_plus").attribute(x, 1)
    assert relevance.dtype == dtype
    expected = LRPFx(model.double(), "z_plus").attribute(x.double(), 1)
    assert distance(relevance.double(), expected) < HALF
