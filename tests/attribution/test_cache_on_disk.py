"""Readings kept in a folder: the same maps, and never those of another model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from types import FunctionType
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LayerLRPFx, LRPFx
from lrp_fx.attribution import cache as explainers
from lrp_fx.capture import as_text, kept, lasting
from lrp_fx.errors import OptionError

ROOT = Path(__file__).parents[2]


class Net(nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale, self.shift = scale, [torch.tensor(0.25)]
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.conv(x)) * self.scale + self.shift[0])
        logits: Tensor = self.head(y.flatten(2).mean(2))
        return logits


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.encoder(x).mean(1)}


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(8, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        states: Tensor = self.layer(x)[0]
        return states[:, -1]


NUMBERS = torch.Generator().manual_seed(0)
IMAGES = torch.randn(2, 3, 6, 6, generator=NUMBERS)
WORDS = torch.randn(2, 5, 8, generator=NUMBERS)


def _made(kind: Callable[[], nn.Module] = Net) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval()


@pytest.fixture
def reads() -> Iterator[mock.Mock]:
    """Counts how often a model is read."""
    with mock.patch.object(explainers, "read", wraps=explainers.read) as counted:
        yield counted


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{kept.ENDING}"))


@pytest.mark.parametrize("capture", ["auto", "export"])
@pytest.mark.parametrize(
    ("kind", "x"),
    [(Net, IMAGES), (Encoder, WORDS), (Recurrent, WORDS)],
    ids=["images", "encoder", "recurrent"],
)
def test_a_kept_reading_gives_the_same_map(
    kind: Callable[[], nn.Module], x: Tensor, capture: str, tmp_path: Path, reads: mock.Mock
) -> None:
    model = _made(kind)
    fresh, plan = LRPFx(model, capture=capture), str(LRPFx(model, capture=capture).plan(x))
    expected = fresh.attribute(x, target=1)
    before = reads.call_count
    for _ in range(3):
        lrp = LRPFx(model, capture=capture, cache=tmp_path)
        assert torch.equal(lrp.attribute(x, target=1), expected)
        assert str(lrp.plan(x)) == plan
    assert reads.call_count == before + 1
    assert len(_files(tmp_path)) == 1


def test_other_attributions_share_the_folder(tmp_path: Path, reads: mock.Mock) -> None:
    model = _made()
    expected = LayerLRPFx(model, model.conv).attribute(IMAGES, target=0)
    LRPFx(model, cache=str(tmp_path)).attribute(IMAGES, target=0)
    before = reads.call_count
    found = LayerLRPFx(model, model.conv, cache=tmp_path).attribute(IMAGES, target=0)
    assert isinstance(found, Tensor)
    assert isinstance(expected, Tensor)
    assert torch.equal(found, expected)
    assert reads.call_count == before


def test_one_file_serves_batches_of_all_sizes(tmp_path: Path, reads: mock.Mock) -> None:
    model = _made()
    LRPFx(model, cache=tmp_path).attribute(IMAGES, target=0)
    more = torch.cat([IMAGES, IMAGES])
    expected = LRPFx(model).attribute(more, target=0)
    before = reads.call_count
    assert torch.equal(LRPFx(model, cache=tmp_path).attribute(more, target=0), expected)
    assert reads.call_count == before


def test_weights_are_those_of_the_model(tmp_path: Path, reads: mock.Mock) -> None:
    LRPFx(_made(), cache=tmp_path).attribute(IMAGES, target=0)
    torch.manual_seed(1)
    other = Net().eval()
    expected = LRPFx(other).attribute(IMAGES, target=0)
    before = reads.call_count
    assert torch.equal(LRPFx(other, cache=tmp_path).attribute(IMAGES, target=0), expected)
    assert reads.call_count == before


def _with_other_code(model: Net) -> None:
    class Edited(Net):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.norm(self.conv(x)) * self.scale - self.shift[0])
            logits: Tensor = self.head(y.flatten(2).mean(2))
            return logits

    model.__class__ = Edited


def _with_a_wider_head(model: Net) -> None:
    model.head = nn.Linear(4, 5)


def _with_a_hook(model: Net) -> None:
    model.conv.register_forward_hook(lambda module, inputs, output: output * 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model, "scale", 2.0),
        lambda model: setattr(model, "shift", [torch.tensor(0.5)]),
        lambda model: setattr(model.norm, "eps", 1e-2),
        lambda model: model.double(),
        _with_other_code,
        _with_a_wider_head,
        _with_a_hook,
    ],
)
def test_a_changed_model_is_read_again(
    change: Callable[[Net], object], tmp_path: Path, reads: mock.Mock
) -> None:
    LRPFx(_made(), cache=tmp_path).attribute(IMAGES, target=0)
    model = _made()
    assert isinstance(model, Net)
    change(model)
    x = IMAGES.to(model.head.weight.dtype)
    expected = LRPFx(model).attribute(x, target=0)
    before = reads.call_count
    assert torch.equal(LRPFx(model, cache=tmp_path).attribute(x, target=0), expected)
    assert reads.call_count == before + 1
    assert len(_files(tmp_path)) == 2


@pytest.mark.parametrize("version", ["__version__", "torch"])
def test_another_version_reads_again(version: str, tmp_path: Path, reads: mock.Mock) -> None:
    model = _made()
    LRPFx(model, cache=tmp_path).attribute(IMAGES, target=0)
    owner, name = (lasting, version) if version.startswith("_") else (torch, "__version__")
    with mock.patch.object(owner, name, "0.0"):
        LRPFx(model, cache=tmp_path).attribute(IMAGES, target=0)
    assert reads.call_count == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-100],
        lambda content: content.replace(b"aten.relu", b"aten.tanh"),
        lambda content: content.replace(b"1", b"2", 1),
        lambda content: b"\xff" + content,
        lambda content: b"\x80\x04cos\nsystem\n.",
    ],
)
def test_a_damaged_file_is_written_again(
    damage: Callable[[bytes], bytes], tmp_path: Path, reads: mock.Mock
) -> None:
    model = _made()
    expected = LRPFx(model, cache=tmp_path).attribute(IMAGES, target=0)
    (file,) = _files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert torch.equal(LRPFx(model, cache=tmp_path).attribute(IMAGES, target=0), expected)
    assert reads.call_count == 2
    assert file.read_bytes() == whole


def test_a_graph_that_computes_something_else_is_not_used(tmp_path: Path, reads: mock.Mock) -> None:
    model = _made()
    expected = LRPFx(model, cache=tmp_path).attribute(IMAGES, target=0)
    (file,) = _files(tmp_path)
    with mock.patch.object(kept, "as_text", lambda c: as_text(c).replace("aten.relu", "aten.tanh")):
        file.unlink()
        LRPFx(model, cache=tmp_path).attribute(IMAGES, target=0)
    assert "aten.tanh" in file.read_text()
    assert torch.equal(LRPFx(model, cache=tmp_path).attribute(IMAGES, target=0), expected)
    assert reads.call_count == 3
    assert "aten.relu" in file.read_text()


def test_what_no_file_can_hold_is_read_each_time(tmp_path: Path, reads: mock.Mock) -> None:
    class Branching(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if x.sum() > 0 else -x)

    for _ in range(2):
        LRPFx(_made(Branching), cache=tmp_path).attribute(IMAGES, target=0)
    assert reads.call_count == 2
    assert not _files(tmp_path)


def test_a_kept_graph_that_may_be_wrong_is_still_verified(tmp_path: Path, reads: mock.Mock) -> None:
    class Asking(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.clamp(-9, 9) if type(x) is Tensor else x)

    model = _made(Asking)
    LRPFx(model, cache=tmp_path).attribute(IMAGES, target=0)
    before = reads.call_count
    lrp = LRPFx(model, cache=tmp_path)
    lrp.attribute(IMAGES, target=0)
    assert reads.call_count == before
    expected = LRPFx(model).attribute(99 * IMAGES, target=0)
    assert torch.equal(lrp.attribute(99 * IMAGES, target=0), expected)


def test_the_least_recently_used_files_go(tmp_path: Path) -> None:
    with mock.patch.object(kept, "MOST_FILES", 2):
        for place, scale in enumerate((1.0, 2.0, 3.0)):
            model = _made(lambda scale=scale: Net(scale))  # type: ignore[misc]
            LRPFx(model, cache=tmp_path).attribute(IMAGES, target=0)
            for file in _files(tmp_path):
                os.utime(file, (place, place))
    assert len(_files(tmp_path)) == 2


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch()
    with pytest.raises(OptionError, match="cannot be a folder"):
        LRPFx(_made(), cache=place)
    with pytest.raises(OptionError, match="must be a folder or None, got 3"):
        LRPFx(_made(), cache=3)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_written_to_is_only_read(tmp_path: Path, reads: mock.Mock) -> None:
    model = _made()
    refused = OSError(30, "Read-only file system")
    with mock.patch.object(kept, "write_whole", side_effect=refused):
        LRPFx(model, cache=tmp_path).attribute(IMAGES, target=0)
    assert not _files(tmp_path)


def test_several_threads_write_one_file(tmp_path: Path, reads: mock.Mock) -> None:
    model = _made()

    def explain(_: int) -> Tensor:
        return LRPFx(deepcopy(model), cache=tmp_path).attribute(IMAGES, target=0)

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(explain, range(8))
    assert all(torch.equal(first, other) for other in others)
    before = reads.call_count
    explain(0)
    assert reads.call_count == before
    assert [file.suffix for file in tmp_path.iterdir()] == [kept.ENDING]


_CODE = """
import sys, torch
from unittest import mock
from lrp_fx import LRPFx
from lrp_fx.attribution import cache
from tests.attribution.test_cache_on_disk import Encoder, Net, _made
for kind, x in ((Net, torch.ones(1, 3, 6, 6)), (Encoder, torch.ones(1, 5, 8))):
    with mock.patch.object(cache, "read", wraps=cache.read) as reads:
        LRPFx(_made(kind), cache=sys.argv[1]).attribute(x, target=0)
    print(reads.call_count)
"""


@pytest.mark.slow  # each process imports torch
def test_another_process_finds_the_file(tmp_path: Path) -> None:
    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _CODE, str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    together = [start(), start()]
    assert {each.communicate()[0] for each in together} <= {"1\n1\n", "0\n1\n", "0\n0\n", "1\n0\n"}
    assert start().communicate()[0] == "0\n0\n"
    assert len(_files(tmp_path)) == 2


def test_keys_say_what_code_does() -> None:
    def one(x: object) -> object:
        return x in {"a", "b"}

    same = FunctionType(one.__code__, globals())
    digest = lasting._digest_of_code
    assert digest(one.__code__) == digest(same.__code__)
    assert digest(one.__code__) != digest(one.__code__.replace(co_consts=(None, frozenset("a"))))
