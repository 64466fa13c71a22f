"""Changes of the model are picked up in the canonical graph."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from lrp_fx import LRPFx
from tests.helpers.canonical import lively
from tests.helpers.captures import both_ways
from tests.helpers.closeness import ROUNDING, distance
from tests.helpers.models import Apply
from tests.helpers.numbers import numbers


class Changing(nn.Module):
    """Folded and unfolded norms, a reused layer, a computed weight, a buffer and a plain tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.late = nn.BatchNorm2d(4)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))
        self.register_buffer("scale", torch.rand(4, 1, 1) + 0.5)
        self.kernel = torch.randn(4, 1, 3, 3, dtype=torch.float64)
        self.factor = 1.0
        self.act = Apply(torch.relu)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.conv(x)))
        x = self.again(F.relu(self.again(self.late(x))))
        x = F.conv2d(self.normed(x) * self.scale, self.kernel.to(x.dtype), groups=4)
        return self.fc(x.mean((2, 3)) * self.factor)


def _step(model: nn.Module, x: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(x).square().sum().backward()
    optimizer.step()


def _train_mode_forward(model: nn.Module, x: Tensor) -> None:
    model.train()(x * 3)
    model.eval()


@torch.no_grad()
def _load(model: nn.Module, x: Tensor) -> None:
    state = {k: v * 1.5 if v.is_floating_point() else v for k, v in model.state_dict().items()}
    model.load_state_dict(state)


def _load_by_assignment(model: nn.Module, x: Tensor) -> None:
    state = {k: v * 1.5 if v.is_floating_point() else v for k, v in model.state_dict().items()}
    model.load_state_dict(state, assign=True)


def _new_weight(model: nn.Module, x: Tensor) -> None:
    model.fc.weight = nn.Parameter(torch.randn_like(model.fc.weight))


def _new_weight_in_a_fold(model: nn.Module, x: Tensor) -> None:
    model.conv.weight = nn.Parameter(torch.randn_like(model.conv.weight))


def _no_bias(model: nn.Module, x: Tensor) -> None:
    model.fc.bias = None


def _new_module(model: nn.Module, x: Tensor) -> None:
    model.fc = nn.Linear(4, 3).double()


def _new_shape(model: nn.Module, x: Tensor) -> None:
    model.fc = nn.Linear(4, 7).double()


def _other_kind(model: nn.Module, x: Tensor) -> None:
    model.bn = nn.Identity()


def _at_the_same_address(model: nn.Module, x: Tensor) -> None:
    """What is freed first is often where the next object of its size comes to lie."""
    for _ in range(50):
        del model.act
        model.act = Apply(torch.tanh)


@torch.no_grad()
def _buffers(model: nn.Module, x: Tensor) -> None:
    model.bn.running_var.mul_(3)
    model.late.running_mean = torch.randn(4).double()
    model.scale.mul_(-1)


def _frozen(model: nn.Module, x: Tensor) -> None:
    for parameter in model.parameters():
        parameter.requires_grad_(False)


@torch.no_grad()
def _plain_tensor(model: nn.Module, x: Tensor) -> None:
    model.kernel.mul_(-2)


def _new_plain_tensor(model: nn.Module, x: Tensor) -> None:
    model.kernel = torch.randn_like(model.kernel)


def _flag(model: nn.Module, x: Tensor) -> None:
    model.factor = -2.0


def _stride(model: nn.Module, x: Tensor) -> None:
    model.conv.stride = (2, 2)


def _hook(model: nn.Module, x: Tensor) -> None:
    model.fc.register_forward_hook(lambda module, inputs, output: output * 2)


def _parametrize(model: nn.Module, x: Tensor) -> None:
    nn.utils.parametrizations.weight_norm(model.conv)


def _no_parametrization(model: nn.Module, x: Tensor) -> None:
    nn.utils.parametrize.remove_parametrizations(model.normed, "weight")


CHANGES = [
    *(_step, _train_mode_forward, _load, _load_by_assignment, _new_weight, _new_weight_in_a_fold),
    *(_no_bias, _new_module, _new_shape, _other_kind, _at_the_same_address, _buffers, _frozen),
    *(_plain_tensor, _new_plain_tensor, _flag, _stride, _hook, _parametrize, _no_parametrization),
]


BY_EXPORT_TOO = [
    *(_step, _new_weight_in_a_fold, _no_bias, _buffers, _plain_tensor, _new_plain_tensor),
    *(_flag, _hook, _no_parametrization),
]
"""Changes of what the captures hold, each in its own way."""


@pytest.mark.parametrize(
    ("change", "composite", "way"),
    [
        *((change, "epsilon", "auto") for change in CHANGES),
        *((change, "epsilon_alpha2_beta1", "auto") for change in CHANGES),
        *((change, "epsilon_alpha2_beta1", "export") for change in BY_EXPORT_TOO),
    ],
)
def test_changes_of_the_model_are_picked_up(
    change: Callable[[nn.Module, Tensor], None], composite: str, way: str
) -> None:
    """An LRPFx from before explains what the model is now, as a new one does."""
    torch.manual_seed(0)
    model, x = lively(Changing()), numbers(2, 3, 8, 8)
    lrp = LRPFx(model, composite, capture=way)
    before = lrp.attribute(x, target=1)
    change(model, x)
    found = lrp.attribute(x, target=1)
    expected = LRPFx(model, composite, capture=way).attribute(x, target=1)
    assert torch.equal(found, expected)
    same = change in (_frozen, _parametrize, _no_parametrization)
    assert (distance(before, found) <= ROUNDING) == same


@both_ways
def test_a_change_of_dtype_is_picked_up(way: str) -> None:
    """``.double()`` keeps the parameters' identity and version, and is noticed."""
    torch.manual_seed(0)
    model, x = lively(Changing(), torch.float32), numbers(2, 3, 8, 8)
    lrp = LRPFx(model, "epsilon_alpha2_beta1", capture=way)
    single = lrp.attribute(x.float(), target=1)
    model.double()
    found = lrp.attribute(x, target=1)
    assert found.dtype == torch.float64
    fresh = LRPFx(model, "epsilon_alpha2_beta1", capture=way).attribute(x, target=1)
    assert torch.equal(found, fresh)
    model.float()
    assert torch.equal(lrp.attribute(x.float(), target=1), single)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@both_ways
@pytest.mark.parametrize("kind", ["weight norm", "spectral norm", "pruning"])
def test_weights_that_a_hook_computes_are_picked_up(kind: str, way: str) -> None:
    """Hooks that set the weight before the forward are read, not the value that they set once."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)).double(), numbers(2, 4)
    if kind == "weight norm":
        nn.utils.weight_norm(model[0])
        parameter = model[0].weight_g
    elif kind == "spectral norm":
        nn.utils.spectral_norm(model[0])
        parameter = model[0].weight_orig
    else:
        prune.l1_unstructured(model[0], "weight", amount=0.3)
        parameter = model[0].weight_orig
    model.eval()
    lrp = LRPFx(model, "z_plus", capture=way)
    before = lrp.attribute(x, target=0)
    with torch.no_grad():
        parameter.copy_(numbers(*parameter.shape, seed=3))
    found = lrp.attribute(x, target=0)
    assert torch.equal(found, LRPFx(model, "z_plus", capture=way).attribute(x, target=0))
    assert distance(before, found) > 1e-3


def test_an_lrpfx_does_not_keep_a_replaced_module() -> None:
    """Nor does it explain with the modules of another model that was copied from this one."""
    torch.manual_seed(0)
    model, x = lively(Changing()), numbers(2, 3, 8, 8)
    lrp = LRPFx(model)
    first = lrp.attribute(x, target=0)
    other = copy.deepcopy(model)
    _step(other, x)
    assert torch.equal(lrp.attribute(x, target=0), first)
