"""Data as they are found: odd names, formats, folders and arguments; nothing is lost or mistaken."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from lrp_fx import LRPFx
from lrp_fx.dataset import attribute_dataset, merge, open_run
from lrp_fx.dataset.images import image_folder
from lrp_fx.dataset.opening import open_data
from lrp_fx.dataset.sample import Stream
from lrp_fx.errors import InputError, LRPError, OptionError, RunError
from tests.dataset.helpers import classifier, pictures, preprocess, same, samples

COLOUR = (40, 80, 120)


def picture(mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (12, 12), COLOUR).convert(mode)


def test_odd_names_are_explained_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    names = ["ü ñ", "漢字", "a\nb", "'q\"", "-x", "%2F", "a,b", "{0..9}", "x" * 240]
    files = [os.fsencode(data / f"{name}.png") for name in names]
    files += [os.fsencode(data) + b"/\xff.png", os.fsencode(data / "LARGE.PNG")]
    for file in files:
        picture().save(os.fsdecode(file))
    (data / "link.png").symlink_to("漢字.png")
    (data / "nowhere.png").symlink_to("nothing.png")
    (data / "loop.png").symlink_to("loop.png")
    (data / "folder.png").mkdir()
    run = attribute_dataset(LRPFx(classifier()), data, tmp_path / "run", preprocess=preprocess)
    assert run is not None
    assert len(run) == len(set(run.column("id"))) == len(files) + 3
    failed = [n for n, each in enumerate(run.column("status")) if each != "ok"]
    assert [run.column("id")[n] for n in failed] == ["loop.png", "nowhere.png"]
    again = attribute_dataset(LRPFx(classifier()), data, tmp_path / "run", preprocess=preprocess)
    assert again is not None
    assert same(again, run)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        *(
            ("RGBA", "png"),
            ("LA", "png"),
            ("P", "png"),
            ("L", "png"),
            ("1", "png"),
            ("I;16", "png"),
        ),
        *(
            ("CMYK", "jpg"),
            ("YCbCr", "jpg"),
            ("CMYK", "tif"),
            ("LAB", "tif"),
            ("F", "tif"),
            ("I", "tif"),
        ),
    ],
)
def test_any_mode_of_pictures_is_three_colours(mode: str, ending: str, tmp_path: Path) -> None:
    image = picture("I").convert("I;16") if mode == "I;16" else picture(mode)
    image.save(tmp_path / f"a.{ending}")
    found = image_folder(tmp_path, preprocess).read(0).inputs
    assert found is not None
    assert found.shape == (3, 8, 8)


@pytest.mark.parametrize("ending", ["gif", "png", "webp"])
def test_the_first_picture_of_a_film_is_explained(ending: str, tmp_path: Path) -> None:
    others = [Image.new("RGB", (12, 12), (200, 0, 0)) for _ in range(2)]
    options: dict[str, Any] = {"lossless": True} if ending == "webp" else {}
    picture().save(tmp_path / f"a.{ending}", save_all=True, append_images=others, **options)
    found = image_folder(tmp_path, preprocess).read(0).inputs
    assert found is not None
    assert torch.equal(found, preprocess(picture()))


@pytest.mark.parametrize("size", [(14000, 14000), (101_000, 1000)])
def test_a_picture_that_asks_for_too_much_memory(
    size: tuple[int, int], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    Image.new("1", size).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="the image is too large"):
        image_folder(tmp_path, preprocess).read(0)


def test_a_class_without_pictures_keeps_its_number(tmp_path: Path) -> None:
    """As a network was trained; else all classes after it would be mistaken for others."""
    for name in ("ape", "bee", "cat", ".hidden"):
        (tmp_path / name / "deep").mkdir(parents=True)
    for name in ("ape", "cat"):
        picture().save(tmp_path / name / "deep" / "a.png")
    found = image_folder(tmp_path, preprocess)
    assert found.names == ("ape", "bee", "cat")
    assert found.labels == [0, 2]


def test_folders_that_cannot_be_searched_are_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in" / "ape").mkdir(parents=True)
    picture().save(tmp_path / "in" / "ape" / "a.png")
    (tmp_path / "in" / "bee").symlink_to(tmp_path)
    with pytest.raises(InputError, match="bee' is a link to a folder"):
        image_folder(tmp_path / "in", preprocess)
    (tmp_path / "in" / "bee").unlink()
    scan = os.scandir

    def closed(path: Any) -> Any:
        if str(path).endswith("ape"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(InputError, match=r"cannot read '.*ape': Permission denied"):
        image_folder(tmp_path / "in", preprocess)


def test_the_working_directory_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources know where they are, here and in processes that have another working directory."""
    pictures(tmp_path / "data", 1)
    np.save(tmp_path / "x.npy", samples(2).numpy())
    (tmp_path / "data" / "list.csv").write_text("path\n000.png\n")
    monkeypatch.chdir(tmp_path)
    for text in ("data", "data/list.csv", "x.npy"):
        source = open_data(text, preprocess=preprocess)
        assert not isinstance(source, Stream)
        monkeypatch.chdir("/")
        assert source.read(0).inputs is not None
        monkeypatch.chdir(tmp_path)


ODD_PATHS = (
    *(
        "x{0..9999999}.tar",
        "x{0..99999}{0..99999}.tar",
        "**.tar",
        "{9..0}.tar",
        "*.tar",
        "{٣..٥}.tar",
    ),
    *("{" + "9" * 5000 + "..1}.tar", "x" * 5000, "https://there/x.tar", "s3://there/x", "", " "),
)


@pytest.mark.parametrize("text", ODD_PATHS, ids=lambda text: text[:12])
def test_paths_that_name_no_data(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        open_data(text, preprocess=preprocess)


ODD_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 10**12}, "GiB, which are in memory at once"),
    ({"part_size": 10**30}, "GiB, which are in memory at once"),
    ({"target": (1, 2)}, "has 2 indices"),
    ({"target": 10**30}, "out of range"),
    ({"labels": [0.0] * 4}, "index of a class"),
    ({"labels": [True] * 4}, "index of a class"),
    ({"labels": [10**30] * 4}, "index of a class"),
    ({"shard": (1.0, 2)}, "'i/n'"),
    ({"shard": "１/２"}, "'i/n'"),
    ({"shard": "0/0"}, "at least 1"),
    ({"out": "/proc/nowhere"}, "cannot write to"),
    ({"out": "x" * 300}, "cannot write to"),
    ({"out": "a\0b"}, "path of a folder"),
    ({"data": torch.full((4, 3, 8, 8), float("nan"))}, "NaN or infinity"),
    ({"data": samples(4).to(torch.complex64)}, "real numbers"),
    ({"data": samples(4).to(torch.float8_e4m3fn)}, "float8"),
    ({"data": samples(4)[:0]}, "at least one sample"),
    ({"data": np.array(["a", "b"])[:, None]}, "real numbers"),
    ({"data": (each for each in samples(4))}, "data must be"),
]


@pytest.mark.parametrize(("options", "message"), ODD_ARGUMENTS, ids=lambda v: str(v)[:30])
def test_odd_arguments_are_said(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    options = {"data": samples(4), "out": tmp_path / "run", **options}
    with pytest.raises(LRPError, match=message):
        attribute_dataset(LRPFx(classifier()), **options)


def test_large_maps_have_small_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part is in memory at once, so its bytes are bounded, not its samples."""
    bytes_of_a_map = 3 * 8 * 8 * 4
    monkeypatch.setattr("lrp_fx.dataset.attribute.SMALL", 20 * bytes_of_a_map)
    for batch_size, part_size in ((4, 20), (8, 24), (32, 32)):
        run = attribute_dataset(
            LRPFx(classifier()), samples(2), tmp_path / f"{batch_size}", batch_size=batch_size
        )
        assert run is not None
        assert run.job.part_size == part_size


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    lrp, x = LRPFx(classifier()), samples(4)
    options: dict[str, Any] = {"batch_size": np.int64(2), "workers": np.int32(0)}
    run = attribute_dataset(lrp, x, tmp_path / "run", target=np.int64(1), **options)
    again = attribute_dataset(lrp, x, tmp_path / "run", target=1)
    assert run is not None
    assert again is not None
    assert same(run, again)
    assert np.array_equal(run.relevance(np.int64(3)), run.relevance(3))
    assert np.array_equal(run.relevance(np.array([3, 1])), run.relevance([3, 1]))
    assert run.relevance([]).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("index", [None, "0", 1.0, -1, 4, True, [[0]], 10**30])
def test_numbers_of_no_sample(index: Any, tmp_path: Path) -> None:
    run = attribute_dataset(LRPFx(classifier()), samples(4), tmp_path / "run")
    assert run is not None
    with pytest.raises(InputError, match="samples have numbers from 0 to 3"):
        run.relevance(index)


def test_relevance_of_samples_that_broke_later_is_not_kept(tmp_path: Path) -> None:
    files = pictures(tmp_path / "data", 4)
    options: dict[str, Any] = {"preprocess": preprocess, "batch_size": 2, "part_size": 2}
    lrp = LRPFx(classifier())
    assert attribute_dataset(lrp, tmp_path / "data", tmp_path / "run", **options)
    for file in files[2:]:
        file.write_bytes(b"broken")
    run = attribute_dataset(lrp, tmp_path / "data", tmp_path / "run", retry=True, **options)
    assert run is not None
    assert run.column("status") == ["ok", "ok", "failed", "failed"]
    assert np.isnan(run.relevance([2, 3])).all()


def lost(run: Path) -> None:
    (run / "relevance.zarr" / "relevance" / "c.1.0.0.0").unlink()


def short(run: Path) -> None:
    shutil.copy(run / "parts" / "000004.parquet", run / "parts" / "000001.parquet")


@pytest.mark.parametrize("damage", [lost, short])
def test_a_part_that_lost_something_is_not_merged(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    lrp, x = LRPFx(classifier()), samples(9)
    options: dict[str, Any] = {"batch_size": 2, "part_size": 2}
    whole = attribute_dataset(lrp, x, tmp_path / "whole", **options)
    assert whole is not None
    for n in (0, 1):
        attribute_dataset(lrp, x, tmp_path / f"{n}", shard=(n, 2), **options)
    shutil.copytree(tmp_path / "1", tmp_path / "run", ignore=shutil.ignore_patterns(".lock*"))
    attribute_dataset(lrp, x, tmp_path / "run", shard=(0, 2), **options)
    damage(tmp_path / "run")
    with pytest.raises(RunError, match=r"000001.parquet' is damaged: remove it and run the same"):
        merge(tmp_path / "run", [tmp_path / "0"])
    (tmp_path / "run" / "parts" / "000001.parquet").unlink()
    assert same(merge(tmp_path / "run", [tmp_path / "0", tmp_path / "1", tmp_path / "run"]), whole)


def test_shards_of_other_numbers_overlap_without_harm(tmp_path: Path) -> None:
    lrp, x = LRPFx(classifier()), samples(9)
    options: dict[str, Any] = {"batch_size": 2, "part_size": 2}
    whole = attribute_dataset(lrp, x, tmp_path / "whole", **options)
    assert whole is not None
    for shard in ("1/2", "0/3", "2/3", "1/3", "8/9"):
        assert attribute_dataset(lrp, x, tmp_path / "run", shard=shard, **options) is None
    assert same(merge(tmp_path / "run"), whole)
    with pytest.raises(OptionError, match="paths of folders"):
        merge(tmp_path / "run", [None])  # type: ignore[list-item]
    with pytest.raises(RunError, match="holds no run"):
        merge(tmp_path / "run", [tmp_path])
    other = attribute_dataset(lrp, -x, tmp_path / "other", **options)
    assert other is not None
    with pytest.raises(RunError, match="another data set"):
        merge(tmp_path / "run", [tmp_path / "other"])


def test_a_run_is_read_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attribute_dataset(LRPFx(classifier()), samples(4), tmp_path / "run")
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    opened = os.open

    def reading(path: Any, flags: int, *others: Any, **options: Any) -> int:
        assert not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT), path
        return opened(path, flags, *others, **options)

    monkeypatch.setattr(os, "open", reading)
    run = open_run(tmp_path / "run")
    assert run.relevance(range(4)).shape == (4, 3, 8, 8)
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def test_one_sample_is_a_data_set(tmp_path: Path) -> None:
    x: Tensor = samples(1)
    run = attribute_dataset(LRPFx(classifier()), x, tmp_path / "run")
    assert run is not None
    assert run.relevance(0).shape == (3, 8, 8)


class Breaking(IterableDataset[Tensor]):
    """Ends with an error when its server is away."""

    away = True

    def __iter__(self) -> Iterator[Tensor]:
        yield from samples(70)
        if Breaking.away:
            raise ConnectionError("the server is away")


def test_a_stream_that_breaks_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"batch_size": 4, "part_size": 4}
    lrp = LRPFx(classifier())
    with pytest.raises(
        InputError, match=r"server is away, after 70 samples; .* run the same again"
    ):
        attribute_dataset(lrp, Breaking(), tmp_path / "run", **options)
    monkeypatch.setattr(Breaking, "away", False)
    told: list[int] = []
    run = attribute_dataset(
        lrp, Breaking(), tmp_path / "run", progress=lambda done, *_: told.append(done), **options
    )
    assert run is not None
    assert run.column("status") == ["ok"] * 70
    assert told[-1] < 10
