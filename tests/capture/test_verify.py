"""The two captures agree, and a reading that is wrong is noticed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.errors import CaptureError, InputError
from tests.helpers.captures import after, both_ways, signal
from tests.helpers.closeness import ROUNDING, distance
from tests.helpers.models import NETWORKS
from tests.helpers.numbers import numbers


@pytest.mark.parametrize("name", NETWORKS)
def test_captures_agree(name: str) -> None:
    """Symbolic and export capture give the same map: one checks the other."""
    network = NETWORKS[name]
    model, inputs = network.model(), network.inputs()
    x = inputs if len(inputs) > 1 else inputs[0]
    maps = []
    for way in ("auto", "export"):
        lrp = LRPFx(model, output=network.output, capture=way)
        found = lrp.attribute(x, target=1)
        maps.append(found if isinstance(found, tuple) else (found,))
    for mine, other in zip(*maps, strict=True):
        assert distance(mine, other) <= ROUNDING


@pytest.mark.parametrize("name", NETWORKS)
def test_symbolic_tracing_suffices(name: str) -> None:
    """The quick way in is not lost by accident."""
    network = NETWORKS[name]
    lrp = LRPFx(network.model(), output=network.output)
    note = lrp.plan(*network.inputs()).notes[0]
    assert note == "capture: symbolic"


class Tangled(nn.Module):
    """Parameters whose names an LRP graph uses itself."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("target", "start", "relevance", "constants", "output", "input_0", "model"):
            self.register_parameter(name, nn.Parameter(torch.randn(4)))
        self.matrix = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.target + self.start
        x = (x @ (self.matrix * self.relevance) + self.constants) * self.output
        return x + self.input_0 * self.model


class TangledModules(nn.Module):
    """Modules with such names."""

    def __init__(self) -> None:
        super().__init__()
        self.relevance, self.constants = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.start, self.target, self.model = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(self.target(self.start(self.constants(self.relevance(x)))))


@both_ways
@pytest.mark.parametrize("make", [Tangled, TangledModules])
def test_names_do_not_clash(make: type[nn.Module], way: str) -> None:
    """No name of a parameter or module is reserved."""
    torch.manual_seed(0)
    model, x = make().double().eval(), numbers(2, 4)
    lrp = LRPFx(model, "z_plus", capture=way)
    found = lrp.attribute(x, target=2)
    assert torch.isfinite(found).all()
    assert float(found.abs().max()) > 0


# Verification


class BranchOnShape(nn.Module):
    """Its Python wants to know a size."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.small(x) if x.shape[0] < 3 else self.large(x)


def test_branches_on_shapes_are_verified_for_each_shape() -> None:
    """What the branch baked in for one size is noticed at another, and read again there."""
    torch.manual_seed(0)
    model = BranchOnShape().double()
    lrp = LRPFx(model, "zero", bias="ignore")
    for samples in (2, 4, 1, 3, 2):
        x = numbers(samples, 4)
        layer = model.small if samples < 3 else model.large
        expected = x * layer.weight[1] * (layer(x) / (x @ layer.weight.T))[:, 1:2]
        assert distance(lrp.attribute(x, target=1), expected.detach()) <= ROUNDING


class BranchOnType(nn.Module):
    """What symbolic tracing runs the code on is a subclass of Tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.right, self.wrong = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.right(x) if type(x) is Tensor else self.wrong(x)


def test_verification_catches_baked_flags() -> None:
    """A graph of something else is refused with the first module that differs; export reads it."""
    torch.manual_seed(0)
    model, x = BranchOnType().eval(), torch.ones(2, 4)
    with pytest.raises(CaptureError) as error:
        LRPFx(model, capture="symbolic").attribute(x, target=0)
    assert str(error.value).count("something other than the model") == 1
    assert "export" not in str(error.value)
    lrp = LRPFx(model)
    assert [step.path for step in lrp.plan(x).steps] == ["right"]


class Doubled(nn.Linear):
    """Another layer for tensors than for what stands for them."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (2 if type(x) is Tensor else 1)


class LateDifference(nn.Module):
    """Right up to a module that differs, wrong from there on."""

    def __init__(self, second: type[nn.Linear] = Doubled) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), second(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x)))


def test_verification_names_the_first_module_that_differs() -> None:
    """The error says where the graph goes wrong."""
    model, x = LateDifference().eval(), torch.ones(2, 4)
    with pytest.raises(
        CaptureError, match="something other than the model, first in module 'second'"
    ):
        LRPFx(model, capture="symbolic").attribute(x, target=0)


@pytest.mark.parametrize("way", ["symbolic", "export", "record"])
def test_hooks_that_change_the_output_are_part_of_the_model(way: str) -> None:
    """The map is that of a model with the hook's factor written out."""
    torch.manual_seed(0)
    model, x = LateDifference(nn.Linear).double().eval(), numbers(2, 4)
    model.second.register_forward_hook(lambda module, inputs, output: output * 2)
    found = LRPFx(model, "zero", capture=way).attribute(x, target=0)
    plain = nn.Sequential(model.first, nn.Linear(4, 4), model.third).double()
    plain[1].weight.data, plain[1].bias.data = model.second.weight * 2, model.second.bias * 2
    assert distance(found, LRPFx(plain, "zero").attribute(x, target=0)) <= ROUNDING


def test_hooks_that_watch_change_nothing() -> None:
    """A recording hook leaves the quick way in, and its records alone."""
    model = after(lambda y: y.mean((2, 3)))
    seen: list[Tensor] = []
    model.get_submodule("stem").register_forward_hook(lambda m, i, output: seen.append(output))
    lrp = LRPFx(model)
    lrp.attribute(signal(model), target=0)
    assert lrp.plan().notes[0] == "capture: symbolic"
    assert seen == []


class Unreadable(nn.Module):
    """Nobody reads this without its values."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x) if float(x.sum()) > 0 else -self.dense(x)


@both_ways
def test_an_unreadable_model_is_one_clear_error(way: str) -> None:
    """Each way in says why it does not lead in."""
    with pytest.raises(CaptureError, match="could not be read as a graph") as error:
        LRPFx(Unreadable(), capture=way).attribute(torch.ones(2, 4), target=0)
    assert f"\n  {way}: " in str(error.value)
    assert len(str(error.value)) < 1500


class Shouting(nn.Module):
    """Fails on its inputs."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("three channels, please")


def test_a_model_that_fails_is_not_called_unreadable() -> None:
    """The model's own error comes through, with the shapes."""
    with pytest.raises(
        InputError, match=r"the model itself fails on inputs of \(2, 4\).*three channels"
    ):
        LRPFx(Shouting()).attribute(torch.ones(2, 4), target=0)
