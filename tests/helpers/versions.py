"""What the lowest version of torch that is promised cannot do: tests leave it out there."""

from __future__ import annotations

import pytest
import torch


def not_with_2_6(reason: str) -> pytest.MarkDecorator:
    """Skips a test where torch is 2.6, with the reason: "torch 2.6 …"."""
    return pytest.mark.skipif(torch.__version__.startswith("2.6."), reason=f"torch 2.6 {reason}")
