"""Frames without a camera: of a video file or a folder of pictures; and recordings of the live view."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
from PIL import Image, ImageSequence

from lrp_fx._common import needed, write_whole
from lrp_fx.app.drawing import encoded
from lrp_fx.app.uploads import read_upload
from lrp_fx.errors import InputError

PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
ANIMATIONS = (".gif", ".webp")
FOLDER_RATE = 10.0
"""The frames per second of a folder of pictures."""
MOST_FRAMES = 1800
"""The largest number of frames of a recording: two minutes of 15 per second."""
RECORDED = (".mp4", ".webp", ".gif")
Read = Callable[[], Image.Image]


def frames_of(path: Path) -> Iterator[tuple[float, Read]]:
    """The frames of a video file, an animation, or a folder, in order: the second, and what reads it.

    A frame is converted only when it is read, so dropping one is cheap.

    Args:
        path: a folder with pictures, taken in the order of their names; a GIF or WebP animation; or
            a video that FFmpeg reads, which needs the package av.

    Raises:
        InputError: if there is nothing, or nothing that can be read.
        OptionError: if the package av is missing.
    """
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.suffix.lower() in PICTURES)
        if not files:
            raise InputError(f"there are no pictures ({', '.join(PICTURES)}) in the folder {path}")
        yield from frames_of_pictures(files)
    elif not path.is_file():
        raise InputError(f"there is no file or folder {path}")
    elif path.suffix.lower() in ANIMATIONS:
        yield from _of_animation(path)
    else:
        yield from _of_video(path)


def frames_of_pictures(files: Iterable[Path]) -> Iterator[tuple[float, Read]]:
    """The pictures as frames, ten in a second; as from :func:`frames_of`."""
    for number, file in enumerate(files):
        yield number / FOLDER_RATE, partial(read_upload, file)


def _of_animation(path: Path) -> Iterator[tuple[float, Read]]:
    try:
        with Image.open(path) as animation:
            second = 0.0
            for frame in ImageSequence.Iterator(animation):
                yield second, partial(frame.convert, "RGB")
                second += max(0.01, float(frame.info.get("duration", 100)) / 1000)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise InputError(f"{path.name} holds no animation that can be read") from error


def _of_video(path: Path) -> Iterator[tuple[float, Read]]:
    with needed("video files need"):
        import av
    try:
        with av.open(str(path)) as video:
            if not video.streams.video:
                raise InputError(f"{path.name} holds no video")
            for number, frame in enumerate(video.decode(video=0)):
                second = frame.time
                yield number / 25 if second is None else float(second), frame.to_image
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"{path.name} holds no video that can be read") from error


def in_time(
    frames: Iterator[tuple[float, Read]],
    *,
    clock: Callable[[], float] = perf_counter,
    wait: Callable[[float], None] = sleep,
) -> Iterator[Image.Image]:
    """The frames at their times. Frames that are late are dropped and never queued.

    Args:
        frames: as from :func:`frames_of`.
        clock: the time in seconds.
        wait: waits some seconds.
    """
    start = clock()
    held = next(frames, None)
    while held is not None:
        following = next(frames, None)
        while following is not None and following[0] <= clock() - start:
            held, following = following, next(frames, None)
        early = held[0] - (clock() - start)
        if early > 0:
            wait(early)
        yield held[1]()
        held = following


@dataclass
class Recording:
    """The pictures of one visitor's live view, kept as JPEG files in memory.

    Args:
        side: the side of the recorded pictures in pixels.
    """

    side: int = 640
    frames: list[tuple[float, bytes]] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether no more frames are taken."""
        return len(self.frames) >= MOST_FRAMES

    def add(self, picture: Image.Image, now: float | None = None) -> None:
        """Take a picture, unless the recording is full.

        Args:
            picture: of any size.
            now: the time in seconds; None for now.
        """
        if not self.full:
            square = picture.resize((self.side, self.side), Image.Resampling.NEAREST)
            self.frames.append((perf_counter() if now is None else now, encoded(square)))

    @property
    def rate(self) -> float:
        """The mean frames per second."""
        if len(self.frames) < 2:
            return FOLDER_RATE
        passed = self.frames[-1][0] - self.frames[0][0]
        return (len(self.frames) - 1) / passed if passed else FOLDER_RATE

    def write(self, path: Path, rate: float | None = None) -> Path:
        """Write the recording.

        Args:
            path: of ``.mp4``, which needs the package av, ``.webp`` or ``.gif``.
            rate: frames per second; None for the rate at which they came.

        Raises:
            InputError: if there are no frames, or the file cannot be written.
            OptionError: if the package av is missing.
        """
        if not self.frames:
            raise InputError("nothing is recorded yet: start the camera with recording on")
        if path.suffix not in RECORDED:
            raise InputError(f"a recording's name ends in one of {', '.join(RECORDED)}, got {path}")
        speed = min(60.0, max(0.5, self.rate if rate is None else rate))
        pictures = [Image.open(io.BytesIO(content)).convert("RGB") for _, content in self.frames]
        if path.suffix == ".mp4":
            return write_whole(path, _movie(pictures, speed), InputError)
        stream = io.BytesIO()
        pictures[0].save(
            stream,
            path.suffix[1:].upper(),
            save_all=True,
            append_images=pictures[1:],
            duration=round(1000 / speed),
            loop=0,
        )
        return write_whole(path, stream.getvalue(), InputError)


def _movie(pictures: list[Image.Image], rate: float) -> bytes:
    """An MP4 file of H.264, or of MPEG-4 where FFmpeg was built without an encoder for it."""
    with needed("recordings of .mp4 need"):
        import av

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as movie:
        track = movie.add_stream(codec, rate=Fraction(rate).limit_denominator(1000))
        track.width, track.height = (side // 2 * 2 for side in pictures[0].size)
        track.pix_fmt = "yuv420p"
        for picture in pictures:
            movie.mux(track.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
        movie.mux(track.encode())
    return stream.getvalue()
