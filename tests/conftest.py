"""What the tests of all folders share."""

from __future__ import annotations

import pytest
import torch

from lrp_fx.relevance import handling


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Each test draws the same numbers, alone and behind any others."""
    torch.manual_seed(0)


@pytest.fixture
def forgets_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operations that a test describes are known to no other test."""
    monkeypatch.setattr(handling, "_REGISTRY", dict(handling._REGISTRY))
