"""Manifests: no file outside their folder is read, and no class is guessed."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from lrp_fx.dataset.loading import read
from lrp_fx.dataset.manifest import manifest
from lrp_fx.errors import InputError
from tests.dataset.helpers import preprocess

SECRET = (255, 255, 255)
OUTSIDE = ("../secret.png", "up/secret.png", "link.png", "in/../../secret.png", "ABSOLUTE")
ODD = (
    *(
        "a.png",
        "sub/b.png",
        "./sub/../a.png",
        "loop",
        "fifo.png",
        "sub",
        "",
        " ",
        "x" * 5000,
        "~/a.png",
    ),
    *("a.png\0", "\ufeffa.png", "file:///etc/hostname", "a\n.png", "sub\\b.png", ".", "..", "/"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set beside a picture that must not be read."""
    root = tmp_path_factory.mktemp("manifest")
    (root / "in" / "sub").mkdir(parents=True)
    Image.new("RGB", (4, 4), SECRET).save(root / "secret.png")
    for name in ("a.png", "sub/b.png"):
        Image.new("RGB", (4, 4), (9, 9, 9)).save(root / "in" / name)
    for name, goal in (("link.png", "../secret.png"), ("up", ".."), ("loop", "loop")):
        (root / "in" / name).symlink_to(goal)
    os.mkfifo(root / "in" / "fifo.png")
    return root / "in"


def read_all(file: Path) -> list[int | None] | None:
    """The classes of a manifest whose samples are all read; None if it is refused."""
    try:
        found = manifest(file, preprocess)
    except InputError:
        return None
    found.stamp(range(len(found)))
    for n in range(len(found)):
        sample = read(found, n)
        assert sample.inputs is None or sample.inputs.max() < 0.4, found.paths[n]
        assert (sample.inputs is None) == bool(sample.reason)
    return None if found.labels is None else list(found.labels)


def written(folder: Path, rows: Sequence[Sequence[str]], encoding: str = "utf-8") -> Path:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("path", "label"), *rows])
    file = folder / "list.csv"
    file.write_bytes(text.getvalue().encode(encoding, "replace"))
    return file


@pytest.mark.parametrize("path", [*OUTSIDE, *ODD])
def test_no_file_outside_is_read(path: str, folder: Path) -> None:
    if path == "ABSOLUTE":
        path = str(folder.parent / "secret.png")
    assert read_all(written(folder, [(path, "1")])) == [1]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(
        st.tuples(*[st.one_of(st.sampled_from(OUTSIDE + ODD), st.text(max_size=9))] * 2), max_size=4
    ),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
)
def test_any_cells_are_read_or_refused(
    rows: list[tuple[str, str]], encoding: str, folder: Path
) -> None:
    read_all(written(folder, rows, encoding))


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=60), ending=st.sampled_from(["csv", "tsv", "parquet"]))
def test_any_bytes_are_read_or_refused(content: bytes, ending: str, folder: Path) -> None:
    for start in (b"", b"path,label\n", b"PAR1"):
        file = folder / f"bytes.{ending}"
        file.write_bytes(start + content)
        read_all(file)


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (("1", "2"), [1, 2]),
        ((" 1", "2 "), [1, 2]),
        (("10.0", "9.0"), [10, 9]),
        (("3.0", ""), [3, None]),
        (("cat", "ape"), [1, 0]),
        ((" cat", "cat"), [0, 0]),
        (("cat", "1"), None),
        (("1.5", "2"), None),
    ],
)
def test_the_classes_are_those_of_the_cells(
    cells: tuple[str, ...], classes: list[int | None] | None, folder: Path
) -> None:
    """A number that is taken for a name would become the place of this name."""
    assert read_all(written(folder, [("a.png", cell) for cell in cells])) == classes


@pytest.mark.parametrize("cell", ["-1", "99999999999"])
def test_a_number_that_is_no_class_costs_its_row(cell: str, folder: Path) -> None:
    found = manifest(written(folder, [("a.png", cell), ("a.png", "0")]), preprocess)
    assert "index of a class" in (read(found, 0).reason or "")
    assert read(found, 1).label == 0
