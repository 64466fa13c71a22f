"""The command ``lrp-fx search``: which rules give the best maps of a model?"""

from pathlib import Path
from typing import Annotated

import typer

from lrp_fx._common import check_choice, write_whole
from lrp_fx.cli.evaluation import IMPUTERS, PERTURBING, predicted, read_all
from lrp_fx.cli.files import make_folder
from lrp_fx.cli.inputs import MADE, find_images
from lrp_fx.cli.models import open_model
from lrp_fx.cli.options import Images, ModelOptions, TalkOptions
from lrp_fx.cli.talk import Talk, shown
from lrp_fx.errors import InputError
from lrp_fx.evaluate import Bootstrap, Patches, SearchResult, Space, search as find
from lrp_fx.visualize import save


def search(
    images: Images,
    model: ModelOptions,
    talk: TalkOptions,
    metric: Annotated[
        str, typer.Option(help=f"What is improved: {', '.join(PERTURBING)}.")
    ] = "srg",
    imputer: Annotated[
        str, typer.Option(help=f"What replaces patches: {', '.join(IMPUTERS)}.")
    ] = "blur",
    trials: Annotated[int, typer.Option(help="Candidates to try besides the presets.")] = 30,
    held_out: Annotated[
        float, typer.Option(help="Share of the images that are held out to judge.")
    ] = 0.5,
    grid: Annotated[int, typer.Option(help="Patches along each side of an image.")] = 14,
    steps: Annotated[int, typer.Option(help="In how many steps all patches are replaced.")] = 28,
    seed: Annotated[int, typer.Option(help="The seed of everything that is drawn at random.")] = 0,
    out: Annotated[
        Path, typer.Option(help="Folder for the result. The same call continues where it stopped.")
    ] = Path("search"),
) -> None:
    """Search the rules, the filter and the start with the best maps of photographs.

    Exit code: 0 all well, 2 wrong usage, or an image that cannot be read.

    Examples:
      lrp-fx search photos/ --trials 30
      lrp-fx search photos/ --metric srg --imputer mean --out search
    """
    voice = Talk(talk)
    with voice.usage():
        check_choice("metric", metric, tuple(PERTURBING))
        check_choice("imputer", imputer, tuple(IMPUTERS))
        judge = PERTURBING[metric](
            regions=Patches(grid), imputer=IMPUTERS[imputer](seed), steps=steps, seed=seed
        )
        files = find_images(images)
        loaded = open_model(model, voice)
        make_folder(out, "the result")
        inputs = read_all(loaded, files)
        targets = predicted(loaded, inputs)
        result = find(
            loaded.model,
            inputs,
            targets,
            judge,
            trials=trials,
            seed=seed,
            space=Space() if loaded.bounds is None else Space(bounds=loaded.bounds),
            held_out=held_out,
            storage=out / "search.db",
            bootstrap=Bootstrap(seed=seed),
            progress=voice.bars,
        )
        voice.say(str(result))
        written = _write(result, out, voice)
    voice.document(
        {"command": "search", "files": list(map(str, written)), "code": result.best.code}
    )


def _write(result: SearchResult, out: Path, voice: Talk) -> list[Path]:
    """Write the scores, the code and the figure, and say where they are."""
    # the figure is not a photograph of a later call, also in their folder
    places = {
        "scores": out / "scores.csv",
        "code": out / "best.py",
        "figure": out / f"search{MADE}.png",
    }
    result.held_out.to_csv(places["scores"])
    write_whole(places["code"], (result.best.code + "\n").encode(), InputError)
    save(result.figure(), places["figure"])
    for what, path in places.items():
        voice.result(f"{what}: {shown(path)}")
    return list(places.values())
