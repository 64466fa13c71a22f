"""Other threads run models, and capture some, meanwhile."""

from __future__ import annotations

import queue
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from lrp_fx import LRPFx
from tests.helpers.captures import after, signal
from tests.helpers.closeness import distance
from tests.helpers.models import NETWORKS, everything
from tests.helpers.numbers import numbers

OTHER_KERNELS = 1e-5
"""Of an output in float32: torch.export switches off MKLDNN for the whole process while it runs, so
other threads' forwards go through other kernels meanwhile."""


# Other threads


class Tied(nn.Module):
    """Modules under two paths: torch.export follows these through ``nn.Module.__getattr__``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()
        self.same = self.conv
        self.block = nn.Sequential(self.conv, self.relu, nn.Conv2d(3, 3, 3), self.relu)
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.same(self.conv(x))).mean((2, 3)))


class Elsewhere:
    """Runs a model in another thread for as long as the block lasts."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.model, self.x = model, x
        with torch.no_grad():
            self.expected = model(x)
        self.runs, self.failures, self.replaced = 0, [], 0
        self.stop = False
        self.call = nn.Module.__call__
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.stop:
            try:
                self.replaced += nn.Module.__call__ is not self.call
                with torch.no_grad():
                    y = self.model(self.x)
                self.failures += [] if distance(y, self.expected) <= OTHER_KERNELS else ["value"]
            except Exception as error:
                self.failures.append(repr(error))
            self.runs += 1

    def __enter__(self) -> Elsewhere:
        self.interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)  # as many switches as possible
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop = True
        self.thread.join()
        sys.setswitchinterval(self.interval)


@pytest.mark.parametrize(("way", "captures"), [("symbolic", 40), ("export", 2), ("record", 5)])
@pytest.mark.parametrize("mine", [Tied, lambda: resnet18(weights=None, num_classes=5)])
def test_another_thread_may_run_models(
    mine: Callable[[], nn.Module], way: str, captures: int
) -> None:
    """Its forward neither fails nor gets into the paths of what is captured meanwhile.

    Symbolic tracing does not touch ``nn.Module`` at all; torch.export does, and is kept to its thread.
    """
    torch.manual_seed(0)
    theirs = Tied().eval()
    x = numbers(1, 3, 32, 32, dtype=torch.float32)
    expected = [step.path for step in LRPFx(theirs, capture=way).plan(x).steps]
    with Elsewhere(mine().eval(), x) as elsewhere:
        for _ in range(captures):
            lrp = LRPFx(theirs, capture=way)
            lrp.attribute(x, target=0)
            assert [step.path for step in lrp.plan(x).steps] == expected
    assert elsewhere.failures == []
    assert elsewhere.runs > 0
    if way == "symbolic":
        assert elsewhere.replaced == 0
    assert nn.Module.__call__ is elsewhere.call


SEEN: queue.SimpleQueue[Any] = queue.SimpleQueue()
"""Made in C, so it is shared with copies and nothing takes back what is put into it."""


def _look(y: Tensor) -> Tensor:
    SEEN.put((nn.Module.__call__, nn.Module.__getattr__))
    return y.relu()


def test_nn_module_is_never_patched_by_symbolic_tracing() -> None:
    """Seen from within the model's own forward, which runs while it is traced."""
    model = after(_look)
    LRPFx(model, start=everything, capture="symbolic").attribute(signal(model))
    seen = [SEEN.get() for _ in range(SEEN.qsize())]
    assert set(seen) == {(nn.Module.__call__, nn.Module.__getattr__)}
    assert len(seen) == 2  # to run, and to trace


def test_many_threads_capture_at_once() -> None:
    """One LRPFx each or one for all, the maps are those of one thread."""
    network = NETWORKS["residual"]
    model, (x,) = network.model(), network.inputs()
    expected = LRPFx(model).attribute(x, target=0)
    shared = LRPFx(model)
    found: list[Tensor] = []

    def explain(index: int) -> None:
        lrp = shared if index % 2 else LRPFx(model)
        found.extend(lrp.attribute(x, target=0) for _ in range(3))

    threads = [threading.Thread(target=explain, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 24
    assert all(torch.equal(each, expected) for each in found)


class Unrolled(nn.Module):
    """Needs torch.export: a loop over a size."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dense(x)
        for i in range(x.shape[1]):
            y = y + x[:, i, None]
        return y


class Branching(Unrolled):
    """Needs recording: a branch on values."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.dense(x)
        return y * 2 if float(x.sum()) > 0 else y * 3


@pytest.mark.parametrize("catches", [False, True])
def test_threads_leave_the_process_as_it_was(catches: bool) -> None:
    """Export and recording in turns, beside a thread that runs models.

    Beside recording it also catches warnings; torch.export does so itself, which is not ours to mend.
    """
    models = {"export": Unrolled().eval(), "record": Branching().eval()}
    x = torch.rand(2, 4)
    expected = {way: LRPFx(m, capture=way).attribute(x, 1) for way, m in models.items()}
    before = nn.Module.__call__, nn.Module.__getattr__, list(warnings.filters), sys.stderr
    wrong: list[str] = []
    stop = threading.Event()

    def explain(way: str, times: int) -> None:
        try:
            for _ in range(times):
                found = LRPFx(models[way], capture=way).attribute(x, 1)
                if not torch.allclose(found, expected[way], atol=1e-6):
                    wrong.append(way)
        except Exception as error:
            wrong.append(f"{way}: {error!r}")

    def catch() -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
        while not stop.is_set():
            if not catches:
                model(x)
                continue
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model(x)
                warnings.warn("heard", UserWarning, stacklevel=1)
            heard = [str(each.message) for each in caught]
            if heard != ["heard"]:
                wrong.append(f"warnings: {heard}")

    work = [("record", 8), ("record", 8)] + ([] if catches else [("export", 2), ("export", 2)])
    threads = [threading.Thread(target=explain, args=each) for each in work]
    other = threading.Thread(target=catch)
    for thread in (other, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    other.join()
    assert wrong == []
    now = nn.Module.__call__, nn.Module.__getattr__, list(warnings.filters), sys.stderr
    assert now == before
