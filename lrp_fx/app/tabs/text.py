"""The tab Text: which words make two sentences similar."""

from __future__ import annotations

from threading import Lock

import gradio as gr

from lrp_fx.app.sentences import Sentences, packaged_sentences
from lrp_fx.app.tabs.parts import Site, spoken

PAIR = ("A man is playing a guitar on the stage.", "Someone makes music on a string instrument.")


def text_tab(site: Site) -> None:
    """Build the tab. The model is loaded at the first question."""
    loaded: list[Sentences] = []
    loading = Lock()
    with gr.Row():
        first = gr.Textbox(PAIR[0], label="First sentence", max_length=500, elem_id="first")
        second = gr.Textbox(PAIR[1], label="Second sentence", max_length=500, elem_id="second")
    ask = gr.Button("Why are they similar?", variant="primary", elem_id="similar")
    cosine = gr.Markdown(elem_id="cosine")
    shown = gr.HTML(elem_id="words")

    @spoken
    def explained(one: str, other: str) -> tuple[str, str]:
        with loading:
            if not loaded:
                loaded.append(packaged_sentences())
        pair = loaded[0].explain(one, other)
        text = f"Similarity **{pair.cosine:.2f}** (the cosine of their embeddings; 1 is the same)"
        return text, pair.first.html() + pair.second.html()

    ask.click(
        explained,
        [first, second],
        [cosine, shown],
        concurrency_limit=site.at_once,
        concurrency_id="explain",
    )
