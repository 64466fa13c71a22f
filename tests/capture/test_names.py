"""A model may call its parameters, modules and arguments what it likes, also as this library does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import ConceptLRPFx, LayerLRPFx, LRPFx, NeuronLRPFx
from tests.helpers.closeness import SAME_SUMS, assert_close

OURS = [
    *("start", "target", "relevance", "constants", "channels_0", "input_0", "relevance_sum"),
    *("start_1", "relevance_", "output", "x", "getitem", "linear", "x_relevance", "start_mask"),
]
"""Names that the library gives to nodes and attributes, and names that its ways to free names lead to."""


class Parameters(nn.Module):
    """Each parameter has a name of the library's."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.rand(4) + 0.5))

    def forward(self, x: Tensor) -> Tensor:
        for name in self.names:
            x = torch.relu(x * getattr(self, name) + getattr(self, self.names[0]))
        return x


class Modules(nn.Module):
    """Each module has a name of the library's."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        for name in names:
            self.add_module(name, nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        for name in self.names:
            x = torch.relu(getattr(self, name)(x))
        return x


class Arguments(nn.Module):
    """So have the arguments."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.start, self.target = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, start: Tensor, target: Tensor | None = None, channels_0: float = 1) -> Tensor:
        return self.target(torch.relu(self.start(start * channels_0)))  # type: ignore[no-any-return]


def made(kind: type[nn.Module], names: list[str]) -> nn.Module:
    torch.manual_seed(0)
    return kind(names).double().eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("capture", ["symbolic", "export", "record"])
@pytest.mark.parametrize("kind", [Parameters, Modules, Arguments])
def test_names_mean_nothing(kind: type[nn.Module], capture: Any) -> None:
    """Everything that can be asked of a model gives what it gives under other names."""
    x = torch.rand(2, 4, dtype=torch.double)
    results = []
    for names in (OURS, [f"p{i}" for i in range(len(OURS))]):
        model = made(kind, names)
        lrp = LRPFx(model, "epsilon", capture=capture, top_k=0.5)
        found = [lrp.attribute(x, 1), *lrp.attribute_many(x, range(4)), lrp.explained_output(x)]
        ledger = lrp.audit(x, 1)
        assert ledger.closes()
        found.append(torch.tensor(ledger.start))
        if capture != "record":
            found.extend(lrp.export(x, dynamic_batch=False).module()(x, torch.tensor([1, 1])))
        if kind is Modules:
            layer = names[0]
            found.append(LayerLRPFx(model, layer, "epsilon").attribute(x, 1))
            found.append(NeuronLRPFx(model, layer, "epsilon").attribute(x, 1))
            conditions = [{layer: [1]}, {layer: [0, 2]}]
            crp = ConceptLRPFx(model, "epsilon", channel_dim=-1)
            found.append(crp.attribute_conditions(x, conditions, 1))
        results.append(found)
    for ours, others in zip(*results, strict=True):
        assert_close(ours, others, SAME_SUMS)


def test_the_explained_output_is_the_models() -> None:
    """Protects from taking a parameter for the node that relevance starts with."""
    model, x = made(Parameters, OURS), torch.rand(2, 4, dtype=torch.double)
    assert torch.equal(LRPFx(model).explained_output(x), model(x))
