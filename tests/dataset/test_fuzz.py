"""Damaged files of every kind are read or refused, and no code of theirs is run."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from PIL import Image

from lrp_fx.dataset import open_run
from lrp_fx.dataset.loading import read
from lrp_fx.dataset.opening import open_data
from lrp_fx.dataset.sample import Stream
from lrp_fx.errors import InputError, OptionError, RunError
from tests.dataset.helpers import preprocess, samples

FEW, MANY = 40, 2000
ODD: tuple[Any, ...] = (
    *(None, 0, -1, 2**31, 2**70, 1e308, "", "x", [], {}, True, {"name": "x"}, {"id": "pickle"}),
    *("object", "|O", [{"name": "numcodecs.pickle", "configuration": {}}], [10**9] * 4),
)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Some other bytes, or an early end."""
    found = bytearray(content)
    if not found or chance.random() < 0.1:
        return bytes(found[: chance.randrange(len(found) + 1)])
    for _ in range(chance.choice([1, 1, 2, 5, 30])):
        place = chance.randrange(min(len(found), chance.choice([64, 512, len(found)])))
        found[place] = chance.choice([0, 255, chance.randrange(256)])
    return bytes(found)


def replaced(value: Any, chance: random.Random) -> Any:
    """JSON of which something is missing, or something else."""
    if isinstance(value, (dict, list)) and value and chance.random() > 0.15:
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        found: Any = value.copy()
        if chance.random() < 0.15:
            del found[key]
        else:
            found[key] = replaced(value[key], chance)
        return found
    return chance.choice(ODD)


def as_npy(place: Path, _: random.Random) -> Path:
    np.save(place / "x.npy", samples(4).numpy())
    return place / "x.npy"


def as_hdf5(place: Path, chance: random.Random) -> Path:
    with h5py.File(place / "x.h5", "w") as file:
        packed = chance.choice([None, "gzip", "lzf"])
        file.create_dataset("data", data=samples(4).numpy(), chunks=True, compression=packed)
        file["label"] = np.arange(4)
    return place / "x.h5"


def as_tar(place: Path, _: random.Random) -> Path:
    with tarfile.open(place / "x.tar", "w") as file:
        for n, each in enumerate(samples(3)):
            content = BytesIO()
            np.save(content, each.numpy())
            members = (("npy", content.getvalue()), ("json", b'{"label": 2}'), ("pkl", evil()))
            for ending, each_content in members:
                member = tarfile.TarInfo(f"{n}.{ending}")
                member.size = len(each_content)
                file.addfile(member, BytesIO(each_content))
    return place / "x.tar"


def as_image(place: Path, chance: random.Random) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    file = place / f"x.{chance.choice(['png', 'jpg', 'gif', 'webp', 'bmp', 'tif'])}"
    Image.fromarray(pixels).save(file)
    return file


def as_manifest(place: Path, _: random.Random) -> Path:
    Image.new("RGB", (4, 4)).save(place / "x.png")
    (place / "x.csv").write_text("path,label,id\nx.png,1,a\n./x.png,2,b\n")
    return place / "x.csv"


def as_zarr(place: Path, chance: random.Random) -> Path:
    """A store; the file of it that is damaged."""
    group = zarr.create_group(str(place / "x.zarr"), zarr_format=chance.choice([2, 3]))
    group.create_array("data", data=samples(4).numpy(), chunks=(2, 3, 8, 8))
    group.create_array("label", data=np.arange(4))
    return chance.choice(sorted(each for each in place.rglob("*") if each.is_file()))


KINDS: dict[str, Callable[[Path, random.Random], Path]] = {
    "npy": as_npy,
    "hdf5": as_hdf5,
    "tar": as_tar,
    "image": as_image,
    "manifest": as_manifest,
    "zarr": as_zarr,
}


def read_damaged(kind: str, seed: int, place: Path) -> bool:
    """Damage a file, and read all of it; whether all samples were whole."""
    chance = random.Random(seed)
    place.mkdir()
    file = KINDS[kind](place, chance)
    content = file.read_bytes()
    if kind == "zarr" and content[:1] == b"{" and chance.random() < 0.8:
        file.write_text(json.dumps(replaced(json.loads(content), chance)))
    else:
        file.write_bytes(damaged(content, chance))
    data = {"zarr": place / "x.zarr", "image": place}.get(kind, file)
    try:
        source = open_data(data, preprocess=preprocess)
        source.content()
        assert not isinstance(source, Stream)
        source.stamp(range(len(source)))
        found = [read(source, n) for n in range(min(len(source), 8))]
        return all(each.reason is None for each in found)
    except (InputError, OptionError):
        return False
    finally:
        shutil.rmtree(place)


@pytest.mark.filterwarnings("ignore")  # those of Pillow, zarr and h5py
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    count = FEW // 4 if kind == "zarr" else FEW
    whole = [read_damaged(kind, seed, tmp_path / "x") for seed in range(count)]
    assert not all(whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    count = MANY // 5 if kind == "zarr" else MANY
    whole = [read_damaged(kind, FEW + seed, tmp_path / "x") for seed in range(count)]
    assert not all(whole)
    assert any(whole)


class Evil:
    """Ends the test when it is unpickled."""

    def __reduce__(self) -> Any:
        return (pytest.exit, ("unpickled",))


def evil() -> bytes:
    return pickle.dumps(Evil())


def _evil_npy(place: Path) -> Path:
    array = np.array([Evil(), Evil()], dtype=object).reshape(2, 1)
    np.save(place / "x.npy", array, allow_pickle=True)
    return place / "x.npy"


def _evil_zarr(place: Path) -> Path:
    """An array of pickled objects, as Zarr v2 has them."""
    (place / "x.zarr").mkdir()
    metadata = {
        **{"zarr_format": 2, "shape": [2, 1], "chunks": [2, 1], "dtype": "|O", "order": "C"},
        **{"filters": [{"id": "pickle", "protocol": 5}], "compressor": None, "fill_value": 0},
    }
    (place / "x.zarr" / ".zarray").write_text(json.dumps(metadata))
    (place / "x.zarr" / "0.0").write_bytes(evil())
    return place / "x.zarr"


def _evil_tar(place: Path) -> Path:
    with tarfile.open(place / "x.tar", "w") as file:
        for ending in ("pyd", "pkl", "pth", "npy", "cls"):
            member = tarfile.TarInfo(f"0.{ending}")
            member.size = len(evil())
            file.addfile(member, BytesIO(evil()))
    return place / "x.tar"


def _evil_image(place: Path) -> Path:
    (place / "x.png").write_bytes(evil())
    return place


@pytest.mark.parametrize("make", [_evil_npy, _evil_zarr, _evil_tar, _evil_image])
def test_nothing_is_unpickled(make: Callable[[Path], Path], tmp_path: Path) -> None:
    try:
        source = open_data(make(tmp_path), preprocess=preprocess)
        assert not isinstance(source, Stream)
        assert read(source, 0).reason
    except InputError:
        pass


@pytest.mark.parametrize("name", ["job.json", "samples.parquet"])
def test_a_run_is_not_unpickled(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(evil())
    with pytest.raises(RunError):
        open_run(tmp_path)
