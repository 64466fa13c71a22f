"""Same inputs, same bits: whatever threads do, and between calls."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LayerLRPFx, LRPFx, NeuronLRPFx
from tests.helpers.modes import composites, engines, images, net


@engines
@composites
def test_same_inputs_same_bits(composite: str, engine: Any) -> None:
    """Twice on one object, on another object, and after other inputs came between."""
    model, x = net(), images()
    lrp = LRPFx(model, composite, propagation=engine)
    first = lrp.attribute(x, 1)
    lrp.attribute(images(3, seed=1), [0, 2, 4])
    assert torch.equal(lrp.attribute(x, 1), first)
    assert torch.equal(LRPFx(model, composite, propagation=engine).attribute(x, 1), first)


@contextlib.contextmanager
def hasty_threads() -> Iterator[None]:
    """Threads take turns as often as they can, so that races show."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def together(jobs: list[Callable[[], Any]]) -> list[Any]:
    """What the jobs return or raise when they start at the same moment, each in its thread."""
    barrier = threading.Barrier(len(jobs))
    results: list[Any] = [None] * len(jobs)

    def run(index: int) -> None:
        barrier.wait()
        try:
            results[index] = jobs[index]()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(jobs))]
    with hasty_threads():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return results


@pytest.mark.parametrize("capture", ["symbolic", "export"])
@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_alpha2_beta1_flat"])
def test_eight_threads_on_one_object(composite: str, capture: str) -> None:
    """Each with inputs, batch size and target of its own; the first calls read the model."""
    model = net()
    cases = [(images(1 + i % 3, seed=i), i % 5) for i in range(8)]
    expected = [LRPFx(model, composite, capture="symbolic").attribute(x, t) for x, t in cases]
    for _ in range(2 if capture == "export" else 6):
        lrp = LRPFx(model, composite, capture=capture)
        for _ in range(2):  # the second round finds everything made
            jobs = [lambda x=x, t=t, lrp=lrp: lrp.attribute(x, t) for x, t in cases]
            for mine, alone in zip(together(jobs), expected, strict=True):
                assert isinstance(mine, Tensor), mine
                assert torch.equal(mine, alone)


def test_threads_with_refresh_between() -> None:
    """Recomputing what comes from the parameters does not disturb who is running.

    Many folded norms: so most of a run is reading and writing what is computed from parameters.
    """
    model = nn.Sequential(*(m for _ in range(30) for m in (nn.Linear(2, 2), nn.BatchNorm1d(2))))
    model.eval()
    x = torch.randn(1, 2)
    lrp = LRPFx(model, "epsilon")
    expected = lrp.attribute(x, 1)

    def explain() -> list[Tensor]:
        found = []
        for _ in range(4):
            lrp.refresh()
            found.append(lrp.attribute(x, 1))
        return found

    for results in together([explain] * 4):
        assert isinstance(results, list), results
        assert all(torch.equal(each, expected) for each in results)


def test_threads_in_different_modes() -> None:
    """Grad mode and autocast belong to a thread; what they share must not."""
    model, x = net(), images()
    modes: list[Callable[[], Any]] = [
        contextlib.nullcontext,
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    ] * 2

    def job(lrp: LRPFx, mode: Callable[[], Any]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with mode():
                return lrp.attribute(x, 1)

        return run

    expected = [job(LRPFx(model), mode)() for mode in modes]
    lrp = LRPFx(model)
    for _ in range(3):
        for mine, alone in zip(together([job(lrp, m) for m in modes]), expected, strict=True):
            assert isinstance(mine, Tensor), mine
            assert torch.equal(mine, alone)


def test_layers_and_neurons_from_threads() -> None:
    model, x = net(), images()
    layer, neuron = LayerLRPFx(model, "stem.2"), NeuronLRPFx(model, "pool")
    jobs: list[Callable[[], Tensor]] = [
        *[lambda: layer.attribute(x, 1)] * 4,
        *[lambda: neuron.attribute(x, (1, 2, 3))] * 4,
    ]
    alone = [LayerLRPFx(model, "stem.2").attribute(x, 1)] * 4
    alone += [NeuronLRPFx(model, "pool").attribute(x, (1, 2, 3))] * 4
    for mine, expected in zip(together(jobs), alone, strict=True):
        assert isinstance(mine, Tensor), mine
        assert torch.equal(mine, expected)
