"""Calls leave nothing behind in memory."""

from __future__ import annotations

import gc
import linecache
import mmap
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from captum.attr import NoiseTunnel
from torch import Tensor, nn

from lrp_fx import ConceptLRPFx, LayerLRPFx, LRPFx, NeuronLRPFx
from lrp_fx._common import SHAPES, Recent
from lrp_fx.errors import InputError
from tests.helpers.closeness import SINGLE, distance
from tests.helpers.modes import images, net


def live_tensors() -> int:
    gc.collect()
    # not isinstance, which asks lazy proxies of torch for their class
    return sum(issubclass(type(each), Tensor) for each in gc.get_objects())


def resident() -> float:
    """Megabytes of this process in memory; 0 where the system does not tell in this way."""
    statm = Path("/proc/self/statm")
    pages = int(statm.read_text().split()[1]) if statm.exists() else 0
    return pages * mmap.PAGESIZE / 2**20


class Branching(nn.Module):
    """Is read anew in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x.mean((1, 2)))
        return y.relu() if float(y.sum()) > 0 else -y


def callers() -> dict[str, Callable[[Tensor, int], object]]:
    """One call of each kind, on inputs and a target."""
    model = net()
    lrp, crp = LRPFx(model), ConceptLRPFx(model)
    layer, neuron = LayerLRPFx(model, ["branch", "pool"]), NeuronLRPFx(model, "pool")  # type: ignore[arg-type]
    failing, recorded = LRPFx(model, start=lambda output: output / 0), LRPFx(Branching())
    gradient = LRPFx(model, propagation="gradient")

    def fail(x: Tensor, target: int) -> None:
        with pytest.raises(InputError):
            failing.attribute(x)

    def hook(x: Tensor, target: int) -> None:
        handle = lrp.register_relevance_hook("branch", lambda relevance, step: None)
        lrp.attribute(x, target)
        handle.remove()

    return {
        "inputs": lambda x, t: lrp.attribute(x, t, return_convergence_delta=True),
        "layers": lambda x, t: layer.attribute(x, t),
        "neuron": lambda x, t: neuron.attribute(x, (t % 4, 0, 0)),
        "gradient": lambda x, t: gradient.attribute(x, t),
        "failing": fail,
        "noise tunnel": lambda x, t: NoiseTunnel(lrp).attribute(x, nt_samples=2, target=t),
        "many": lambda x, t: lrp.attribute_many(x, range(3)),
        "ledger": lambda x, t: lrp.audit(x, t),
        "concepts": lambda x, t: crp.attribute_conditions(x, [{"branch": [0]}, {"pool": [1]}], t),
        "graph": lambda x, t: crp.attribution_graph(x[:1], t, ["branch", "stem.0"]),
        "hook": hook,
        "recorded": lambda x, t: recorded.attribute(x, t),
    }


def grown(method: str, calls: int, before: int = 20) -> tuple[int, float]:
    """By how many live tensors, and megabytes, after so many calls of a kind and some before."""
    call = callers()[method]
    for index in range(before):
        call(images(seed=index), index % 5)
    tensors, memory = live_tensors(), resident()
    for index in range(calls):
        call(images(seed=index), index % 5)
    return live_tensors() - tensors, resident() - memory


PLAIN = ["inputs", "layers", "neuron"]
SLACK = 12.0
"""Megabytes that the allocator may take for itself; of 1,000 leaked calls the smallest tensor of each
layer would be 40, the source of a recorded graph as much."""


@pytest.mark.parametrize("method", PLAIN)
def test_a_thousand_calls_leave_nothing_behind(method: str) -> None:
    """No activation, input or relevance outlives its call."""
    tensors, memory = grown(method, 1000)
    assert tensors == 0
    assert memory < SLACK


@pytest.mark.parametrize("method", sorted(callers().keys() - {*PLAIN, "hook", "recorded"}))
def test_a_hundred_calls_leave_nothing_behind(method: str) -> None:
    """The same for calls that take longer; the thousand are among the slow tests."""
    assert grown(method, 100)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(callers().keys() - {*PLAIN}))
def test_a_thousand_calls_of_every_kind_leave_nothing_behind(method: str) -> None:
    """Where graphs are made in each call the allocator is at rest after some hundred."""
    tensors, memory = grown(method, 1000, before=400)
    assert tensors == 0
    assert memory < SLACK


@pytest.mark.parametrize("method", ["hook", "recorded"])
def test_sources_of_graphs_that_are_gone_go_too(method: str) -> None:
    """torch.fx keeps them for ever; where graphs are made in each call, that would be for ever more."""
    call = callers()[method]
    counts = []
    for _ in range(2):
        for index in range(8):
            call(images(seed=index), index % 5)
        gc.collect()
        counts.append(len(linecache.cache))
    assert counts[0] == counts[1]


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 3)

    def forward(self, x: Tensor, factor: float) -> Tensor:
        return self.conv(x).flatten(1) * factor


def test_graphs_for_ever_new_arguments_do_not_pile_up() -> None:
    """Each value of a number is a graph with modified weights of its own; the oldest ones go."""
    lrp, x, counts = LRPFx(Scaled()), torch.randn(1, 2, 5), []
    expected = lrp.attribute(x, 0, 1.0)
    for start in (0, 40):
        for index in range(start, start + 40):
            lrp.attribute(x, 0, index + 0.5)
        counts.append(live_tensors())
    assert counts[1] <= counts[0]  # what other tests left may go in the meantime
    assert torch.equal(lrp.attribute(x, 0, 1.0), expected)


def test_programs_for_ever_new_views_do_not_pile_up() -> None:
    """Nor do those for one layer or condition after the other; the plan stays that of the inputs."""
    model = nn.Sequential(*(nn.Conv2d(2, 2, 3, padding=1) for _ in range(20)), nn.Flatten())
    crp, x, counts = ConceptLRPFx(model, "z_plus"), images(), []
    whole = crp.attribute(x, 1)
    for start in (0, 10):
        for index in range(start, start + 10):
            parts = crp.attribute_conditions(x, [{str(index): [0]}, {str(index): [1]}], 1)
            assert distance(parts.sum(0), whole) < SINGLE
        counts.append(live_tensors())
    assert counts[0] == counts[1]
    crp.audit(x, 1)
    assert str(crp.plan()) == str(LRPFx(model, "z_plus").plan(x))
    assert torch.equal(crp.attribute(x, 1), whole)


def containers(value: object, path: str = "", seen: set[int] | None = None) -> dict[str, int]:
    """The number of entries of each container that the library's objects hold, by its path."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, (Tensor, nn.Module, Recent)):
        return {}
    seen.add(id(value))
    found: dict[str, int] = {}
    parts: Iterable[tuple[object, object]] = ()
    if isinstance(value, (dict, list, set, tuple)):
        found[path] = len(value)
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        parts = [(place, part) for place, (_, part) in enumerate(parts)]
    elif type(value).__module__.startswith("lrp_fx"):
        parts = getattr(value, "__dict__", {}).items()
    for name, part in parts:
        found |= containers(part, f"{path}.{name}", seen)
    return found


class Lengths(nn.Module):
    """A filter and a compiled target would remember something for each length."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.table(words).mean(1))


def call_with_length(lrp: LRPFx, length: int) -> None:
    words = torch.arange(length)[None] % 7
    lrp.attribute(words, 1)
    list(lrp.attribute_many(words, range(3)))


def test_what_is_remembered_for_each_length_is_bounded() -> None:
    """All containers that grow with the number of lengths forget the oldest ones."""
    lrp = LRPFx(Lengths().eval(), top_k=0.5)
    counts = []
    for lengths in (range(2, 6), range(6, 18)):
        for length in lengths:
            call_with_length(lrp, length)
        counts.append(containers(lrp))
    assert counts[0] == counts[1]


def test_a_memory_forgets_what_was_used_least_recently() -> None:
    memory: Recent[int, str] = Recent(2)
    assert [memory.get(key, lambda: "new") for key in (1, 2, 1, 3)] == ["new"] * 4
    assert [key in memory for key in (1, 2, 3)] == [True, False, True]
    assert memory.get(3, lambda: "again") == "new"
    assert len(memory) == 2


@pytest.mark.slow
def test_a_thousand_lengths_leave_little_behind() -> None:
    lrp = LRPFx(Lengths().eval(), top_k=0.5)
    for length in range(2, 1002):
        call_with_length(lrp, length)
        if length == 400:
            tensors = live_tensors()
    assert live_tensors() == tensors
    ((reading,),) = lrp._explainer._readings.values()
    assert len(reading.verified) == SHAPES


def test_an_object_that_goes_takes_everything_with_it() -> None:
    model, x = net(), images()
    LRPFx(model).attribute(x, 1)
    before = live_tensors()
    for _ in range(5):
        LRPFx(model).attribute(x, 1)
    assert live_tensors() == before
