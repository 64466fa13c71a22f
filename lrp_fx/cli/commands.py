"""The commands of ``lrp-fx``: they explain photographs by tables and pictures."""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from lrp_fx import LRPFx
from lrp_fx._version import __version__
from lrp_fx.cli import app as pages
from lrp_fx.cli.evaluation import evaluate
from lrp_fx.cli.photographs import read_photograph
from lrp_fx.cli.rule_search import search
from lrp_fx.cli.shared import (
    PICTURE,
    composite_for,
    find_images,
    make_folder,
    move,
    say,
    say_error,
)
from lrp_fx.composites import PRESETS
from lrp_fx.errors import LRPError, OptionError, TargetError
from lrp_fx.relevance import FilterBy
from lrp_fx.visualize import explanation_figure, save
from lrp_fx.zoo import LoadedModel, load

PREDICTED = "predicted"
AGAINST_REST = "against other classes"
DELTA_NOTE = (
    "Convergence delta: the part of the explained output that did not reach the pixels, but was kept "
    "by biases, constants and stabilizers. A relevance sum near zero is no error: batch norm makes "
    "large biases, which absorb their share by default. The map still shows where the evidence lies; "
    'its positive and negative values nearly cancel. LRPFx(..., "epsilon_plus", bias="distribute") '
    "passes the biases' share on to the pixels."
)

app = typer.Typer(
    help="Layer-wise relevance propagation: what a network looked at.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


app.command()(evaluate)
app.command()(search)
app.command("app")(pages.app)
app.command("export-page")(pages.export_page)


@dataclass(frozen=True)
class Explanation:
    """The explanation of one photograph.

    Args:
        probabilities: of the classes, ``(classes,)``.
        target: the explained class.
        maps: title → relevance ``(3, H, W)``; the first one is that of the logit.
        delta: the explained output minus the sum of the first map.
    """

    probabilities: Tensor
    target: int
    maps: dict[str, Tensor]
    delta: float

    @property
    def relevance(self) -> Tensor:
        """The relevance of the logit, ``(3, H, W)``."""
        return next(iter(self.maps.values()))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lrp_fx {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Layer-wise relevance propagation: what a network looked at."""


@app.command()
def composites() -> None:
    """List the composites (which operation gets which rule) that --composite knows."""
    table = Table("composite", "what it does", box=None)
    for name, factory in PRESETS.items():
        table.add_row(name, escape(plain_words((factory.__doc__ or "").strip().partition("\n")[0])))
    Console().print(table)


def plain_words(docstring: str) -> str:
    """The text without the roles of Sphinx: ``Flat`` for ``:class:`~lrp_fx.rules.Flat```."""
    without_roles = re.sub(
        r":\w+:`~?([^`]+)`", lambda m: m[1].rpartition(".")[2] if "~" in m[0] else m[1], docstring
    )
    return without_roles.replace("``", "")


@app.command()
def explain(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders with image files.")],
    model: Annotated[
        str, typer.Option(help="efficientnet-lite0, or torchvision/NAME.")
    ] = "efficientnet-lite0",
    weights: Annotated[
        Path | None, typer.Option(help="A plain state dict to use instead of the usual weights.")
    ] = None,
    composite: Annotated[
        str | None,
        typer.Option(
            help="A name from 'lrp-fx composites'.",
            show_default="attn_lrp for models with attention, else epsilon_gamma",
        ),
    ] = None,
    top_k: Annotated[
        float | None,
        typer.Option(
            help="Draw one more map, with a filter that keeps this share of the relevance values.",
            show_default="no filtered map",
        ),
    ] = None,
    filter_by: Annotated[
        FilterBy | None,
        typer.Option(
            help="With --top-k: the filter keeps the largest 'value' (with its sign) or 'magnitude'.",
            show_default="value",
        ),
    ] = None,
    target: Annotated[
        str, typer.Option(help="Class index, class name or part of one, or 'predicted'.")
    ] = PREDICTED,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("explanations"),
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, mps, ...")] = "cpu",
) -> None:
    """Explain what a classifier sees in photographs: a table and a picture for each.

    The first map explains the logit of the class.
    The second one explains what speaks for it and against other classes (start 'against_rest').
    """
    console, errors = Console(), Console(stderr=True)
    try:
        if filter_by is not None and top_k is None:
            raise OptionError("--filter-by says how --top-k filters: pass --top-k too")
        loaded = load(model, weights)
        wanted = resolve_target(target, loaded.categories)
        move(loaded, device)
        rules = composite_for(loaded, composite)
        lrp = LRPFx(loaded.model, rules)
        methods = {"relevance": lrp, AGAINST_REST: lrp.with_options(start="against_rest")}
        if top_k is not None:
            by: FilterBy = filter_by or "value"
            filtered = lrp.with_options(top_k=top_k, filter_by=by)
            methods[f"relevance, top {100 * top_k:.3g} % by {by}"] = filtered
        files = find_images(images)
        make_folder(out, "pictures")
    except LRPError as error:
        say_error(errors, error)
        raise typer.Exit(2) from None

    failed = 0
    with Progress(console=console, transient=True, disable=len(files) < 2) as progress:
        pairs = list(zip(files, picture_names(files), strict=True))
        for file, name in progress.track(pairs, description="explaining"):
            try:
                photograph = read_photograph(file)
                explanation = explain_photograph(loaded, methods, photograph, wanted)
                picture = out / name
                _draw(explanation, loaded, photograph, picture)
            except (LRPError, OSError) as error:
                failed += 1
                say_error(errors, error)
                continue
            say(console, f"\n{file}")
            console.print(table_of(explanation, loaded.categories))
            say(console, f"picture: {picture}")
    if failed < len(files):
        say(console, f"\n{DELTA_NOTE}")
    if failed:
        say(errors, f"{failed} of {len(files)} images could not be explained")
        raise typer.Exit(1)


def picture_names(files: Sequence[Path]) -> list[str]:
    """A distinct name of a picture for each file.

    It starts with the stem of the file, preceded by the name of its folder if stems are equal.
    """
    stems = Counter(file.stem.casefold() for file in files)
    taken: set[str] = set()
    names = []
    for file in files:
        alone = stems[file.stem.casefold()] == 1
        name = file.stem if alone else f"{file.resolve().parent.name}-{file.stem}"
        numbered = (name if number == 1 else f"{name}-{number}" for number in count(1))
        # Some file systems do not distinguish upper and lower case.
        free = next(choice for choice in numbered if choice.casefold() not in taken)
        taken.add(free.casefold())
        names.append(free + PICTURE)
    return names


def resolve_target(text: str, categories: Sequence[str]) -> int | None:
    """The class that ``text`` means: an index, a name, or a unique part of a name.

    Returns:
        The index of the class; None for "predicted".

    Raises:
        TargetError: if it means no class or several; it names the nearest ones.
    """
    wanted = text.strip().casefold()
    if wanted == PREDICTED:
        return None
    if wanted.removeprefix("-").isdecimal():
        if not 0 <= int(wanted) < len(categories):
            raise TargetError(
                f"target {text} is out of range: classes have indices 0 to {len(categories) - 1}"
            )
        return int(wanted)
    folded = [category.casefold() for category in categories]
    exact = [index for index, name in enumerate(folded) if name == wanted]
    matches = exact or [index for index, name in enumerate(folded) if wanted in name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        shown = ", ".join(f"{categories[index]} ({index})" for index in matches[:8])
        more = f" and {len(matches) - 8} more" if len(matches) > 8 else ""
        raise TargetError(f"target {text!r} may mean {len(matches)} classes: {shown}{more}")
    near = difflib.get_close_matches(wanted, folded, cutoff=0.5)
    shown = ", ".join(f"{categories[folded.index(name)]} ({folded.index(name)})" for name in near)
    raise TargetError(
        f"there is no class {text!r}" + (f": the nearest are {shown}" if near else "")
    )


def explain_photograph(
    loaded: LoadedModel,
    methods: Mapping[str, LRPFx],
    photograph: Image.Image,
    target: int | None,
) -> Explanation:
    """Explain the class ``target`` of one photograph, or the most probable class if it is None.

    Args:
        loaded: the model.
        methods: titles of the maps, and how each is made; the first one explains the logit.
        photograph: the photograph.
        target: the class.
    """
    device = next(loaded.model.parameters()).device
    x = loaded.preprocess(photograph).unsqueeze(0).to(device)
    with torch.no_grad():
        probabilities = loaded.model(x)[0].softmax(0)
    chosen = int(probabilities.argmax()) if target is None else target
    first, *others = methods
    relevance, delta = methods[first].attribute(x, target=chosen, return_convergence_delta=True)
    maps = {first: relevance[0]}
    maps |= {name: methods[name].attribute(x, target=chosen)[0] for name in others}
    return Explanation(probabilities, chosen, maps, delta.item())


def table_of(explanation: Explanation, categories: Sequence[str]) -> Table:
    """What was predicted, what was explained, and how much relevance reached the photograph."""
    table = Table("", "class", "index", "probability")
    table.columns[2].justify = table.columns[3].justify = "right"

    def add(label: str, index: int) -> None:
        probability = f"{explanation.probabilities[index]:.2%}"
        table.add_row(label, escape(categories[index]), str(index), probability)

    for place, index in enumerate(explanation.probabilities.topk(3).indices.tolist(), start=1):
        add(f"predicted {place}", index)
    table.add_section()
    add("explained", explanation.target)
    table.add_section()
    table.add_row("relevance sum", f"{explanation.relevance.sum():.6g}")
    table.add_row("convergence delta", f"{explanation.delta:.6g}")
    return table


def _draw(
    explanation: Explanation,
    loaded: LoadedModel,
    photograph: Image.Image,
    picture: Path,
) -> None:
    probability = explanation.probabilities[explanation.target]
    figure = explanation_figure(
        loaded.display(photograph),
        explanation.maps,
        title=f"{loaded.categories[explanation.target]} ({probability:.1%})",
        target=loaded.categories[explanation.target],
    )
    save(figure, picture)
