"""What several files of tests share."""

from __future__ import annotations

import pytest

from lrp_fx.relevance import handling


@pytest.fixture
def forgets_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operations that a test describes are known to no other test."""
    monkeypatch.setattr(handling, "_REGISTRY", dict(handling._REGISTRY))
