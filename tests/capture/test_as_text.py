"""Graphs as text: what is written is read back, and a text is never more than a graph."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lrp_fx.capture.as_text import NotText, _only_computes, as_text, from_text
from lrp_fx.capture.captured import Arguments, Captured
from lrp_fx.capture.members import named_tensors
from lrp_fx.capture.running import run_model
from lrp_fx.capture.symbolic import trace
from lrp_fx.graph import aten

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Model(nn.Module):
    """Sizes, slices, constants of several dtypes, and choices by words."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding="same")
        self.norm = nn.BatchNorm2d(4)
        self.mask = torch.eye(8).to(torch.bool)
        self.scales = [torch.linspace(0, 1, 8).expand(8, 8), torch.tensor(2, dtype=torch.int64)]

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = nn.functional.gelu(self.norm(self.conv(x)), approximate="tanh")
        y = torch.where(self.mask, y, float("-inf")).exp() + self.scales[0] * self.scales[1]
        y = torch.einsum("nchw->nhc", y[:, :, ::2, :]).reshape(x.shape[0], -1)
        return {"y": y, "z": y.to(torch.float64).sum(1, keepdim=True)}


def _captured() -> tuple[nn.Module, Captured]:
    torch.manual_seed(0)
    model = Model().eval()
    return model, trace(model, Arguments.of((X,)), frozenset())


def _again(model: nn.Module, captured: Captured, change: Callable[[Any], object]) -> Captured:
    content = json.loads(as_text(captured))
    change(content)
    return from_text(json.dumps(content), named_tensors(model), captured.outputs)


def test_what_is_written_is_read_back() -> None:
    model, captured = _captured()
    again = from_text(as_text(captured), named_tensors(model), captured.outputs)
    assert str(again.module.graph) == str(captured.module.graph)
    for one, other in zip(captured.module.graph.nodes, again.module.graph.nodes, strict=True):
        assert one.meta == other.meta, one
    assert again.constants.keys() == captured.constants.keys()
    for name, value in captured.constants.items():
        assert value.stride() == again.constants[name].stride()
        assert torch.equal(value, again.constants[name])
    x = torch.cat([X, X])
    own = run_model(model, Arguments.of((x,)))
    mine = again.module.forward(x)
    assert all(torch.equal(a, b) for a, b in zip(own, mine, strict=True))  # type: ignore[arg-type]


def _call(content: Any) -> Any:
    return next(node for node in content["nodes"] if node["op"] == "call_function")


@pytest.mark.parametrize(
    "changed",
    [
        {"target": "aten.from_file", "args": {"tuple": ["/etc/hostname"]}, "kwargs": {"dict": {}}},
        {"target": "aten.save", "args": {"tuple": [1, "name"]}, "kwargs": {"dict": {}}},
        {"target": "aten.manual_seed", "args": {"tuple": [1]}, "kwargs": {"dict": {}}},
        {"target": "aten._copy_from", "args": {"tuple": [{"node": 0}, {"node": 1}]}},
        {"target": "aten.add_", "args": {"tuple": [{"node": 1}, 1]}, "kwargs": {"dict": {}}},
        {
            "target": "aten.relu",
            "args": {"tuple": [{"node": 1}]},
            "kwargs": {"dict": {"out": {"node": 1}}},
        },
        {"target": "load_library.name"},
        {"target": "aten.__class__"},
        {"target": "builtins.eval"},
        {"target": "python.eval", "args": {"tuple": ["1"]}},
        {"target": "python.getattr", "args": {"tuple": [{"node": 0}, "__class__"]}},
        {"op": "call_method", "target": "numpy"},
        {"op": "call_module", "target": "conv"},
        {"name": "a = __import__('os')\nb"},
        {"op": "get_attr", "target": "forward.__globals__"},
        {"args": {"tuple": [{"node": -1}]}},
        {"args": {"tuple": [{"node": 10**6}]}},
        {"args": {"tuple": [{"dtype": "load"}]}},
        {"calls": [["", "x"]]},
    ],
)
def test_a_text_is_never_more_than_a_graph(changed: dict[str, Any]) -> None:
    model, captured = _captured()
    with pytest.raises(NotText):
        _again(model, captured, lambda content: _call(content).update(changed))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(format=0),
        lambda content: content.update(way="record"),
        lambda content: content.pop("nodes"),
        lambda content: content["nodes"].pop(),
        lambda content: content["nodes"].pop(0),
        lambda content: content["constants"].update({"x y": content["constants"].popitem()[1]}),
        lambda content: next(iter(content["constants"].values())).update(values="!"),
        lambda content: next(iter(content["constants"].values())).update(shape=[10**6]),
    ],
)
def test_a_changed_text_is_refused(change: Callable[[Any], object]) -> None:
    model, captured = _captured()
    with pytest.raises(NotText):
        _again(model, captured, change)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "\x00", "[" * 100_000])
def test_other_texts_are_refused(text: str) -> None:
    model, captured = _captured()
    with pytest.raises(NotText):
        from_text(text, named_tensors(model), captured.outputs)


def test_operations_that_write_are_not_among_the_known() -> None:
    assert _only_computes(aten.conv2d)
    assert _only_computes(aten.scaled_dot_product_attention)
    for name in ("add_", "_copy_from", "resize_", "set_", "save", "manual_seed", "_cudnn_init_dropout_state"):
        assert not _only_computes(getattr(aten, name)), name


def test_what_has_no_form_is_not_written(tmp_path: Path) -> None:
    model, captured = _captured()
    captured.module.graph.call_function(print, ())
    with pytest.raises(NotText, match="is no operation"):
        as_text(captured)
