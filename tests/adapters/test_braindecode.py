"""The signature of braindecode's function, on a network that Captum's LRP refuses."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from lrp_fx import LRPFx
from lrp_fx.adapters import lrp
from lrp_fx.errors import OptionError


def eeg_network() -> nn.Module:
    """ELU, depthwise convolutions and a final log-softmax, as networks of EEG have them."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Unflatten(1, (1, 4)), nn.Conv2d(1, 6, (1, 5)), nn.BatchNorm2d(6)),
        *(nn.Conv2d(6, 6, (4, 1), groups=6), nn.ELU(), nn.AvgPool2d((1, 4))),
        *(nn.Flatten(), nn.Linear(42, 3), nn.LogSoftmax(1)),
    ).eval()


def test_signals() -> None:
    model, x, target = eeg_network(), torch.rand(2, 4, 32), torch.tensor([2, 0])
    found = lrp(model, x, target)
    assert torch.equal(found, LRPFx(model).attribute(x, target))
    assert not found.requires_grad
    other = lrp(model, x, target, composite="epsilon", bias="distribute")
    assert torch.equal(other, LRPFx(model, "epsilon", bias="distribute").attribute(x, target))
    with pytest.raises(OptionError, match="top_k"):
        lrp(model, x, target, topk=0.5)  # type: ignore[call-arg]


def test_the_signature_is_braindecodes() -> None:
    """braindecode brings mne and many more packages, so it is no package of the tests."""
    visualization = pytest.importorskip("braindecode.visualization")
    theirs = list(inspect.signature(visualization.lrp).parameters)
    assert list(inspect.signature(lrp).parameters)[: len(theirs)] == theirs
