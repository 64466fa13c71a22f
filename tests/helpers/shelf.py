"""A Python module of the user, in which code of models leaves what it has seen."""

from __future__ import annotations

from typing import Any

LOG: list[Any] = []
LAST: dict[str, Any] = {}
COUNT = 0
"""Assigned from outside: ``shelf.COUNT += 1``."""
