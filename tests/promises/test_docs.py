"""The Python of the README and of the pages runs, each page from its first line to its last."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import lrp_fx
from lrp_fx import LRPFx
from tests.helpers.pages import PAGES, ROOT, Block, python_blocks

README = ROOT / "README.md"
GALLERY = ROOT / "docs" / "gallery.md"
LISTS = {ROOT / "docs" / "api.md", GALLERY}
"""Python that is a list of signatures, or that needs a network for each block: with tests of its own."""
BLOCKS = {page: python_blocks(page) for page in PAGES if page not in LISTS}
CLASSES = 250
pytestmark = [
    pytest.mark.usefixtures("forgets_operations"),
    pytest.mark.filterwarnings("ignore"),  # of matplotlib, pandas and exporters
]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pages write files and print; threads and random numbers are as before afterwards."""
    monkeypatch.chdir(tmp_path)


def run(blocks: list[Block], names: dict[str, Any]) -> None:
    """Run blocks as a reader does, each with what those above it defined."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in blocks:
            block.run(names)
    pyplot.close("all")


QUICK = [page for page, blocks in BLOCKS.items() if any(not block.note for block in blocks)]
SLOW = [page for page, blocks in BLOCKS.items() if any(block.note == "slow" for block in blocks)]


@pytest.mark.parametrize("page", [page for page in QUICK if page != README], ids=name_of)
def test_the_page_runs(page: Path) -> None:
    run([block for block in BLOCKS[page] if not block.note], {"__name__": "__main__"})


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in SLOW if page != README], ids=name_of)
def test_the_whole_page_runs(page: Path) -> None:
    run([block for block in BLOCKS[page] if block.note != "not run"], {"__name__": "__main__"})


def test_what_is_not_run_says_why() -> None:
    """A block is left out for a reason, and few are."""
    left_out = [block for blocks in BLOCKS.values() for block in blocks if block.note == "not run"]
    assert all(len(block.reason.split()) >= 4 for block in left_out)
    assert len(left_out) <= sum(map(len, BLOCKS.values())) / 4


def test_there_are_examples() -> None:
    """Protects the test from finding none."""
    assert len(QUICK) >= 12
    assert sum(map(len, BLOCKS.values())) >= 60


class Pictures(nn.Module):
    """The model of the README's examples, which leave open which one it is."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3))
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.features(x)).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("block", BLOCKS[README], ids=lambda block: f"line-{block.line}")
def test_the_readme_runs(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block for itself: a reader copies one of them and has a model already."""
    if block.note == "not run":
        pytest.skip(block.reason)
    if "resnet18" in block.code:  # its weights are not here
        random = partial(torchvision.models.resnet18, weights=None)
        monkeypatch.setattr(torchvision.models, "resnet18", lambda weights: random())
        shutil.copy(ROOT / "examples" / "photographs" / "chelsea.jpg", "photograph.jpg")
    model = Pictures().eval()
    names: dict[str, Any] = {name: getattr(lrp_fx, name) for name in lrp_fx.__all__}
    names.update(torch=torch, nn=nn, model=model, lrp=LRPFx(model), low=0.0, high=1.0)
    names.update(x=torch.rand(2, 3, 20, 20), __name__="__main__")
    if "export(" not in block.code:  # has tests of its own, which take long
        run([block], names)
