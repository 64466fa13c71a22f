"""What the tests of optimizations share."""

from __future__ import annotations

import pytest

from lrp_fx.optimize import onednn


@pytest.fixture
def little_work_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products, too, run by the kernels that are for large ones."""
    monkeypatch.setattr(onednn, "LITTLE_WORK", 0)
