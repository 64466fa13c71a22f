"""The tab Why: the plan and the ledger of what the tab Picture shows, with its explosions."""

from __future__ import annotations

import gradio as gr

from lrp_fx.app.tabs.parts import Site, drawn_image, spoken
from lrp_fx.app.uploads import read_upload
from lrp_fx.errors import InputError
from lrp_fx.visualize import ledger_figure, to_pil

LEDGER = ("node", "module", "operation", "rule", "in", "out", "taken", "growth")
PLAN = ("node", "module", "operation", "rule", "chosen by", "top-k")


def why_tab(
    site: Site, photo: gr.Image, target: gr.Dropdown, rules: gr.Dropdown, share: gr.Slider
) -> None:
    """Build the tab.

    Args:
        site: what all tabs know.
        photo: the photograph of the tab Picture.
        target: its class.
        rules: its composite.
        share: its filter.
    """
    gr.Markdown(
        "How the map of the tab *Picture* came about: which operation got which rule, and where the "
        "relevance went."
    )
    ask = gr.Button("Show plan and ledger", variant="primary", elem_id="ask")
    summary = gr.Markdown(elem_id="summary")
    figure = drawn_image("The way of the relevance", show_label=False)
    ledger = gr.Dataframe(
        headers=list(LEDGER), label="Ledger, in shares of the start", elem_id="ledger"
    )
    plan = gr.Dataframe(headers=list(PLAN), label="Plan", elem_id="plan")

    @spoken
    def audited(
        file: str | None, chosen: int, composite: str, percent: float
    ) -> tuple[object, ...]:
        if file is None:
            raise InputError("there is no photograph yet: choose one in the tab Picture")
        explainer = site.explainer(chosen, composite, percent, colors="blue-orange")
        classifier = site.classifier
        seen = classifier.see(read_upload(file))
        x, explained = classifier.input_of(seen), explainer.target
        if explained is None:
            explained = int(classifier.predict(seen).argmax())
        lrp = classifier.attribution(explainer.composite, explainer.share)
        found = lrp.audit(x, explained)
        start = found.start[0] or 1.0
        rows = [
            [
                *(entry.node, entry.path, entry.operation, entry.rule),
                *(f"{amount[0] / start:.1%}" for amount in (entry.arrived, entry.passed)),
                ", ".join(f"{cause} {part[0] / start:.1%}" for cause, part in entry.taken.items()),
                f"{entry.growth:.3g}",
            ]
            for entry in found.entries
        ]
        made = lrp.plan(x)
        steps = [
            [
                *(step.node.name, step.path, step.operation.name, str(step.rule), step.chosen_by),
                "" if step.top_k is None else str(step.top_k),
            ]
            for step in made.steps
            if step.operation is not None
        ]
        lines = [
            f"Explained: **{classifier.name_of(explained)}**. The relevance starts with "
            f"{found.start[0]:.4g}; {found.relevance[0] / start:.1%} of it arrives at the pixels.",
            *(
                f"{str(cause).capitalize()} takes {part[0] / start:.1%}."
                for cause, part in found.taken.items()
            ),
            "The books balance." if found.closes() else "**The books do not balance.**",
        ]
        explosions = found.explosions()
        if explosions:
            lines += [
                f"**Explosion**: Σ |R| grows {entry.growth:.3g} times at `{entry.node}` ({entry.rule})."
                for entry in explosions
            ]
        else:
            lines.append("No explosion: Σ |R| grows nowhere more than tenfold.")
        lines += [f"Note: {note}" for note in made.notes]
        return "\n\n".join(lines), to_pil(ledger_figure(found)), rows, steps

    ask.click(
        audited,
        [photo, target, rules, share],
        [summary, figure, ledger, plan],
        concurrency_limit=site.at_once,
        concurrency_id="explain",
    )
