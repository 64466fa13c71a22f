"""Files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lrp_fx._common import PART, appearing, sweep, write_whole
from lrp_fx.errors import InputError, LRPError, RunError


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(b"old")
    with appearing(path) as part:
        part.write_bytes(b"new")
        assert part.suffix == ".npy"
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.npy"]


def test_files_beside_it_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved, replace = [], Path.replace

    def watched(self: Path, target: Path) -> Path:
        moved.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    with appearing(tmp_path / "b") as part:
        for name in "abc":
            part.with_name(name).write_text(name)
    assert moved == ["a", "c", "b"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {n: n for n in "abc"}


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), appearing(path) as part:
        part.write_text("half \ud800", encoding="utf-8")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", [InputError, RunError])
@pytest.mark.parametrize("place", ["no/a", "folder", "file/a", "loop"])
def test_where_no_file_can_be(tmp_path: Path, place: str, kind: type[LRPError]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(kind, match="cannot write to"):
        write_whole(tmp_path / place, b"", kind)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to("there/file")
    write_whole(link, b"content")
    assert link.is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"content"


def test_names_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 250)
    assert write_whole(path, b"1") == path
    assert path.read_bytes() == b"1"


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    left = tmp_path / f".x{PART}"
    left.mkdir()
    (left / "file").touch()
    (tmp_path / ".lock").touch()
    sweep(tmp_path)
    assert os.listdir(tmp_path) == [".lock"]
