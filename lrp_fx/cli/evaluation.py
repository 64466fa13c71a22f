"""The command ``lrp-fx evaluate``: are the maps good?"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx._common import check_choice
from lrp_fx.cli.explained import input_of
from lrp_fx.cli.files import make_folder
from lrp_fx.cli.inputs import MADE, Sample, find_images
from lrp_fx.cli.methods import composite_for
from lrp_fx.cli.models import open_model
from lrp_fx.cli.options import Composites, Images, ModelOptions, Out, TalkOptions
from lrp_fx.cli.photographs import open_photograph
from lrp_fx.cli.talk import Talk, shown
from lrp_fx.composites import Composite
from lrp_fx.errors import InputError, OptionError
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
    evaluate as judge,
)
from lrp_fx.visualize import save
from lrp_fx.zoo import LoadedModel

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
    images: Images,
    model: ModelOptions,
    talk: TalkOptions,
    composite: Composites = None,
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
    seed: Annotated[int, typer.Option(help="The seed of everything that is drawn at random.")] = 0,
    out: Out = Path("evaluation"),
) -> None:
    """Judge maps of photographs: do they show what the model uses? The prediction is explained.

    With several composites, the first is the one that the others are compared with.

    Exit code: 0 all well, 2 wrong usage, or an image that cannot be read.

    Examples:
      lrp-fx evaluate photos/
      lrp-fx evaluate photos/ --composite epsilon_plus --composite epsilon --metric srg
      lrp-fx evaluate photos/ --top-k 1 --top-k 0.05 --imputer blur --json
    """
    voice = Talk(talk)
    with voice.usage():
        # what needs no model comes first, so that a wrong name is said at once
        metrics = _checked("metric", metric or ["srg"], METRICS)
        imputers = _checked("imputer", imputer or ["blur", "mean"], tuple(IMPUTERS))
        patches = Patches(grid)
        bootstrap = Bootstrap(seed=seed)
        loaded = open_model(model, voice)
        chosen = make_metrics(metrics, imputers, loaded.model, patches, steps, seed)
        methods = make_methods(loaded, composite or [DEFAULT], top_k or [1.0])
        files = find_images(images)
        make_folder(out, "scores")
        inputs = read_all(loaded, files)
        targets = predicted(loaded, inputs)
        report = judge(
            loaded.model,
            methods,
            chosen,
            inputs,
            targets,
            samples=[str(file) for file in files],
            bootstrap=bootstrap,
            progress=voice.bars,
        )
        voice.show(report.table())
        if len(methods) > 1:
            voice.show(replace(report.differences(next(iter(methods))), notes=()))
        written = _write(report, out, voice)
    voice.document(
        {
            "command": "evaluate",
            "files": [str(path) for path in written],
            "scores": [
                {
                    "method": each.method,
                    "metric": each.metric,
                    "sample": each.sample,
                    "score": each.value,
                }
                for each in report.rows()
            ],
        }
    )


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


def read_all(loaded: LoadedModel, files: Sequence[Path]) -> Tensor:
    """The photographs as one batch of the model's inputs, (N, C, H, W), on its device.

    Raises:
        InputError: if one cannot be read, or they are not all of one size for the model.
    """
    inputs = [input_of(loaded, Sample(file, open_photograph(file).image)) for file in files]
    for file, x in zip(files, inputs, strict=True):
        if x.shape != inputs[0].shape:
            raise InputError(
                f"the model gets {tuple(inputs[0].shape[1:])} values of {shown(files[0])}, but "
                f"{tuple(x.shape[1:])} of {shown(file)}: pass --resize and --crop"
            )
    return torch.cat(inputs)


def predicted(loaded: LoadedModel, inputs: Tensor) -> Tensor:
    """The most probable class of each input, (N,).

    Raises:
        InputError: if the model is not a classifier.
    """
    with torch.no_grad():
        scores = torch.cat([loaded.model(x[None]) for x in inputs])
    if scores.ndim != 2:
        raise InputError(
            f"only classifiers are judged, and the output of {loaded.name} is {tuple(scores.shape)}"
        )
    return scores.argmax(1)


def _write(report: Report, out: Path, voice: Talk) -> list[Path]:
    """Write the scores and the figure, and say where they are."""
    written = [out / "scores.csv"]
    report.to_csv(written[0])
    voice.result(f"scores: {shown(written[0])}")
    try:
        report.to_parquet(out / "scores.parquet")
    except OptionError as error:  # pyarrow is optional
        voice.say(f"no scores.parquet: {error}")
    else:
        written.append(out / "scores.parquet")
        voice.result(f"scores: {shown(written[1])}")
    # the figure is not a photograph of a later call, also in their folder
    written.append(save(report.figure(), out / f"scores{MADE}.png"))
    voice.result(f"figure: {shown(written[-1])}")
    return written
