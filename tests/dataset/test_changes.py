"""Data that changed between two calls are noticed, whatever they are and wherever the change is."""

import os
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import zarr
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, TensorDataset

from lrp_fx import LRPFx
from lrp_fx.dataset import attribute_dataset
from lrp_fx.errors import InputError, RunError
from tests.dataset.helpers import classifier, preprocess, same, samples

COUNT, CHANGED = 100, 2
"""Of a hundred samples one changes that is not among those that stand for the others."""
BATCH: dict[str, Any] = {"batch_size": 50, "part_size": 50}


class Once(IterableDataset[Tensor]):
    """Goes on where it was left, each time it is read."""

    def __init__(self, items: Tensor) -> None:
        self.iterator = iter(items)

    def __iter__(self) -> Iterator[Tensor]:
        return self.iterator


class Streamed(IterableDataset[Tensor]):
    def __init__(self, items: Tensor) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.items)


def as_npy(x: Tensor, folder: Path) -> Path:
    np.save(folder / "x.npy", x.numpy())
    return folder / "x.npy"


def as_hdf5(x: Tensor, folder: Path) -> Path:
    with h5py.File(folder / "x.h5", "w") as file:
        file["data"] = x.numpy()
    return folder / "x.h5"


def as_zarr(x: Tensor, folder: Path) -> Path:
    array = zarr.create_array(
        folder / "x.zarr", shape=x.shape, dtype="f4", chunks=(10, *x.shape[1:]), overwrite=True
    )
    array[:] = x.numpy()
    return folder / "x.zarr"


def as_tar(x: Tensor, folder: Path) -> Path:
    with tarfile.open(folder / "x.tar", "w") as file:
        for n, each in enumerate(x):
            content = BytesIO()
            np.save(content, each.numpy())
            member = tarfile.TarInfo(f"{n}.npy")
            member.size = content.tell()
            file.addfile(member, BytesIO(content.getvalue()))
    return folder / "x.tar"


KINDS: dict[str, Callable[[Tensor, Path], Any]] = {
    "tensor": lambda x, _: x,
    "array": lambda x, _: x.numpy(),
    "list": lambda x, _: [*x],
    "data set of tensors": lambda x, _: TensorDataset(x, torch.zeros(COUNT, dtype=torch.long)),
    "stream": lambda x, _: Streamed(x),
    "npy": as_npy,
    "hdf5": as_hdf5,
    "zarr": as_zarr,
    "tar": as_tar,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_sample_is_noticed(kind: str, tmp_path: Path) -> None:
    lrp, x = LRPFx(classifier()), samples(COUNT)
    run = attribute_dataset(lrp, KINDS[kind](x, tmp_path), tmp_path / "run", **BATCH)
    assert run is not None
    y = x.clone()
    y[CHANGED] = 0
    with pytest.raises(RunError, match=r"another data set|changed after they were explained"):
        attribute_dataset(lrp, KINDS[kind](y, tmp_path), tmp_path / "run", **BATCH)


@pytest.mark.parametrize("manifest", [False, True])
def test_a_picture_of_the_same_size_is_explained_again(manifest: bool, tmp_path: Path) -> None:
    """It is refused, whatever its time says of before and after; with retry the run is a new one."""
    folder = tmp_path / "data"
    folder.mkdir()
    for n in range(6):
        Image.new("RGB", (8, 8), (40 * n, 0, 0)).save(folder / f"{n}.bmp")
    data = folder / "list.csv" if manifest else folder
    if manifest:
        data.write_text("path\n" + "".join(f"{n}.bmp\n" for n in range(6)))
    options: dict[str, Any] = {"preprocess": preprocess, "batch_size": 2, "part_size": 2}
    lrp = LRPFx(classifier())
    attribute_dataset(lrp, data, tmp_path / "run", **options)
    changed = folder / "3.bmp"
    Image.new("RGB", (8, 8), (0, 255, 0)).save(changed)
    os.utime(changed, (0, 0))
    with pytest.raises(RunError, match="1 of the parts"):
        attribute_dataset(lrp, data, tmp_path / "run", **options)
    with pytest.raises(RunError, match="1 of the parts"):
        attribute_dataset(lrp, data, tmp_path / "run", shard=(1, 3), **options)
    assert attribute_dataset(lrp, data, tmp_path / "run", shard=(0, 3), **options) is None
    again = attribute_dataset(lrp, data, tmp_path / "run", retry=True, **options)
    fresh = attribute_dataset(lrp, data, tmp_path / "fresh", **options)
    assert again is not None
    assert fresh is not None
    assert same(again, fresh)


def test_a_stream_that_goes_on_where_it_was_left_is_refused(tmp_path: Path) -> None:
    """Its first samples would be lost."""
    with pytest.raises(InputError, match="other samples when it is read again"):
        attribute_dataset(LRPFx(classifier()), Once(samples(40)), tmp_path / "run")


def test_a_hook_that_may_change_relevance_is_part_of_the_run(tmp_path: Path) -> None:
    """One that returns nothing only observes, and does not count."""
    x, seen = samples(4), []
    attribute_dataset(LRPFx(classifier()), x, tmp_path / "run")
    observed, doubled = LRPFx(classifier()), LRPFx(classifier())

    def watch(relevance: Tensor, step: object) -> None:
        seen.append(relevance)

    observed.register_relevance_hook("*", watch)
    assert attribute_dataset(observed, x, tmp_path / "run")
    doubled.register_relevance_hook("*", lambda relevance, step: 2 * relevance)
    with pytest.raises(RunError, match="another list of relevance hooks"):
        attribute_dataset(doubled, x, tmp_path / "run")


@pytest.mark.parametrize(
    "data",
    [samples(4).to_sparse(), samples(4).to("meta"), np.ma.masked_less(samples(4).numpy(), 0)],
    ids=["sparse", "meta", "masked"],
)
def test_tensors_without_plain_values_are_refused(data: Any, tmp_path: Path) -> None:
    for each in (data, [data[0], data[1]]):
        with pytest.raises(InputError, match=r"dense tensor with values|masked entries"):
            attribute_dataset(LRPFx(classifier()), each, tmp_path / "run")
