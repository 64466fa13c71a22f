"""The tab Picture: one photograph, one class, a filter, and a second composite beside it."""

from __future__ import annotations

import io
from pathlib import Path

import gradio as gr
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lrp_fx._common import write_whole
from lrp_fx.app.drawing import encoded
from lrp_fx.app.tabs.parts import (
    PREDICTED,
    Site,
    colors_choice,
    drawn_image,
    enlarged,
    photograph,
    rules_choice,
    share_slider,
    spoken,
    style_choice,
    visitors_folder,
)
from lrp_fx.app.uploads import read_upload
from lrp_fx.errors import InputError

NONE = "none"


def picture_tab(site: Site) -> tuple[gr.Image, gr.Dropdown, gr.Dropdown, gr.Slider]:
    """Build the tab; returns what says what is explained: photograph, class, rules, share."""
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            photo = photograph(
                label="Photograph", sources=["upload", "clipboard"], elem_id="photo", height=280
            )
            if site.examples:
                gr.Examples([[str(file)] for file in site.examples], [photo], label="Examples")
            target = gr.Dropdown(
                site.classes(),
                value=PREDICTED,
                label="Class",
                info="Choose or type",
                elem_id="class",
            )
            rules = rules_choice(elem_id="rules")
            second = rules_choice("Second composite, side by side", NONE)
            share = share_slider(elem_id="share")
            style = style_choice()
            colors = colors_choice()
        with gr.Column(scale=3, min_width=280):
            with gr.Row():
                seen = drawn_image("What the model sees", elem_id="seen", min_width=200)
                first = drawn_image("Relevance", elem_id="relevance", min_width=200)
                other = drawn_image("Second composite", visible=False, min_width=200)
            bars = gr.Label(label="Prediction", num_top_classes=5, elem_id="bars")
            said = gr.Markdown(elem_id="said")
            with gr.Row():
                png = gr.DownloadButton("Map as PNG", interactive=False, elem_id="png")
                npy = gr.DownloadButton("Relevance as .npy", interactive=False, elem_id="npy")

    @spoken
    def opened(file: str | None) -> gr.Dropdown:
        """The classes to choose from, the most probable ones first."""
        if file is None:
            return gr.Dropdown(site.classes(), value=PREDICTED)
        probabilities = site.classifier.predict(site.classifier.see(read_upload(file)))
        return gr.Dropdown(site.classes(probabilities), value=PREDICTED)

    @spoken
    def explain(
        file: str | None,
        chosen: int,
        composite: str,
        beside: str,
        percent: float,
        how: str,
        palette: str,
        request: gr.Request,
    ) -> tuple[object, ...]:
        """All that the tab shows."""
        if file is None:
            return None, None, gr.Image(visible=False), None, "", *(gr.DownloadButton(),) * 2
        explainer = site.explainer(chosen, composite, percent, style=how, colors=palette)
        shown = explainer.show(file)
        explained = shown.explained
        name = site.classifier.name_of(explained.target)
        compared = gr.Image(visible=False)
        if beside != NONE:
            with_other = site.explainer(
                explained.target, beside, percent, style=how, colors=palette
            ).show(file)
            compared = gr.Image(with_other.drawn, visible=True, label=beside)
        part = float(explained.probabilities[explained.target])
        pictured, kept = _files(
            visitors_folder(site, request), shown.drawn, explained.relevance.cpu().numpy()
        )
        return (
            enlarged(explained.picture),
            gr.Image(shown.drawn, label=f"Relevance for {name}"),
            compared,
            site.bars(explained.probabilities),
            f"Explained: **{name}** ({part:.1%}), Σ relevance "
            f"{float(explained.relevance.sum()):.4g}, {1000 * shown.stages.total:.0f} ms. "
            f"Orange speaks for the class, blue against it.",
            gr.DownloadButton(value=pictured, interactive=True),
            gr.DownloadButton(value=kept, interactive=True),
        )

    shown = [seen, first, other, bars, said, png, npy]
    asked = [photo, target, rules, second, share, style, colors]
    photo.change(opened, photo, target, show_progress="hidden").then(
        explain, asked, shown, concurrency_limit=site.at_once, concurrency_id="explain"
    )
    gr.on(
        [target.input, rules.input, second.input, share.input, style.input, colors.input],
        explain,
        asked,
        shown,
        trigger_mode="always_last",
        show_progress="hidden",
        concurrency_limit=site.at_once,
        concurrency_id="explain",
    )
    return photo, target, rules, share


def _files(folder: Path, drawn: Image.Image, relevance: NDArray[np.generic]) -> tuple[str, str]:
    """The files that one visitor downloads; the next map of the same visitor replaces them."""
    stream = io.BytesIO()
    np.save(stream, relevance)
    png = write_whole(folder / "relevance.png", encoded(drawn, "PNG"), InputError)
    npy = write_whole(folder / "relevance.npy", stream.getvalue(), InputError)
    return str(png), str(npy)
