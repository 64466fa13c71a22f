"""docs/operations.md says what the registry says."""

from __future__ import annotations

import runpy
from pathlib import Path

from lrp_fx.relevance.handling import registry

SCRIPT = Path(__file__).parents[1] / "docs" / "operations.py"


def test_the_page_is_what_the_registry_yields() -> None:
    """Protects the table of operations from growing stale."""
    made = runpy.run_path(str(SCRIPT))
    assert made["PAGE"].read_text(encoding="utf-8") == made["page"](), (
        "run: python docs/operations.py"
    )


def test_every_operation_says_its_default_and_its_source() -> None:
    """Protects the page from empty cells."""
    for operation in registry().values():
        assert operation.default_text, operation.name
        assert operation.source, operation.name
