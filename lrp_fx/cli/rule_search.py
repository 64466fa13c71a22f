"""The command ``lrp-fx search``: which rules give the best maps of a model?"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lrp_fx._checks import check_choice
from lrp_fx.cli.evaluation import IMPUTERS, PERTURBING, predicted, read_all
from lrp_fx.cli.shared import PICTURE, find_images, make_folder, move, say, say_error
from lrp_fx.errors import LRPError
from lrp_fx.evaluate import Bootstrap, Patches, SearchResult, Space
from lrp_fx.evaluate import search as find
from lrp_fx.visualize import save
from lrp_fx.zoo import load


def search(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders with image files.")],
    metric: Annotated[
        str, typer.Option(help=f"What is improved: {', '.join(PERTURBING)}.")
    ] = "srg",
    imputer: Annotated[
        str, typer.Option(help=f"What replaces patches: {', '.join(IMPUTERS)}.")
    ] = "blur",
    trials: Annotated[int, typer.Option(help="Candidates to try besides the presets.")] = 30,
    held_out: Annotated[float, typer.Option(help="Share of the images that only judge.")] = 0.5,
    grid: Annotated[int, typer.Option(help="Patches along each side of an image.")] = 14,
    steps: Annotated[int, typer.Option(help="In how many steps all patches are replaced.")] = 28,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn at random.")] = 0,
    model: Annotated[
        str, typer.Option(help="efficientnet-lite0, or torchvision/NAME.")
    ] = "efficientnet-lite0",
    weights: Annotated[
        Path | None, typer.Option(help="A plain state dict to use instead of the usual weights.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for the result. The same call goes on where it stopped.")
    ] = Path("search"),
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, mps, ...")] = "cpu",
) -> None:
    """Search the rules, the filter and the start with the best maps of photographs."""
    console, errors = Console(), Console(stderr=True)
    try:
        check_choice("metric", metric, tuple(PERTURBING))
        check_choice("imputer", imputer, tuple(IMPUTERS))
        judge = PERTURBING[metric](
            regions=Patches(grid), imputer=IMPUTERS[imputer](seed), steps=steps, seed=seed
        )
        files = find_images(images)
        loaded = load(model, weights)
        move(loaded, device)
        make_folder(out, "the result")
        low, high = loaded.bounds
        inputs = read_all(loaded, files, device)
        targets = predicted(loaded, inputs)
        result = find(
            loaded.model,
            inputs,
            targets,
            judge,
            trials=trials,
            seed=seed,
            space=Space(bounds=(low, high)),
            held_out=held_out,
            storage=out / "search.db",
            bootstrap=Bootstrap(seed=seed),
            progress=True,
        )
        say(console, str(result))
        _write(result, out, console)
    except LRPError as error:
        say_error(errors, error)
        raise typer.Exit(2) from None


def _write(result: SearchResult, out: Path, console: Console) -> None:
    """Write the scores, the code and the figure, and say where they are."""
    result.held_out.to_csv(out / "scores.csv")
    (out / "best.py").write_text(result.best.code + "\n", encoding="utf-8")
    figure = f"search{PICTURE}"  # it is no photograph of a later call, also in their folder
    save(result.figure(), out / figure)
    for what, name in (("scores", "scores.csv"), ("code", "best.py"), ("figure", figure)):
        say(console, f"{what}: {out / name}")
