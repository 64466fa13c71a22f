"""The page: five tabs around one classifier, as Gradio blocks."""

from __future__ import annotations

import gradio as gr

from lrp_fx.app.tabs import Site, live_tab, patches_tab, picture_tab, text_tab, why_tab

WAITING = 32
"""The number of questions that may wait for their turn; more are refused with a sentence."""
UNUSED, CHECKED = 3600, 600
"""After how many seconds files of visitors are deleted, and how often this is checked."""


def page(site: Site) -> gr.Blocks:
    """Build the page.

    Args:
        site: the model and its settings.
    """
    title = f"Why {site.classifier.name}?"
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(CHECKED, UNUSED)) as blocks:
        gr.Markdown(f"# {title}\nLayer-wise relevance propagation: what the model looked at.")
        with gr.Tab("Picture"):
            asked = picture_tab(site)
        with gr.Tab("Patches"):
            patches_tab(site)
        with gr.Tab("Live"):
            live_tab(site)
        with gr.Tab("Why"):
            why_tab(site, *asked)
        with gr.Tab("Text"):
            text_tab(site)
    blocks.queue(max_size=WAITING, api_open=False, default_concurrency_limit=site.at_once)
    return blocks
