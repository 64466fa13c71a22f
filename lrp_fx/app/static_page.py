"""A folder that explains pictures in the browser: no server computes, no picture is sent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from lrp_fx._common import __version__, write_whole
from lrp_fx.app.classifier import Classifier
from lrp_fx.app.drawing import COLORS
from lrp_fx.app.runtime import FILES, fetch_runtime
from lrp_fx.errors import InputError, OptionError
from lrp_fx.visualize import colorize

STATIC = Path(__file__).with_name("static")
PAGE = ("index.html", "page.css", "page.mjs", "explainer.mjs", "pictures.mjs", "worker.mjs")
MODEL, SETTINGS = "explainer.onnx", "settings.json"
STEPS = 257
"""The number of colours; it is odd, so that zero has one of its own."""
INTERPOLATIONS = ("bilinear", "bicubic")
"""The interpolations of the page, and their names there."""


def write_page(
    classifier: Classifier, folder: Path, *, composite: str = "", ort: Path | None = None
) -> Path:
    """Write the static page: the explainer as an ONNX file, onnxruntime-web, and the page itself.

    Serve the folder with any web server, such as ``python -m http.server``. The class and the share
    that the filter keeps are inputs of the explainer, so the page changes both without a new file.

    Args:
        classifier: the model; its preprocessing must be known.
        folder: it is made if it does not exist. Files of these names in it are replaced.
        composite: the name of a preset; empty for the default of the model.
        ort: the folder ``dist`` of onnxruntime-web; None to fetch it once into the user's cache.

    Returns:
        The folder.

    Raises:
        InputError: if onnxruntime-web cannot be fetched, or the folder cannot be written.
        OptionError: if the preprocessing is not known or not one that the page can do, or if the
            packages onnx and onnxscript are missing.
        CaptureError: if the explainer cannot be exported.
    """
    known = classifier.preprocessing
    if known is None or known.interpolation not in INTERPOLATIONS:
        raise OptionError(
            "the page prepares pictures itself, so it needs a model whose preprocessing is an "
            "lrp_fx.zoo.Preprocessing with bilinear or bicubic interpolation"
        )
    runtime = fetch_runtime(ort)
    lrp = classifier.attribution(composite)
    x = torch.zeros(1, 3, known.crop, known.crop)
    x = x.to(next((each.device for each in classifier.model.parameters()), x.device))
    classes = lrp.explained_output(x).shape[1]
    settings = {
        "name": classifier.name,
        "input": list(x.shape),
        "classes": classes,
        "squashing": lrp.plan(x).squashing,
        "categories": list(classifier.categories),
        "composite": composite or "the default of lrp_fx",
        "preprocessing": {
            "resize": known.resize,
            "crop": known.crop,
            "mean": known.mean,
            "std": known.std,
            "interpolation": known.interpolation,
        },
        "colors": colorize(np.linspace(-1, 1, STEPS), 1.0, COLORS).tolist(),
        "version": __version__,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as made:  # so that a failed export replaces nothing
            file = Path(made) / MODEL
            lrp.export(x, path=file, format="onnx", dynamic_batch=False, filter_input=True)
            for part in Path(made).iterdir():  # large models have their weights in a second file
                shutil.move(part, folder / part.name)
        for name in FILES:
            shutil.copyfile(runtime / name, folder / name)
        for name in PAGE:
            shutil.copyfile(STATIC / name, folder / name)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error
    write_whole(folder / SETTINGS, json.dumps(settings).encode(), InputError)
    return folder
