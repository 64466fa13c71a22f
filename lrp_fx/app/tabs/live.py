"""The tab Live: the camera, a video or a folder of pictures; explained, shown with its rate, recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from lrp_fx.app.live import Rate, Shown
from lrp_fx.app.tabs.parts import (
    PREDICTED,
    Site,
    colors_choice,
    photograph,
    rules_choice,
    share_slider,
    spoken,
    style_choice,
    visitors_folder,
)
from lrp_fx.app.videos import (
    ANIMATIONS,
    MOST_FRAMES,
    PICTURES,
    RECORDED,
    Read,
    Recording,
    frames_of,
    frames_of_pictures,
    in_time,
)
from lrp_fx.errors import InputError

EVERY = 0.04
"""The seconds between two frames that the browser sends, if the last one is explained."""
STYLE = "img { width: 100%; image-rendering: pixelated; border-radius: 4px; }"


def live_tab(site: Site) -> None:
    """Build the tab."""
    rate: gr.State = gr.State(Rate())
    recording: gr.State = gr.State(Recording())
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            camera = photograph(
                label="Camera", sources=["webcam"], streaming=True, elem_id="camera", height=280
            )
            with gr.Accordion("No camera? A video, or a folder of pictures", open=False):
                upload = gr.File(
                    label="A video, an animation, or several pictures",
                    file_count="multiple",
                    file_types=["video", "image"],
                    elem_id="video",
                )
                play = gr.Button("Play", elem_id="play")
                stop = gr.Button("Stop")
            target = gr.Dropdown(site.classes(), value=PREDICTED, label="Class")
            rules = rules_choice()
            share = share_slider()
            style = style_choice()
            colors = colors_choice()
        with gr.Column(scale=3, min_width=280):
            view = gr.HTML(
                html_template='<img src="${value}" alt="">', css_template=STYLE, elem_id="view"
            )
            said = gr.Markdown(elem_id="rate")
            bars = gr.Label(label="Prediction", num_top_classes=3, elem_id="live-bars")
            with gr.Row():
                record = gr.Checkbox(label="Record", elem_id="record")
                side = gr.Number(640, label="Size in pixels", minimum=64, maximum=1024, precision=0)
                speed = gr.Number(
                    0, label="Frames per second of the file, 0 as they came", minimum=0, maximum=60
                )
                format = gr.Dropdown(list(RECORDED), value=RECORDED[0], label="File")
            save = gr.Button("Write the recording", elem_id="save")
            written = gr.File(label="Recording", interactive=False, elem_id="written")

    def shown_frame(
        frame: Shown, counted: Rate, taken: Recording, keep: bool, size: float
    ) -> tuple[object, ...]:
        if keep:
            taken.side = int(size)
            taken.add(frame.drawn)
        name = site.classifier.name_of(frame.explained.target)
        stages = frame.stages
        text = (
            f"**{counted.count():.1f} frames/s** · {name} · decode {1000 * stages.decode:.0f}, "
            f"explain {1000 * stages.explain:.0f}, draw {1000 * stages.draw:.0f}, "
            f"send {1000 * stages.send:.0f} ms"
        )
        if keep:
            text += f" · recorded {len(taken.frames)} of at most {MOST_FRAMES} frames"
        return frame.url, text, site.bars(frame.explained.probabilities), counted, taken

    @spoken
    def streamed(
        frame: str | None,
        chosen: int,
        composite: str,
        percent: float,
        how: str,
        palette: str,
        counted: Rate,
        taken: Recording,
        keep: bool,
        size: float,
    ) -> tuple[object, ...]:
        """One frame of the camera."""
        if frame is None:
            return gr.skip(), "", gr.skip(), Rate(), taken
        explainer = site.explainer(chosen, composite, percent, style=how, colors=palette)
        return shown_frame(explainer.show(frame), counted, taken, keep, size)

    @spoken
    def played(
        files: list[str] | None,
        chosen: int,
        composite: str,
        percent: float,
        how: str,
        palette: str,
        taken: Recording,
        keep: bool,
        size: float,
    ) -> Iterator[tuple[object, ...]]:
        """All frames of what was uploaded, or of the folder that the server was started with."""
        explainer = site.explainer(chosen, composite, percent, style=how, colors=palette)
        counted = Rate()
        for picture in in_time(_frames(files, site.frames)):
            yield shown_frame(explainer.show(picture), counted, taken, keep, size)

    @spoken
    def write(
        taken: Recording, suffix: str, per_second: float, request: gr.Request
    ) -> tuple[object, ...]:
        """The recording as a file; the next one starts empty."""
        file = visitors_folder(site, request) / f"recording{suffix}"
        path = taken.write(file, per_second or None)
        return str(path), Recording(taken.side)

    settings = [target, rules, share, style, colors]
    shown = [view, said, bars, rate, recording]
    camera.stream(
        streamed,
        [camera, *settings, rate, recording, record, side],
        shown,
        stream_every=EVERY,
        time_limit=site.seconds,
        concurrency_limit=site.at_once,
        concurrency_id="live",
        show_progress="hidden",
    )
    running = play.click(
        played,
        [upload, *settings, recording, record, side],
        shown,
        concurrency_limit=site.at_once,
        concurrency_id="live",
        show_progress="hidden",
    )
    stop.click(None, cancels=[running])
    save.click(write, [recording, format, speed], [written, recording])


def _frames(files: list[str] | None, folder: Path | None) -> Iterator[tuple[float, Read]]:
    """The frames of what was uploaded; of the server's own folder if that is nothing."""
    if not files:
        if folder is None:
            raise InputError("there is nothing to play: choose a video or several pictures")
        return frames_of(folder)
    paths = sorted(map(Path, files), key=lambda each: each.name)
    if len(paths) == 1 and paths[0].suffix.lower() not in PICTURES:
        return frames_of(paths[0])
    for path in paths:
        if path.suffix.lower() not in (*PICTURES, *ANIMATIONS):
            raise InputError(
                f"several files must all be pictures, but {path.name} is not a picture"
            )
    return frames_of_pictures(paths)
