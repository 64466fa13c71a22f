"""The model of one's own that the tests of the command line explain."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.helpers import MODELS


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file with factories; ``own:make`` names one."""
    file: Path = tmp_path_factory.mktemp("models") / "own_models.py"
    file.write_text(MODELS, encoding="utf-8")
    return str(file)
