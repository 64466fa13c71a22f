"""The Python of the README and of the pages runs, with small models in the places of large ones."""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import lrp_fx
from lrp_fx import LRPFx

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "guide.md",
    ROOT / "docs" / "rules.md",
    ROOT / "docs" / "evaluate.md",
]
BLOCKS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    )
    if "export(" not in block  # has tests of its own, which take long
]
CLASSES = 250
pytestmark = pytest.mark.usefixtures("forgets_operations")


class Stage(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv1(x))


class Pictures(nn.Module):
    """The model of most examples: layers of these names, and a ReLU that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3))
        self.relu = nn.ReLU()
        self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(Stage(a, b)) for a, b in ((4, 8), (8, 16), (16, 8))
        )
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.layer2(self.relu(self.features(x))))
        return self.fc(self.layer4(self.layer3(x)).mean((2, 3)))  # type: ignore[no-any-return]


class Several(nn.Module):
    """Two images, or one with a mask and a mode."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(300, 5)

    def forward(self, image: Tensor, other: Tensor, mode: str = "") -> Tensor:
        return self.fc((image * 2 + other).flatten(1))  # type: ignore[no-any-return]


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 21, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": F.interpolate(self.conv(x), size=(128, 128))}


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.fc = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        vectors = self.words(input_ids) * attention_mask[..., None]
        return self.fc(torch.relu(vectors).mean(1))  # type: ignore[no-any-return]


def stand_ins(block: str) -> dict[str, Any]:
    """What the examples take for granted."""
    torch.manual_seed(0)
    x = torch.rand(1 if "attribution_graph" in block else 2, 3, 20, 20)
    model: nn.Module = Pictures()
    names: dict[str, Any] = {name: getattr(lrp_fx, name) for name in lrp_fx.__all__}
    names.update(torch=torch, nn=nn, F=F, x=x, low=0.0, high=1.0, Tensor=Tensor)
    if "depth" in block:
        model = Several()
        names.update(image=x[..., :10, :10], depth=x[..., 10:, 10:], mask=torch.ones(2, 3, 10, 10))
        names.update(segmenter=Segmenter().eval())
    if "bert" in block:
        names.update(bert_classifier=Words().eval(), mask=torch.ones(2, 5).long())
        names.update(input_ids=torch.arange(10).reshape(2, 5) % 9)
    names.update(model=model.eval(), lrp=LRPFx(model.eval()), cross_entropy=F.cross_entropy)
    names.update(loader=[(x, torch.ones(len(x)).long(), torch.ones_like(x))])
    names.update(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    names.update(loader_of_inputs_and_targets=[(x, 243)])
    return names


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.filterwarnings("ignore")  # of matplotlib and pandas
def test_the_example_runs(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    if "resnet18" in block:
        random = partial(torchvision.models.resnet18, weights=None)
        monkeypatch.setattr(torchvision.models, "resnet18", lambda weights: random())
        shutil.copy(ROOT / "examples" / "photographs" / "chelsea.jpg", "photograph.jpg")
    exec(compile(block, "example", "exec"), stand_ins(block))


def test_there_are_examples() -> None:
    """Protects the test from finding none."""
    assert len(BLOCKS) >= 12
