"""The names of results: plain where they are free, distinct, and the same in every run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

from lrp_fx.cli.inputs import find_images
from lrp_fx.cli.names import Names
from lrp_fx.cli.options import ModelOptions, RuleOptions
from lrp_fx.cli.settings import settings_of


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
    assert names[0] == "a.lrp"
    assert names[-1] == "b.lrp"


def test_the_same_call_finds_its_names_again(tmp_path: Path) -> None:
    for name in ("a/x.png", "b/x.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    together, alone = Names(tmp_path / "out"), Names(tmp_path / "out")
    first = together.of(tmp_path / "a/x.png")
    assert first == "x.lrp"
    assert together.of(tmp_path / "b/x.png") == alone.of(tmp_path / "b/x.png") != first
    assert Names(tmp_path / "out", "target=3").of(tmp_path / "a/x.png") != first
    assert Names(tmp_path / "out").of(tmp_path / "b/../a/x.png") == first
    assert together.of(tmp_path / "a/x.png", 1) != together.of(tmp_path / "a/x.png", 2)


def test_rows_of_one_file_are_no_other_file(tmp_path: Path) -> None:
    """Row 0 of x.npy, and a file that is called x.0.npy."""
    names = Names(tmp_path / "out")
    assert names.of(tmp_path / "x.npy", 0) != names.of(tmp_path / "x.0.npy")


def test_a_file_that_nobody_owns_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "X.LRP.png").touch()
    (tmp_path / "x.lrp.svg").touch()
    assert Names(tmp_path).of(tmp_path / "photos" / "x.png") != "x.lrp"


def test_two_commands_at_once_never_get_one_name(tmp_path: Path) -> None:
    files = [tmp_path / folder / "x.png" for folder in "abcdefgh"]
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda file: Names(tmp_path / "out").of(file), files))
    assert len(set(names)) == len(files)


def test_options_that_change_maps_change_the_name(tmp_path: Path) -> None:
    """Each option but the device; and one relative path in two folders is two files."""
    texts = {"mean": "0.1", "std": "2", "resize": "9", "model": "m.py:make", "preprocess": "m.py:f"}
    paths = {"weights": Path("w.pt"), "categories": Path("names.txt")}
    options = [ModelOptions(**{name: value}) for name, value in {**texts, **paths}.items()]  # type: ignore[arg-type]
    options += [ModelOptions(crop=3), ModelOptions(grey=True)]
    given = {name for each in options for name, value in vars(each).items() if value is not None}
    assert given == {each.name for each in fields(ModelOptions)}

    def settings(model: ModelOptions) -> str:
        return settings_of(model, RuleOptions(), tmp_path, (), "predicted")

    assert settings(ModelOptions(device="cuda")) == settings(ModelOptions()) == ""
    assert len({settings(each) for each in options}) == len(options)
    for name in ("model", "preprocess", "weights"):
        here, there = (
            replace(ModelOptions(), **{name: type(value)(place / str(value))})  # type: ignore[arg-type]
            for value in [{**texts, **paths}[name]]
            for place in (tmp_path / "one", tmp_path / "two")
        )
        assert settings(here) != settings(there)


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
