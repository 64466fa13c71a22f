"""The Python of docs/pictures.md runs, with small things in the places of large ones."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import lrp_fx
from lrp_fx import LRPFx, visualize

PAGE = Path(__file__).parents[2] / "docs" / "pictures.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
SIDE = 8


def preprocess(photograph: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(photograph)).permute(2, 0, 1).float() / 127.5 - 1


@pytest.mark.parametrize("block", BLOCKS)
def test_the_page_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 250)).eval()
    photograph = Image.new("RGB", (SIDE, SIDE), "red")
    rng = np.random.default_rng(0)
    shapes = {
        "signal(": (3, 20),
        "channel_map(": (3, 20),
        "volume(": (4, 5, 6),
        "bar(": (4,),
        "beeswarm(": (9, 4),
        "tokens(": (1, 5),
    }
    names = {
        **{"model": model, "x": preprocess(photograph)[None], "lrp": LRPFx(model)},
        **{"visualize": visualize, "lrp_fx": lrp_fx, "LRPFx": LRPFx},
        **{"photograph": photograph, "photographs": [photograph] * 2, "preprocess": preprocess},
        **{"mean": 0.5, "std": 0.5, "classes": [str(n) for n in range(250)]},
        **{"r1": torch.rand(2, 3, SIDE, SIDE), "r2": torch.rand(2, 3, SIDE, SIDE)},
        **{"ecg": rng.normal(size=(3, 20)), "electrodes": list("abc"), "scan": np.ones((4, 5, 6))},
        **{"columns": list("abcd"), "row": np.ones(4), "table": np.ones((9, 4)), "ids": range(5)},
        "tokenizer": SimpleNamespace(convert_ids_to_tokens=lambda ids: [f"w{n}" for n in ids]),
        "relevance": torch.rand(1, 3, SIDE, SIDE),
    }
    for line in block.splitlines():
        if "slider" in line:  # ipywidgets is no package of the tests
            continue
        for function, shape in shapes.items():
            if f"visualize.{function}" in line:
                names["relevance"] = rng.normal(size=shape)
        exec(line, names)
