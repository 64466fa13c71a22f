"""Maps of all inputs of a command, with figures, tables and the summary."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rich.table import Table

from lrp_fx._common import check_choice
from lrp_fx.cli.account import Account, note_on
from lrp_fx.cli.explained import Explained, explain_sample
from lrp_fx.cli.files import Files, make_folder, read_summary, write_summary
from lrp_fx.cli.inputs import IN_FOLDERS, Sample, find_images
from lrp_fx.cli.methods import Method, make_methods
from lrp_fx.cli.models import open_model
from lrp_fx.cli.names import Names
from lrp_fx.cli.options import FORMS, ModelOptions, RuleOptions
from lrp_fx.cli.runs import Run
from lrp_fx.cli.settings import settings_of
from lrp_fx.cli.talk import Talk, shown
from lrp_fx.cli.targets import resolve_target
from lrp_fx.zoo import LoadedModel

Beside: TypeAlias = Callable[
    [LoadedModel, Sequence[Method], Explained], tuple[Table, dict[str, Any]]
]


@dataclass(frozen=True)
class Maps:
    """Which maps are made, and where they go.

    Args:
        composites: by name.
        target: as the user wrote it.
        forms: the files that are written for each input.
        out: the folder of the results.
        single: whether an array is one sample.
    """

    composites: tuple[str, ...]
    target: str
    forms: tuple[str, ...]
    out: Path
    single: bool = False


def explain_all(
    name: str,
    inputs: Sequence[Path],
    model: ModelOptions,
    rules: RuleOptions,
    talk: Talk,
    maps: Maps,
    beside: Beside | None = None,
) -> None:
    """Explain all inputs, and write figures and the summary.

    Args:
        name: of the command.
        inputs: files and folders.
        model: the model.
        rules: the filter, the start and the biases.
        talk: the command's voice.
        maps: which maps are made, and where they go.
        beside: what else is said of each sample: a table, and what the summary gets.
    """
    run = Run(name, talk)
    with talk.usage():
        for form in maps.forms:
            check_choice("save", form, FORMS)
        files = run.readable(find_images(inputs, IN_FOLDERS))
        loaded = open_model(model, talk)
        wanted = resolve_target(maps.target, loaded.categories)
        methods = make_methods(loaded, maps.composites, rules)
        make_folder(maps.out, "results")
        read_summary(maps.out)
    more = (["compare"] if beside else []) + (["single"] if maps.single else [])
    settings = settings_of(model, rules, maps.out, maps.composites, maps.target, *more)
    writer = Files(maps.out, Names(maps.out, settings), maps.forms)
    accounts: list[Account] = []

    def work(sample: Sample) -> dict[str, Any]:
        explained = explain_sample(loaded, methods, sample, wanted)
        table, more = (None, {}) if beside is None else beside(loaded, methods, explained)
        written = writer.write(explained)
        accounts.append(explained.account)
        places = ", ".join(shown(path) for path in written)
        if talk.options.quiet:
            talk.result(
                f"{sample.label}: {explained.title}, {explained.account.sentence} → {places}"
            )
        else:
            talk.result(f"\n{sample.label}")
            talk.show(explained.table())
            if table is not None:
                talk.show(table)
            talk.result(f"written: {places}")
        return {**explained.to_dict(), **more, "files": [os.fsdecode(path) for path in written]}

    try:
        run.over(files, work, single=maps.single)
    finally:  # whatever happens, what is done is listed
        if run.results:
            with talk.usage():
                summary = write_summary(maps.out, name, run.results)
    note = note_on(accounts)
    if note:
        talk.say(f"\n{note}")
    if run.results:
        talk.say(f"summary: {shown(summary)}")
    run.finish()
