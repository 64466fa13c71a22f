"""Runs over data sets: what they compute, from which data, and how they are shared out."""

import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
import torch
import zarr
from pyarrow import parquet
from torch.utils.data import Dataset, IterableDataset

from lrp_fx import ConceptLRPFx, LRPFx
from lrp_fx.dataset import attribute_dataset, merge, open_run
from lrp_fx.errors import InputError, OptionError, RunError
from tests.dataset.helpers import classifier, pictures, preprocess, same, samples

COUNT = 20
HALF_PRECISION = 2**-11
"""The rounding of float16, as a share of the largest value."""
SUMS = 1e-5
"""Sums of float32 values in another order."""


class Listed(Dataset[Any]):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Streamed(IterableDataset[Any]):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


def test_a_run_holds_what_attribute_returns(tmp_path: Path) -> None:
    """Bit for bit in batches of the same bounds, with all numbers of the table."""
    model, x = classifier(), samples(COUNT)
    lrp = LRPFx(model, "epsilon_plus")
    run = attribute_dataset(lrp, x, tmp_path / "run", batch_size=8, part_size=8)
    assert run is not None
    for start in range(0, COUNT, 8):
        part = x[start : start + 8]
        output = model(part).detach()
        target = output.argmax(1)
        relevance, delta = lrp.attribute(part, target, return_convergence_delta=True)
        assert np.array_equal(run.relevance(range(start, start + len(part))), relevance.numpy())
        for n, row in enumerate(run.table.slice(start, len(part)).to_pylist()):
            assert row["index"] == start + n
            assert row["prediction"] == row["target"] == int(target[n])
            assert row["logit"] == pytest.approx(float(output[n, target[n]]), rel=SUMS)
            assert row["relevance_sum"] == pytest.approx(float(relevance[n].sum()), abs=SUMS)
            assert row["delta"] == pytest.approx(float(delta[n]), abs=SUMS)
            assert (row["status"], row["reason"], row["error"]) == ("ok", None, 0.0)
    array = zarr.open_group(str(tmp_path / "run" / "relevance.zarr"), mode="r")["relevance"]
    assert array.shape == x.shape
    assert array.metadata.zarr_format == 3


def test_each_thing_that_is_kept(tmp_path: Path) -> None:
    model, x = classifier(), samples(COUNT)
    lrp = LRPFx(model)
    whole = attribute_dataset(lrp, x, tmp_path / "whole")
    assert whole is not None
    maps = whole.relevance(range(COUNT))
    sums = attribute_dataset(lrp, x, tmp_path / "sums", keep="channel_sums")
    assert sums is not None
    np.testing.assert_allclose(sums.relevance(range(COUNT)), maps.sum(1), atol=SUMS)
    half = attribute_dataset(lrp, x, tmp_path / "half", dtype="float16")
    assert half is not None
    off = np.abs(half.relevance(range(COUNT)) - maps).reshape(COUNT, -1).max(1)
    stated = np.array(half.column("error")) * np.abs(maps).reshape(COUNT, -1).max(1)
    np.testing.assert_allclose(off, stated, rtol=1e-6)
    assert 0 < max(half.column("error")) <= HALF_PRECISION
    table = attribute_dataset(lrp, x, tmp_path / "table", keep="summary")
    assert table is not None
    assert table.table.drop(["seconds"]).equals(whole.table.drop(["seconds"]))
    with pytest.raises(OptionError, match="only a table"):
        table.array()
    crp = ConceptLRPFx(model)
    concepts = attribute_dataset(crp, x, tmp_path / "crp", keep="concepts", layers=["0"])
    assert concepts is not None
    expected = crp.channel_relevance(x[:16], ["0"], model(x[:16]).argmax(1))[0]
    np.testing.assert_array_equal(concepts.relevance(range(16), "0"), expected.numpy())
    assert concepts.column("logit") == whole.column("logit")


def test_too_large_for_half_precision_is_said(tmp_path: Path) -> None:
    x = samples(4)
    x[2] *= 1e7
    run = attribute_dataset(LRPFx(classifier()), x, tmp_path / "run", dtype="float16")
    assert run is not None
    assert run.column("status") == ["ok", "ok", "failed", "ok"]
    assert "too large for float16" in run.column("reason")[2]
    assert np.isnan(run.relevance(2)).all()


@pytest.mark.parametrize("start", ["softmax", lambda y: y * 2])
def test_starts_without_a_target(start: Any, tmp_path: Path) -> None:
    lrp, x = LRPFx(classifier(), start=start), samples(3)
    run = attribute_dataset(lrp, x, tmp_path / "run")
    assert run is not None
    assert np.array_equal(run.relevance(range(3)), lrp.attribute(x).numpy())
    assert run.column("target") == [None] * 3


def _folder(place: Path) -> Any:
    pictures(place / "data", 6, by_class=True)
    return place / "data"


def _manifest(place: Path, ending: str) -> Any:
    files = pictures(place / "data", 6)
    columns = {
        "path": [file.name for file in files],
        "label": ["cat", "dog"] * 3,
        "id": [f"n{n}" for n in range(6)],
    }
    if ending == "parquet":
        parquet.write_table(pa.table(columns), place / "data" / "list.parquet")
    else:
        rows = [",".join(columns), *map(",".join, zip(*columns.values(), strict=True))]
        (place / "data" / "list.csv").write_text("\n".join(rows))
    return place / "data" / f"list.{ending}"


def _tar(place: Path) -> Any:
    for shard in range(2):
        files = pictures(place, 3)
        with tarfile.open(place / f"s-{shard}.tar", "w") as archive:
            for n, file in enumerate(files):
                for ending, content in (
                    ("png", file.read_bytes()),
                    ("cls", b"%d" % ((n + shard) % 2)),
                ):
                    member = tarfile.TarInfo(f"{shard}-{n}.{ending}")
                    member.size = len(content)
                    archive.addfile(member, BytesIO(content))
    return f"{place}/s-{{0..1}}.tar"


def _npy(place: Path) -> Any:
    np.save(place / "data.npy", samples(6).numpy())
    return place / "data.npy"


def _hdf5(place: Path) -> Any:
    with h5py.File(place / "data.h5", "w") as file:
        file["data"], file["label"] = samples(6).numpy(), np.arange(6) % 2
    return place / "data.h5"


def _zarr(place: Path) -> Any:
    group = zarr.create_group(str(place / "data.zarr"))
    group.create_array("data", data=samples(6).numpy())
    group.create_array("label", data=np.arange(6) % 2)
    return place / "data.zarr"


class Hub:
    """As a data set of Hugging Face: dicts, and features with names."""

    features = {"label": type("ClassLabel", (), {"names": ["cat", "dog"]})}  # noqa: RUF012

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": samples(6)[index], "label": index % 2}


SOURCES: dict[str, Callable[[Path], Any]] = {
    "folder": _folder,
    "csv": lambda place: _manifest(place, "csv"),
    "parquet": lambda place: _manifest(place, "parquet"),
    "tar": _tar,
    "npy": _npy,
    "hdf5": _hdf5,
    "zarr": _zarr,
    "dataset": lambda _: Listed([(x, n % 2) for n, x in enumerate(samples(6))]),
    "stream": lambda _: Streamed([(x, n % 2) for n, x in enumerate(samples(6))]),
    "hub": lambda _: Hub(),
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_kind_of_data(name: str, tmp_path: Path) -> None:
    """The maps are those of the samples, the labels are found, and the run is not computed again."""
    data, lrp = SOURCES[name](tmp_path), LRPFx(classifier())
    options: dict[str, Any] = {"preprocess": preprocess, "batch_size": 4, "part_size": 4}
    if name == "npy":
        options["labels"] = [0, 1] * 3
    run = attribute_dataset(lrp, data, tmp_path / "run", target="label", **options)
    assert run is not None
    assert run.column("status") == ["ok"] * 6
    assert sorted(run.column("label")) == [0, 0, 0, 1, 1, 1]
    assert run.column("target") == run.column("label")
    if name in ("npy", "hdf5", "zarr", "dataset", "stream", "hub"):
        expected = lrp.attribute(samples(6)[:4], [0, 1, 0, 1])
        assert np.array_equal(run.relevance(range(4)), expected.numpy())
    if name in ("csv", "parquet", "hub"):
        assert run.names == ("cat", "dog")
    if name in ("csv", "parquet"):
        assert run.column("id")[3] == "n3"
    before = (tmp_path / "run" / "samples.parquet").stat().st_mtime_ns
    again = attribute_dataset(lrp, data, tmp_path / "run", target="label", **options)
    assert again is not None
    assert (tmp_path / "run" / "samples.parquet").stat().st_mtime_ns == before


def test_workers_and_shards_give_the_same_bits(tmp_path: Path) -> None:
    pictures(tmp_path / "data", COUNT)
    (tmp_path / "data" / "007.png").write_bytes(b"broken")
    lrp = LRPFx(classifier())
    options: dict[str, Any] = {"preprocess": preprocess, "batch_size": 2, "part_size": 4}
    whole = attribute_dataset(lrp, tmp_path / "data", tmp_path / "whole", **options)
    assert whole is not None
    assert whole.failed == 1
    read_ahead = attribute_dataset(lrp, tmp_path / "data", tmp_path / "ahead", workers=2, **options)
    assert read_ahead is not None
    assert same(read_ahead, whole)
    attribute_dataset(lrp, tmp_path / "data", tmp_path / "shards", shard="1/2", **options)
    with pytest.raises(RunError, match="not complete: 3 of its 5 parts are missing"):
        merge(tmp_path / "shards")
    with pytest.raises(RunError, match="not complete"):
        open_run(tmp_path / "shards")
    attribute_dataset(lrp, tmp_path / "data", tmp_path / "shards", shard="0/2", **options)
    assert same(merge(tmp_path / "shards"), whole)
    for n in (0, 1):  # each on a disk of its own
        attribute_dataset(lrp, tmp_path / "data", tmp_path / f"disk{n}", shard=(n, 2), **options)
    assert same(merge(tmp_path / "disk0", [tmp_path / "disk1"]), whole)


def test_the_shard_of_torchrun_and_of_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lrp, x = LRPFx(classifier()), samples(8)
    options: dict[str, Any] = {"batch_size": 2, "part_size": 2, "shard": "auto"}
    with pytest.raises(OptionError, match="finds neither"):
        attribute_dataset(lrp, x, tmp_path / "run", **options)
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert attribute_dataset(lrp, x, tmp_path / "run", **options) is None
    assert len(merge(tmp_path / "run")) == 8
    monkeypatch.delenv("RANK")
    for task in (1, 2, 3):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "3")
        monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "1")
        attribute_dataset(lrp, x, tmp_path / "slurm", **options)
    assert same(merge(tmp_path / "slurm"), open_run(tmp_path / "run"))


def test_a_batch_that_does_not_fit_is_halved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Down to what fits, and no further; the same relevance as in small batches."""
    model, x = classifier(), samples(16)

    class Small(LRPFx):
        def _explained(self, inputs: Any, *others: Any) -> Any:
            if len(inputs) > 3:
                raise torch.OutOfMemoryError("out of memory")
            sizes.append(len(inputs))
            return super()._explained(inputs, *others)

    sizes: list[int] = []
    run = attribute_dataset(Small(model), x, tmp_path / "run", batch_size=16)
    assert run is not None
    assert sizes[1:] == [2] * 8  # the first one asks for the shape
    expected = LRPFx(model).attribute(x[:2], model(x[:2]).argmax(1))
    assert np.array_equal(run.relevance(range(2)), expected.numpy())


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int | None, int]] = []
    x = samples(6)
    x[1] = float("nan")
    attribute_dataset(
        LRPFx(classifier()), x, tmp_path / "run", batch_size=4, progress=lambda *a: told.append(a)
    )
    assert told == [(4, 6, 1), (6, 6, 1)]
    attribute_dataset(LRPFx(classifier()), x, tmp_path / "bar", progress=True)


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"target": "best"}, OptionError, "'predicted', 'label'"),
    ({"target": [0] * 6}, OptionError, "target must be"),
    ({"target": 9}, InputError, "none of the first 6 samples .* out of range"),
    ({"target": "label"}, InputError, "has no label"),
    ({"keep": "all"}, OptionError, "keep must be one of"),
    ({"keep": "concepts", "layers": ["0"]}, OptionError, "needs a ConceptLRPFx"),
    ({"layers": ["0"]}, OptionError, "go together"),
    ({"dtype": "bfloat16"}, OptionError, "dtype must be one of"),
    ({"batch_size": 0}, OptionError, "batch_size"),
    ({"workers": -1}, OptionError, "workers"),
    ({"shard": "2/2"}, OptionError, "between 0 and 1"),
    ({"shard": "one"}, OptionError, "'i/n'"),
    ({"engine": "spark"}, OptionError, "engine must be one of"),
    ({"explainers": 2}, OptionError, "for engine='ray'"),
    ({"labels": [0]}, InputError, "6 class indices"),
    ({"labels": "012345"}, InputError, "list of class indices"),
    ({"preprocess": 3}, OptionError, "preprocess must be callable"),
    ({"key": 3}, OptionError, "key must be"),
    ({"retry": 1}, OptionError, "retry must be True or False"),
]


@pytest.mark.parametrize(("options", "error", "message"), WRONG, ids=lambda v: str(v)[:30])
def test_what_does_not_fit_is_said(
    options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        attribute_dataset(LRPFx(classifier()), samples(6), tmp_path / "run", **options)


@pytest.mark.parametrize(
    "data", [None, 3, b"x", {}, [], [1], "nowhere", "a\0b", samples(1)[0, 0, 0]]
)
def test_what_is_no_data_is_said(data: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        attribute_dataset(LRPFx(classifier()), data, tmp_path / "run", preprocess=preprocess)


def test_images_without_preprocess(tmp_path: Path) -> None:
    pictures(tmp_path / "data", 2)
    with pytest.raises(InputError, match="images need preprocess="):
        attribute_dataset(LRPFx(classifier()), tmp_path / "data", tmp_path / "run")
