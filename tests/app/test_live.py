"""The live path, frames without a camera, and recordings."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lrp_fx import LRPFx
from lrp_fx.app import Explainer
from lrp_fx.app.drawing import data_url, draw, encoded
from lrp_fx.app.live import Rate
from lrp_fx.app.videos import MOST_FRAMES, Recording, frames_of, in_time
from lrp_fx.errors import InputError, TargetError
from tests.helpers.colour_classifier import PREPROCESSING, colour_classifier


def test_frame_is_explained_as_by_attribute(photographs: dict[str, Path]) -> None:
    """File, data URL and picture give the same; the map is that of the composite and the filter."""
    explainer = Explainer(colour_classifier(), composite="z_plus", share=0.2)
    file = photographs["red"]
    url = data_url(file.read_bytes(), "png")
    x = PREPROCESSING.tensor(Image.open(file))[None]
    expected = LRPFx(explainer.classifier.model, "z_plus", top_k=0.2).attribute(x, 0)
    for frame in (str(file), url, Image.open(file)):
        shown = explainer.show(frame)
        assert shown.explained.target == 0
        assert torch.equal(shown.explained.relevance, expected)
        assert min(vars(shown.stages).values()) >= 0
        assert shown.stages.total > 0
        sent = base64.b64decode(shown.url.partition(",")[2])
        assert Image.open(io.BytesIO(sent)).size == (32, 32)


def test_target_is_that_of_the_explainer(photographs: dict[str, Path]) -> None:
    """A chosen class, and one that there is not."""
    frame = str(photographs["red"])
    assert Explainer(colour_classifier(), target=2).show(frame).explained.target == 2
    with pytest.raises(TargetError):
        Explainer(colour_classifier(), target=4).show(frame)


def test_map_is_white_where_nothing_is() -> None:
    """Zero is white in a map and the grey photograph in an overlay; signs have their colours."""
    relevance = torch.zeros(1, 3, 2, 2)
    relevance[0, 0, 0] = torch.tensor([1.0, -1.0])
    picture = Image.new("RGB", (2, 2), (10, 20, 30))
    drawn = np.asarray(draw(relevance, picture)).astype(int)
    assert (drawn[1] == 255).all()
    assert drawn[0, 0, 0] > drawn[0, 0, 2]
    assert drawn[0, 1, 0] < drawn[0, 1, 2]
    over = np.asarray(draw(relevance, picture, style="overlay", side=4))
    assert over.shape == (4, 4, 3)
    assert (over[2:] == np.asarray(picture.convert("L"))[0, 0]).all()


def test_rate_is_that_of_the_last_seconds() -> None:
    """Ten frames a second; a pause is forgotten after two seconds."""
    rate = Rate()
    found = [rate.count(now / 10) for now in range(50)]
    assert found[0] == 0
    assert found[-1] == pytest.approx(10)
    assert rate.count(100.0) == 0
    assert rate.count(100.5) == pytest.approx(2)


def test_late_frames_are_dropped() -> None:
    """Explaining takes 0.25 s and frames come every 0.1 s: at each time the newest one is taken."""
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    frames = ((number / 10, lambda number=number: number) for number in range(20))
    taken = []
    for frame in in_time(frames, clock=lambda: now[0], wait=wait):
        taken.append((frame, now[0]))
        now[0] += 0.25
    assert [frame for frame, _ in taken] == sorted({frame for frame, _ in taken})
    assert len(taken) < 10
    for frame, at in taken[:-1]:
        assert at - 0.1 <= frame / 10 + 0.05 <= at + 0.1


def test_folders_and_animations_have_frames(tmp_path: Path, photographs: dict[str, Path]) -> None:
    """In the order of the names, at their times; what cannot be read is a sentence."""
    for number, name in enumerate(("blue", "red", "blue")):
        (tmp_path / f"{number}.png").write_bytes(photographs[name].read_bytes())
    found = [(second, np.asarray(read())) for second, read in frames_of(tmp_path)]
    assert [second for second, _ in found] == [0, 0.1, 0.2]
    assert (found[0][1] == found[2][1]).all()
    assert (found[0][1] != found[1][1]).any()
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=500)
    assert [second for second, _ in frames_of(tmp_path / "a.gif")] == [0, 0.5]
    (tmp_path / "broken.gif").write_bytes(b"nothing")
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, words in (
        (tmp_path / "broken.gif", "no animation that can be read"),
        (empty, "no pictures"),
        (tmp_path / "nowhere.mp4", "no file or folder"),
    ):
        with pytest.raises(InputError, match=words):
            list(frames_of(path))


@pytest.mark.parametrize("suffix", [".mp4", ".webp", ".gif"])
def test_recordings_can_be_played(tmp_path: Path, suffix: str) -> None:
    """Frames, size and rate of the file are those of the recording."""
    if suffix == ".mp4":
        pytest.importorskip("av", reason="av, which writes videos, is not installed")
    recording = Recording(side=64)
    for number in range(6):
        recording.add(Image.new("RGB", (32, 32), (40 * number, 0, 0)), number / 5)
    assert recording.rate == pytest.approx(5)
    file = recording.write(tmp_path / f"recording{suffix}")
    found = [(second, read()) for second, read in frames_of(file)]
    assert len(found) == 6
    assert {picture.size for _, picture in found} == {(64, 64)}
    assert found[-1][0] == pytest.approx(1, abs=0.05)
    assert found[-1][1].getpixel((32, 32))[0] > 150 > found[1][1].getpixel((32, 32))[0]


def test_recordings_are_bounded(tmp_path: Path) -> None:
    """In memory, and an empty one is a sentence."""
    with pytest.raises(InputError, match="nothing is recorded"):
        Recording().write(tmp_path / "a.webp")
    frame = (0.0, encoded(Image.new("RGB", (8, 8))))
    recording = Recording(frames=[frame] * MOST_FRAMES)
    recording.add(Image.new("RGB", (8, 8)))
    assert len(recording.frames) == MOST_FRAMES
    with pytest.raises(InputError, match="ends in one of"):
        recording.write(tmp_path / "a.avi")
