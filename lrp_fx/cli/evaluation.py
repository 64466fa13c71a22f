"""The command ``lrp-fx evaluate``: are the maps good?"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx._checks import check_choice
from lrp_fx.cli.photographs import read_photograph
from lrp_fx.cli.shared import composite_for, find_images, make_folder, move, say, say_error
from lrp_fx.composites import Composite
from lrp_fx.errors import LRPError, OptionError
from lrp_fx.evaluate import (
    SRG,
    Blur,
    Bootstrap,
    CascadingRandomisation,
    ClassCorrelation,
    Explain,
    Explainer,
    Imputer,
    IndependentRandomisation,
    Inpainting,
    LeastRelevantFirst,
    MaxSensitivity,
    Mean,
    Metric,
    MosaicFocus,
    MostRelevantFirst,
    Noise,
    Patches,
    Report,
    Sparseness,
)
from lrp_fx.evaluate import evaluate as judge
from lrp_fx.visualize import save
from lrp_fx.zoo import LoadedModel, load

IMPUTERS: dict[str, Callable[[int], Imputer]] = {
    "blur": lambda seed: Blur(),
    "mean": lambda seed: Mean(),
    "inpainting": lambda seed: Inpainting(seed=seed),
    "noise": lambda seed: Noise(seed=seed),
}
"""Name → an imputer with a seed."""
PERTURBING: dict[str, type[SRG] | type[MostRelevantFirst] | type[LeastRelevantFirst]]
PERTURBING = {"srg": SRG, "most": MostRelevantFirst, "least": LeastRelevantFirst}
"""Name → a metric that needs an imputer."""
OTHERS: dict[str, Callable[[nn.Module, Patches, int], Metric]] = {
    "focus": lambda model, patches, seed: MosaicFocus(seed=seed),
    "class": lambda model, patches, seed: ClassCorrelation(regions=patches, seed=seed),
    "cascade": lambda model, patches, seed: CascadingRandomisation(
        model=model, regions=patches, seed=seed
    ),
    "independent": lambda model, patches, seed: IndependentRandomisation(
        model=model, regions=patches, seed=seed
    ),
    "sensitivity": lambda model, patches, seed: MaxSensitivity(seed=seed),
    "sparseness": lambda model, patches, seed: Sparseness(),
}
"""Name → a metric of a model, with patches and a seed."""
METRICS = (*PERTURBING, *OTHERS)
DEFAULT = "default"


def evaluate(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders with image files.")],
    composite: Annotated[
        list[str] | None,
        typer.Option(
            help="A name from 'lrp-fx composites'; repeat it to compare. The first is the reference.",
            show_default="the default of the model",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help=f"One of {', '.join(METRICS)}; repeat it.", show_default="srg"),
    ] = None,
    imputer: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What replaces patches: {', '.join(IMPUTERS)}; repeat it.",
            show_default="blur and mean",
        ),
    ] = None,
    top_k: Annotated[
        list[float] | None,
        typer.Option(help="Share of the values that a filter keeps; repeat it.", show_default="1"),
    ] = None,
    grid: Annotated[int, typer.Option(help="Patches along each side of an image.")] = 14,
    steps: Annotated[int, typer.Option(help="In how many steps all patches are replaced.")] = 28,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn at random.")] = 0,
    model: Annotated[
        str, typer.Option(help="efficientnet-lite0, or torchvision/NAME.")
    ] = "efficientnet-lite0",
    weights: Annotated[
        Path | None, typer.Option(help="A plain state dict to use instead of the usual weights.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the scores and the figure.")] = Path(
        "evaluation"
    ),
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, mps, ...")] = "cpu",
) -> None:
    """Judge maps of photographs: do they show what the model uses? The prediction is explained."""
    console, errors = Console(), Console(stderr=True)
    try:
        # what needs no model comes first, so that a wrong name is said at once
        metrics = _checked("metric", metric or ["srg"], METRICS)
        imputers = _checked("imputer", imputer or ["blur", "mean"], tuple(IMPUTERS))
        patches = Patches(grid)
        bootstrap = Bootstrap(seed=seed)
        loaded = load(model, weights)
        move(loaded, device)
        chosen = make_metrics(metrics, imputers, loaded.model, patches, steps, seed)
        methods = make_methods(loaded, composite or [DEFAULT], top_k or [1.0])
        files = find_images(images)
        make_folder(out, "scores")
        inputs = read_all(loaded, files, device)
        targets = predicted(loaded, inputs)
        report = judge(
            loaded.model,
            methods,
            chosen,
            inputs,
            targets,
            samples=[str(file) for file in files],
            bootstrap=bootstrap,
            progress=True,
        )
        console.print(report.table())
        if len(methods) > 1:
            console.print(replace(report.differences(next(iter(methods))), notes=()))
        _write(report, out, console)
    except LRPError as error:
        say_error(errors, error)
        raise typer.Exit(2) from None


def make_metrics(
    names: Sequence[str],
    imputers: Sequence[str],
    model: nn.Module,
    patches: Patches,
    steps: int,
    seed: int,
) -> list[Metric]:
    """The metrics by name; those that replace patches once for each imputer."""
    made: list[Metric] = []
    for name in names:
        if name in PERTURBING:
            made += [
                PERTURBING[name](
                    regions=patches, imputer=IMPUTERS[each](seed), steps=steps, seed=seed
                )
                for each in imputers
            ]
        else:
            made.append(OTHERS[name](model, patches, seed))
    return made


def make_methods(
    loaded: LoadedModel, composites: Sequence[str], top_k: Sequence[float]
) -> dict[str, Explain]:
    """A method for each composite and filter; its name states both."""
    methods: dict[str, Explain] = {}
    for name in composites:
        rules = composite_for(loaded, None if name == DEFAULT else name)
        for share in top_k:
            title = name if share == 1 else f"{name}, top {100 * share:g} %"
            factory = partial(_lrp, rules, share)
            factory(loaded.model)  # a wrong name is an error here
            methods[title] = Explainer(factory, loaded.model)
    return methods


def _lrp(rules: Composite | str | None, top_k: float, model: nn.Module) -> LRPFx:
    return LRPFx(model, rules, top_k=top_k)


def _checked(option: str, names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names, each once.

    Raises:
        OptionError: if one is unknown.
    """
    for name in names:
        check_choice(option, name, known)
    return list(dict.fromkeys(names))


def read_all(loaded: LoadedModel, files: Sequence[Path], device: str) -> Tensor:
    """The photographs as one batch of the model's inputs, (N, C, H, W)."""
    return torch.stack([loaded.preprocess(read_photograph(file)) for file in files]).to(device)


def predicted(loaded: LoadedModel, inputs: Tensor) -> Tensor:
    """The most probable class of each input, (N,)."""
    with torch.no_grad():
        return torch.cat([loaded.model(x[None]).argmax(1) for x in inputs])


def _write(report: Report, out: Path, console: Console) -> None:
    """Write the scores and the figure, and say where they are."""
    report.to_csv(out / "scores.csv")
    say(console, f"scores: {out / 'scores.csv'}")
    try:
        report.to_parquet(out / "scores.parquet")
    except OptionError as error:  # pyarrow is optional
        say(console, f"no scores.parquet: {error}")
    else:
        say(console, f"scores: {out / 'scores.parquet'}")
    save(report.figure(), out / "scores.png")
    say(console, f"figure: {out / 'scores.png'}")
