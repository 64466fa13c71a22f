"""Quantus' ``explain_func`` stands among the adapters; its own tests are those of the evaluation."""

import numpy as np
import torch
from torch import nn

from lrp_fx import LRPFx, adapters, evaluate


def test_it_is_the_one_of_the_evaluation() -> None:
    assert adapters.explain_func is evaluate.explain_func


def test_weights_that_are_randomised_in_place_are_read_anew() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    explain = adapters.explain_func(lambda model: LRPFx(model, start="one_hot"))
    x, y = np.random.default_rng(0).normal(size=(2, 4)), np.array([2, 0])
    before = explain(model=model, inputs=x, targets=y)
    with torch.no_grad():
        model[2].weight.normal_()
    after = explain(model=model, inputs=x, targets=y)
    assert before.shape == after.shape == x.shape
    assert not np.allclose(before, after)
    fresh = LRPFx(model, start="one_hot").attribute(
        torch.from_numpy(x).float(), torch.from_numpy(y)
    )
    np.testing.assert_allclose(after, fresh.numpy(), rtol=1e-5, atol=1e-7)
