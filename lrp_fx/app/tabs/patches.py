"""The tab Patches: cover regions with the mouse, and see how prediction and map change."""

from __future__ import annotations

import gradio as gr
from PIL import Image

from lrp_fx.app.drawing import data_url, encoded
from lrp_fx.app.patches import KINDS, Kind, cover
from lrp_fx.app.tabs.parts import (
    PREDICTED,
    Site,
    colors_key,
    drawn_image,
    photograph,
    rules_choice,
    share_slider,
    spoken,
    style_choice,
)
from lrp_fx.app.uploads import read_upload
from lrp_fx.errors import InputError

# A press and a release of the mouse or a finger, in pixels of the picture.
POINTER = """
let start = null;
const place = (event) => {
  const image = element.querySelector('img');
  if (!image || !image.naturalWidth) return null;
  const box = image.getBoundingClientRect();
  const within = (part, size) => Math.max(0, Math.min(size - 1, Math.floor(part * size)));
  return [
    within((event.clientX - box.left) / box.width, image.naturalWidth),
    within((event.clientY - box.top) / box.height, image.naturalHeight),
  ];
};
element.addEventListener('pointerdown', (event) => {
  if (event.target.tagName === 'IMG') start = place(event);
});
window.addEventListener('pointerup', (event) => {
  if (start) trigger('submit', { start, end: place(event) });
  start = null;
});
"""
STYLE = "img { width: 100%; cursor: crosshair; touch-action: none; user-select: none; }"
DRAGGED = 4
"""A longer way of the pointer, in pixels, makes a rectangle."""


def patches_tab(site: Site) -> None:
    """Build the tab."""
    covered: gr.State = gr.State(None)
    whole: gr.State = gr.State(None)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            photo = photograph(
                label="Photograph",
                sources=["upload", "clipboard"],
                elem_id="patch-photo",
                height=200,
            )
            if site.examples:
                gr.Examples([[str(file)] for file in site.examples], [photo], label="Examples")
            kind = gr.Radio(list(KINDS), value="mean", label="Cover with", elem_id="kind")
            size = gr.Slider(4, 128, value=32, step=4, label="Side of a patch in pixels")
            target = gr.Dropdown(site.classes(), value=PREDICTED, label="Class")
            rules = rules_choice()
            share = share_slider()
            style = style_choice()
            reset = gr.Button("Reset", elem_id="reset")
        with gr.Column(scale=3, min_width=280):
            gr.Markdown("Click the picture to cover a square, or drag to cover a rectangle.")
            with gr.Row():
                with gr.Column(min_width=240):
                    canvas = gr.HTML(
                        "",
                        html_template='<img src="${value}" draggable="false" alt="">',
                        css_template=STYLE,
                        js_on_load=POINTER,
                        elem_id="canvas",
                    )
                with gr.Column(min_width=240):
                    drawn = drawn_image("Relevance", elem_id="patch-relevance")
            colors_key()
            bars = gr.Label(label="Prediction", num_top_classes=5, elem_id="patch-bars")
            before = gr.Label(label="Without patches", num_top_classes=3)

    def explained(
        picture: Image.Image, chosen: int, composite: str, percent: float, how: str
    ) -> tuple[object, ...]:
        explainer = site.explainer(chosen, composite, percent, style=how, colors="blue-orange")
        shown = explainer.show_seen(picture)
        name = site.classifier.name_of(shown.explained.target)
        return (
            picture,
            data_url(encoded(picture, "PNG"), "png"),
            gr.Image(shown.drawn, label=f"Relevance for {name}"),
            site.bars(shown.explained.probabilities),
        )

    @spoken
    def opened(
        file: str | None, chosen: int, composite: str, percent: float, how: str
    ) -> tuple[object, ...]:
        if file is None:
            return None, None, None, None, None, None
        picture = site.classifier.see(read_upload(file))
        found = explained(picture, chosen, composite, percent, how)
        return picture, *found, found[-1]

    @spoken
    def patched(
        picture: Image.Image | None,
        cover_with: Kind,
        side: float,
        chosen: int,
        composite: str,
        percent: float,
        how: str,
        event: gr.EventData,
    ) -> tuple[object, ...]:
        if picture is None:
            raise InputError("there is no photograph yet: upload one, or choose an example")
        start, end = _points(event)
        dragged = max(abs(start[0] - end[0]), abs(start[1] - end[1])) > DRAGGED
        result = cover(picture, start, end if dragged else None, kind=cover_with, size=int(side))
        return explained(result, chosen, composite, percent, how)

    @spoken
    def again(
        picture: Image.Image | None, chosen: int, composite: str, percent: float, how: str
    ) -> tuple[object, ...]:
        if picture is None:
            return None, None, None, None
        return explained(picture, chosen, composite, percent, how)

    settings, shown = [target, rules, share, style], [covered, canvas, drawn, bars]
    limits = {"concurrency_limit": site.at_once, "concurrency_id": "explain"}
    photo.change(opened, [photo, *settings], [whole, *shown, before], **limits)
    canvas.submit(
        patched, [covered, kind, size, *settings], shown, show_progress="hidden", **limits
    )
    reset.click(again, [whole, *settings], shown, **limits)
    gr.on(
        [target.input, rules.input, share.input, style.input],
        again,
        [covered, *settings],
        shown,
        trigger_mode="always_last",
        show_progress="hidden",
        **limits,
    )


def _points(event: gr.EventData) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where the pointer was pressed and released; what a browser sends is not trusted."""
    try:
        (left, top), (right, bottom) = event.start, event.end
        return (int(left), int(top)), (int(right), int(bottom))
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError("the page sent no place in the picture: load it again") from error
