"""Captum's tools on top: noise tunnels, metrics, pictures, TCAV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from captum.attr import (
    NoiseTunnel,
    visualization as captum_visualization,
)
from captum.concept import TCAV, Classifier, Concept
from captum.metrics import infidelity, sensitivity_max
from matplotlib.figure import Figure
from torch import Tensor, nn

from lrp_fx import LayerLRPFx, LRPFx
from tests.helpers.closeness import ROUNDING, assert_close
from tests.helpers.models import Configured, TwoVectors, normed_cnn
from tests.helpers.numbers import numbers


@pytest.mark.parametrize("chunk", [None, 1, 2, 5])
def test_smoothgrad_is_the_mean_over_noisy_inputs(chunk: int | None) -> None:
    """``NoiseTunnel`` calls once per chunk of samples, with targets repeated for each."""
    lrp, x, spread = LRPFx(normed_cnn()), numbers(2, 2, 8, 8), 0.1
    torch.manual_seed(1)
    mine = NoiseTunnel(lrp).attribute(
        x, nt_samples=5, stdevs=spread, nt_samples_batch_size=chunk, target=torch.tensor([1, 3])
    )
    torch.manual_seed(1)
    total, left = torch.zeros_like(x), 5
    while left:
        size = min(left, chunk or 5)
        noise = torch.normal(0, torch.full((2 * size, 2, 8, 8), spread))
        noisy = x.repeat_interleave(size, 0) + noise
        total += lrp.attribute(noisy, [1] * size + [3] * size).unflatten(0, (2, size)).sum(1)
        left -= size
    assert_close(mine, total / 5)


@pytest.mark.parametrize("nt_type", ["smoothgrad", "smoothgrad_sq", "vargrad"])
@pytest.mark.parametrize("chunk", [None, 2])
def test_noise_tunnel_without_noise(nt_type: str, chunk: int | None) -> None:
    """The types of NoiseTunnel are the mean, the mean square and the variance of our relevance."""
    lrp, x = LRPFx(normed_cnn()), numbers(2, 2, 8, 8)
    plain, plain_delta = lrp.attribute(x, 1, return_convergence_delta=True)
    mine, delta = NoiseTunnel(lrp).attribute(
        x,
        nt_type=nt_type,
        nt_samples=4,
        stdevs=0.0,
        nt_samples_batch_size=chunk,
        target=1,
        return_convergence_delta=True,
    )
    if nt_type == "vargrad":
        assert float(mine.abs().max()) <= ROUNDING * float(plain.square().max())
    else:
        assert_close(mine, plain if nt_type == "smoothgrad" else plain.square())
    # with chunks Captum returns the deltas in the order of the chunks, not of the samples
    assert_close(delta.sort().values, plain_delta.repeat_interleave(4).sort().values)


def test_noise_tunnel_on_several_inputs_and_arguments() -> None:
    model, inputs = TwoVectors().double(), (numbers(2, 3), numbers(2, 5))
    lrp = LRPFx(model)
    smooth = NoiseTunnel(lrp).attribute(inputs, nt_samples=3, stdevs=(0.0, 0.0), target=[0, 1])
    for mine, plain in zip(smooth, lrp.attribute(inputs, [0, 1]), strict=True):
        assert_close(mine, plain)
    configured, x = LRPFx(Configured().double()), numbers(2, 3)
    arguments = (numbers(2, 3, seed=1), 2.0, "tanh")
    smooth = NoiseTunnel(configured).attribute(
        x, nt_samples=3, stdevs=0.0, target=1, additional_forward_args=arguments
    )
    assert_close(smooth, configured.attribute(x, 1, arguments))


def test_noise_tunnel_on_a_layer() -> None:
    model, x = normed_cnn(), numbers(2, 2, 8, 8)
    layer = LayerLRPFx(model, "relu2")
    smooth = NoiseTunnel(layer).attribute(x, nt_samples=3, stdevs=0.0, target=1)
    assert_close(smooth, layer.attribute(x, 1))


def test_infidelity() -> None:
    """Of relevance of a linear model, which explains every perturbation, it is zero."""
    model = nn.Linear(5, 3, bias=False).double()
    x = numbers(2, 5)
    relevance = LRPFx(model, "zero").attribute(x, 1)

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn_like(inputs)
        return noise / inputs, inputs - noise  # relevance is weight · input

    score = infidelity(model, perturb, x, relevance, target=1, n_perturb_samples=10)
    assert score.shape == (2,)
    assert float(score.max()) < ROUNDING


@pytest.mark.parametrize("form", ["tensor", "tuple"])
def test_sensitivity_max(form: str) -> None:
    lrp, x = LRPFx(normed_cnn()), numbers(2, 2, 8, 8)
    score = sensitivity_max(lrp.attribute, x if form == "tensor" else (x,), target=1)
    assert score.shape == (2,)
    assert torch.isfinite(score).all()
    assert float(score.min()) > 0


def test_visualize_image_attr() -> None:
    """The way of Captum's tutorials: attribute, to numpy, draw."""
    relevance = LRPFx(normed_cnn()).attribute(numbers(1, 2, 8, 8), 1)
    image = relevance[0].permute(1, 2, 0).numpy()
    figure = Figure()
    captum_visualization.visualize_image_attr(
        image,
        method="heat_map",
        sign="all",
        plt_fig_axis=(figure, figure.add_subplot()),
        use_pyplot=False,
    )
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None
    assert shown.shape == (8, 8)


class MeanDifference(Classifier):
    """The simplest concept classifier: the difference of the two concepts' mean activations."""

    def __init__(self) -> None:
        self.direction = torch.zeros(0)

    def train_and_eval(self, dataloader: Any, **kwargs: Any) -> None:
        batches = list(dataloader)
        values = torch.cat([inputs.flatten(1) for inputs, _ in batches])
        labels = torch.cat([label for _, label in batches])
        self.direction = values[labels == 1].mean(0) - values[labels == 0].mean(0)

    def weights(self) -> Tensor:
        return torch.stack([-self.direction, self.direction])

    def classes(self) -> list[int]:
        return [0, 1]


def test_tcav(tmp_path: Path) -> None:
    """TCAV sets ``layer`` and calls ``attribute.__wrapped__``, which Captum's own LayerLRP lacks."""
    model, x = normed_cnn().float(), numbers(4, 2, 8, 8, dtype=torch.float32)
    concepts = [
        Concept(0, "dark", [numbers(3, 2, 8, 8, dtype=torch.float32) - 2]),  # type: ignore[arg-type]
        Concept(1, "light", [numbers(3, 2, 8, 8, dtype=torch.float32) + 2]),  # type: ignore[arg-type]
    ]
    layer = LayerLRPFx(model, "conv1")
    tcav = TCAV(
        model,
        ["conv2", "relu1"],
        classifier=MeanDifference(),
        layer_attr_method=layer,
        save_path=str(tmp_path),
    )
    scores = tcav.interpret(x, [concepts], target=1)
    relevance = LayerLRPFx(model, "conv2").attribute(x, 1).flatten(1)
    assert tcav.classifier is not None
    weights = tcav.cavs["0-1"]["conv2"].stats["weights"]
    towards = (relevance @ weights.T.float() > 0).float().mean(0)
    assert_close(scores["0-1"]["conv2"]["sign_count"], towards)
