"""Options that several commands share: dataclasses whose fields are options of the command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from lrp_fx.attribution import BiasPolicy, FilterBy
from lrp_fx.composites import PRESETS
from lrp_fx.zoo import EFFICIENTNET, names

PREDICTED = "predicted"
BLOG = "blog"
FORMS = ("png", "pdf", "svg", "npy", "folder")
"""The forms in which an explanation is written: a figure, its maps, or all of it."""
StartName = Literal["logit", "one_hot", "against_rest", "softmax"]

MODEL = "Model"
PICTURES = "Preprocessing"
RULES = "Rules"
OUTPUT = "Output"


def _complete_model(beginning: str) -> list[str]:
    return [name for name in names() if name.startswith(beginning)]


def _complete_composite(beginning: str) -> list[str]:
    return [name for name in (*PRESETS, BLOG) if name.startswith(beginning)]


Inputs = Annotated[
    list[Path],
    typer.Argument(
        help="Photographs, arrays (.npy, a sample in each first index), tables (.csv, a sample in "
        "each row), or folders with photographs and arrays.",
        show_default=False,
    ),
]
Images = Annotated[
    list[Path], typer.Argument(help="Image files, or folders with image files.", show_default=False)
]
Composites = Annotated[
    list[str] | None,
    typer.Option(
        "--composite",
        help="A name from 'lrp-fx composites'; repeat it for several maps.",
        show_default="attn_lrp for models with attention, else epsilon_gamma",
        autocompletion=_complete_composite,
        rich_help_panel=RULES,
    ),
]
Composite = Annotated[
    str | None,
    typer.Option(
        help="A name from 'lrp-fx composites'.",
        show_default="attn_lrp for models with attention, else epsilon_gamma",
        autocompletion=_complete_composite,
        rich_help_panel=RULES,
    ),
]
Target = Annotated[
    str,
    typer.Option(
        help="Class index, class name or part of one, or 'predicted'.", rich_help_panel=RULES
    ),
]
Single = Annotated[
    bool, typer.Option("--single", help="An array is one sample, without a dimension of samples.")
]

Save = Annotated[
    list[str] | None,
    typer.Option(
        help="Write a figure (png, pdf, svg), the maps as arrays (npy), or all of the explanation "
        "(folder); repeat it.",
        show_default="png",
        rich_help_panel=OUTPUT,
    ),
]
Out = Annotated[Path, typer.Option(help="Folder for the results.", rich_help_panel=OUTPUT)]


@dataclass(frozen=True)
class ModelOptions:
    """Which model is explained, how photographs become its input, and where it computes."""

    model: Annotated[
        str,
        typer.Option(
            help=f"{EFFICIENTNET}, torchvision/NAME, timm/NAME, hf/NAME or a folder of Hugging "
            "Face; of your own: FILE.py:FACTORY or package.module:FACTORY.",
            autocompletion=_complete_model,
            rich_help_panel=MODEL,
        ),
    ] = EFFICIENTNET
    weights: Annotated[
        Path | None,
        typer.Option(
            help="A state dict (.safetensors, or of torch.save) instead of the usual weights.",
            rich_help_panel=MODEL,
        ),
    ] = None
    categories: Annotated[
        Path | None,
        typer.Option(
            help="Names of the classes: a text file with one on each line, or JSON.",
            rich_help_panel=MODEL,
        ),
    ] = None
    preprocess: Annotated[
        str | None,
        typer.Option(
            help="A function from a photograph of PIL to an input (C, H, W): FILE.py:FUNCTION or "
            "package.module:FUNCTION.",
            show_default="the model's",
            rich_help_panel=PICTURES,
        ),
    ] = None
    device: Annotated[
        str, typer.Option(help="The device: cpu, cuda, mps, ...", rich_help_panel=MODEL)
    ] = "cpu"
    mean: Annotated[
        str | None,
        typer.Option(
            help="Subtracted from pixels in [0, 1]: a number, or one per channel: 0.5,0.5,0.5.",
            show_default="the model's",
            rich_help_panel=PICTURES,
        ),
    ] = None
    std: Annotated[
        str | None,
        typer.Option(
            help="Pixels are then divided by this, in the same form.",
            show_default="the model's",
            rich_help_panel=PICTURES,
        ),
    ] = None
    resize: Annotated[
        str | None,
        typer.Option(
            help="Pixels of the shorter side, or HEIGHTxWIDTH; 0 for the photograph's own size.",
            show_default="the model's",
            rich_help_panel=PICTURES,
        ),
    ] = None
    crop: Annotated[
        int | None,
        typer.Option(
            help="Side of the square in the middle; 0 for all.",
            min=0,
            show_default="the model's",
            rich_help_panel=PICTURES,
        ),
    ] = None
    grey: Annotated[
        bool, typer.Option("--grey", help="The model takes one channel.", rich_help_panel=PICTURES)
    ] = False


@dataclass(frozen=True)
class RuleOptions:
    """The filter, the start and the biases, beside the composite; and where graphs are kept."""

    top_k: Annotated[
        float | None,
        typer.Option(
            help="One more map, with a filter that keeps this share of the relevance values.",
            show_default="no filtered map",
            rich_help_panel=RULES,
        ),
    ] = None
    filter_by: Annotated[
        FilterBy | None,
        typer.Option(
            help="With --top-k: the filter keeps the largest 'value' (with its sign) or 'magnitude'.",
            show_default="value",
            rich_help_panel=RULES,
        ),
    ] = None
    start: Annotated[
        StartName | None,
        typer.Option(
            help="The relevance of the output; softmax explains all classes at once.",
            show_default="logit, and one more map against_rest",
            rich_help_panel=RULES,
        ),
    ] = None
    bias: Annotated[
        BiasPolicy | None,
        typer.Option(
            help="Biases absorb their share, are ignored, or distribute it over their inputs.",
            show_default="as the composite says: most absorb",
            rich_help_panel=RULES,
        ),
    ] = None
    cache: Annotated[
        Path | None,
        typer.Option(
            help="A folder that keeps the graphs of models, so that a later run need not read them.",
            show_default="none",
            rich_help_panel=MODEL,
        ),
    ] = None


@dataclass(frozen=True)
class TalkOptions:
    """How much is said, and in which form."""

    json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON document instead.", rich_help_panel=OUTPUT),
    ] = False
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="One line for each result, and no notes.", rich_help_panel=OUTPUT
        ),
    ] = False


def flat(command: Callable[..., Any]) -> Callable[..., None]:
    """The command with one parameter for each field of its dataclass parameters, for typer."""
    signature = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        kind = hints[name]
        if not (isinstance(kind, type) and is_dataclass(kind)):
            parameters.append(parameter.replace(annotation=kind))
            continue
        groups[name] = kind
        inner = get_type_hints(kind, include_extras=True)
        for each in fields(kind):
            default = inspect.Parameter.empty if each.default is MISSING else each.default
            parameters.append(
                inspect.Parameter(
                    each.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=default,
                    annotation=inner[each.name],
                )
            )

    def run(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{each.name: values.pop(each.name) for each in fields(kind)})
        command(**values)

    ordered = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    vars(run)["__signature__"] = inspect.Signature(ordered)
    run.__annotations__ = {each.name: each.annotation for each in ordered}
    # click joins the lines of a paragraph unless a backspace stands before them
    run.__doc__ = inspect.cleandoc(command.__doc__ or "").replace("\nExamples:", "\n\b\nExamples:")
    run.__name__ = command.__name__
    run.__module__ = command.__module__
    return run
