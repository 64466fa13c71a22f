"""The command ``lrp-fx export``: the explainer as a file that runs without this library."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer

from lrp_fx.app import classifier_of, write_page
from lrp_fx.cli.examples import Example, Shape, example_of
from lrp_fx.cli.methods import lrp_of
from lrp_fx.cli.models import open_model
from lrp_fx.cli.options import Composite, ModelOptions, RuleOptions, TalkOptions
from lrp_fx.cli.talk import Talk, shown
from lrp_fx.errors import InputError, OptionError

ExportFormat = Literal["pt2", "aot", "onnx"]
SUFFIXES: dict[str, ExportFormat] = {".pt2": "pt2", ".onnx": "onnx"}


def export(
    file: Annotated[
        Path,
        typer.Argument(
            help="The file to write: NAME.pt2 or NAME.onnx; with --html a folder.",
            show_default=False,
        ),
    ],
    model: ModelOptions,
    rules: RuleOptions,
    talk: TalkOptions,
    format: Annotated[
        ExportFormat | None,
        typer.Option(
            help="pt2 for torch.export, aot for compiled code, onnx.",
            show_default="as the file's name says",
        ),
    ] = None,
    fixed_batch: Annotated[
        bool, typer.Option("--fixed-batch", help="For the batch size of the example only.")
    ] = False,
    html: Annotated[
        bool,
        typer.Option("--html", help="Write a folder with a page that explains in the browser."),
    ] = False,
    ort: Annotated[
        Path | None,
        typer.Option(
            help="With --html: the folder dist of onnxruntime-web.", show_default="fetched once"
        ),
    ] = None,
    composite: Composite = None,
    input: Example = None,
    shape: Shape = None,
) -> None:
    """Write one file that takes inputs and targets, and returns the output and the relevance.

    The file appears complete or not at all. docs/export.md says how to run it.
    With --html it is a folder: its page explains pictures in the browser, without a server.

    Exit code: 0 all well, 2 wrong usage, or a model that cannot be exported.

    Examples:
      lrp-fx export explainer.onnx
      lrp-fx export --html page
      lrp-fx export explainer.pt2 --model my_models.py:make --shape 1,16
      lrp-fx export compiled.pt2 --format aot --composite epsilon_plus --top-k 0.05
    """
    voice = Talk(talk)
    if html:
        _export_page(file, model, rules, voice, composite, ort)
        return
    with voice.usage():
        chosen = format or SUFFIXES.get(file.suffix.lower())
        if chosen is None:
            raise OptionError(
                f"the name of the file must end in .pt2 or .onnx, got {shown(file)}: its ending says "
                "the format"
            )
        if not file.parent.is_dir():
            raise InputError(f"cannot write {shown(file)}: there is no folder {shown(file.parent)}")
        if file.is_dir():
            raise InputError(f"cannot write {shown(file)}: it is a folder")
        loaded = open_model(model, voice)
        lrp = lrp_of(loaded, composite, rules)
        x = example_of(loaded, input, shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's exporters, for their developers
            lrp.export(x, path=file, format=chosen, dynamic_batch=not fixed_batch)
    voice.result(f"written: {shown(file)}")
    voice.say(f"format {chosen}, example {tuple(x.shape)}; docs/export.md says how to run it")
    voice.document(
        {"command": "export", "file": str(file), "format": chosen, "shape": list(x.shape)}
    )


def _export_page(
    folder: Path,
    model: ModelOptions,
    rules: RuleOptions,
    voice: Talk,
    composite: str | None,
    ort: Path | None,
) -> None:
    """Write the page that explains pictures in the browser."""
    with voice.usage():
        if rules != RuleOptions():
            raise OptionError("--html takes no filter, start or bias: the page has a slider for it")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's exporters, for their developers
            classifier = classifier_of(open_model(model, voice))
            write_page(classifier, folder, composite=composite or "", ort=ort)
    voice.result(f"written: {shown(folder)}")
    voice.say(f"to see it: python -m http.server --bind 127.0.0.1 -d {shown(folder)}")
    voice.document({"command": "export", "folder": str(folder), "format": "html"})
