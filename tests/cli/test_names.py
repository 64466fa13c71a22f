"""The names of results: distinct, and the same in every run."""

from __future__ import annotations

from pathlib import Path

from lrp_fx.cli.inputs import find_images
from lrp_fx.cli.names import Names


def test_names_are_distinct_whatever_the_folders_suffixes_and_letter_cases(tmp_path: Path) -> None:
    files = [
        tmp_path / name
        for name in ("a.jpg", "a.png", "A.jpg", "x/a.jpg", "x/A.jpg", "y/x/a.jpg", "b.png")
    ]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    names = [Names(tmp_path / "out").of(file) for file in files]
    assert len({name.casefold() for name in names}) == len(files)
    assert names[-1] == "b.lrp"


def test_a_name_depends_on_the_file_and_the_options_alone(tmp_path: Path) -> None:
    for name in ("a/x.png", "b/x.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    together, alone = Names(tmp_path / "out"), Names(tmp_path / "out")
    first = together.of(tmp_path / "a/x.png")
    assert together.of(tmp_path / "b/x.png") == alone.of(tmp_path / "b/x.png") != first
    assert Names(tmp_path / "out", "target=3").of(tmp_path / "a/x.png") != first
    assert Names(tmp_path / "out").of(tmp_path / "b/../a/x.png") == first
    assert together.of(tmp_path / "a/x.png", 1) != together.of(tmp_path / "a/x.png", 2)


def test_long_names_are_cut(tmp_path: Path) -> None:
    long = [tmp_path / f"{'ä' * 120}{end}.png" for end in "xy"]
    for file in long:
        file.touch()
    names = [Names(tmp_path / "out").of(file) for file in long]
    assert len(set(names)) == 2
    assert all(len(name.encode()) < 200 for name in names)


def test_folders_are_walked_once(tmp_path: Path) -> None:
    """A file named twice is explained once; hidden files, texts and earlier results are not."""
    (tmp_path / "deep").mkdir()
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / "a.lrp").mkdir()
    for name in (
        "a.JPG",
        "deep/b.png",
        "c.txt",
        "a.lrp.png",
        "._a.jpg",
        ".thumbnails/a.png",
        "a.lrp/heatmap.png",
    ):
        (tmp_path / name).touch()
    found = find_images([tmp_path, tmp_path / "deep" / "b.png", tmp_path / "c.txt"])
    assert found == [tmp_path / name for name in ("a.JPG", "deep/b.png", "c.txt")]


def test_loops_of_links_end(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "inside").symlink_to(tmp_path, target_is_directory=True)
    assert find_images([tmp_path]) == [tmp_path / "loop.png"]
