"""The commands ``app``, which serves the live page, and ``export-page``, which writes the static one."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lrp_fx.app import Classifier, classifier_of, own_classifier, serve, write_page
from lrp_fx.cli.shared import find_images, say, say_error
from lrp_fx.errors import LRPError, OptionError
from lrp_fx.zoo import Preprocessing, load

EXAMPLES = Path(__file__).parents[2] / "examples" / "photographs"
"""The photographs of a checkout."""
ModelOption = Annotated[
    str,
    typer.Option(help="efficientnet-lite0, torchvision/NAME, or MODULE:FUNCTION that makes yours."),
]
WeightsOption = Annotated[
    Path | None, typer.Option(help="A plain state dict, or .safetensors for a model of your own.")
]
PreprocessOption = Annotated[
    str | None,
    typer.Option(
        help="For a model of your own: MODULE:FUNCTION from a PIL picture to the input (C, H, W), or "
        "RESIZE,CROP,MEAN,STD such as 256,224,0.5,0.25; MEAN and STD may be three values with /."
    ),
]
CategoriesOption = Annotated[
    Path | None, typer.Option(help="A file with the name of a class in each line.")
]


def app(
    model: ModelOption = "efficientnet-lite0",
    weights: WeightsOption = None,
    preprocess: PreprocessOption = None,
    categories: CategoriesOption = None,
    examples: Annotated[
        Path | None,
        typer.Option(help="A folder with photographs to try.", show_default="those of a checkout"),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(help="A video or a folder of pictures that the Live tab plays."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen at; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any free one.")] = 7860,
    seconds: Annotated[
        int, typer.Option(min=1, help="How long one live stream may last, in seconds.")
    ] = 600,
    at_once: Annotated[
        int, typer.Option(min=1, help="How many explanations are computed at the same time.")
    ] = 2,
) -> None:
    """Serve a page that explains photographs, patches over them, and the camera.

    Nothing is asked of any other host.
    """
    try:
        classifier = named_classifier(model, weights, preprocess, categories)
        folder = examples or (EXAMPLES if EXAMPLES.is_dir() else None)
        serve(
            classifier,
            host=host,
            port=port,
            examples=find_images([folder]) if folder else (),
            frames=frames,
            seconds=seconds,
            at_once=at_once,
            say=lambda text: say(Console(), text),
        )
    except LRPError as error:
        say_error(Console(stderr=True), error)
        raise typer.Exit(2) from None


def export_page(
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    model: ModelOption = "efficientnet-lite0",
    weights: WeightsOption = None,
    preprocess: PreprocessOption = None,
    categories: CategoriesOption = None,
    composite: Annotated[
        str, typer.Option(help="A name from 'lrp-fx composites'.", show_default="the default")
    ] = "",
    ort: Annotated[
        Path | None,
        typer.Option(help="The folder dist of onnxruntime-web.", show_default="fetched once"),
    ] = None,
) -> None:
    """Write a folder that explains pictures in the browser: no server computes, nothing is sent."""
    console = Console()
    try:
        classifier = named_classifier(model, weights, preprocess, categories)
        write_page(classifier, out, composite=composite, ort=ort)
    except LRPError as error:
        say_error(Console(stderr=True), error)
        raise typer.Exit(2) from None
    say(console, f"page: {out}; to see it: python -m http.server --bind 127.0.0.1 -d {out}")


def named_classifier(
    model: str, weights: Path | None, preprocess: str | None, categories: Path | None
) -> Classifier:
    """The classifier that the options mean.

    Raises:
        LRPError: if it cannot be made.
    """
    if ":" not in model:
        if preprocess is not None or categories is not None:
            raise OptionError(
                "--preprocess and --categories belong to a model of your own, --model MODULE:FUNCTION"
            )
        return classifier_of(load(model, weights))
    if preprocess is None:
        raise OptionError("a model of your own needs --preprocess")
    names: list[str] = []
    if categories is not None:
        try:
            names = categories.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(
                f"cannot read the names of classes in {categories}: {error}"
            ) from error
    how = preprocess if ":" in preprocess else statistics(preprocess)
    return own_classifier(model, weights=weights, preprocess=how, categories=names)


def statistics(text: str) -> Preprocessing:
    """``RESIZE,CROP,MEAN,STD`` as a preprocessing.

    Raises:
        OptionError: if it is something else.
    """
    try:
        resize, crop, mean, std = text.split(",")
        means, stds = (
            tuple(map(float, each.split("/"))) * (1 if "/" in each else 3) for each in (mean, std)
        )
        if len(means) != 3 or len(stds) != 3 or not all(stds) or not int(resize) >= int(crop) > 0:
            raise ValueError
        return Preprocessing(int(resize), int(crop), means, stds)
    except ValueError:
        raise OptionError(
            f"--preprocess is MODULE:FUNCTION, or RESIZE,CROP,MEAN,STD such as 256,224,0.5,0.25 (with "
            f"CROP at most RESIZE), got {text!r}"
        ) from None
