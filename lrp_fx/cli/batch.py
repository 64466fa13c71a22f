"""The commands ``lrp-fx batch`` and ``lrp-fx merge``: explain a data set, and join its shards."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lrp_fx import ConceptLRPFx, LRPFx
from lrp_fx.cli.shared import composite_for, move, say, say_error
from lrp_fx.dataset import Run, attribute_dataset
from lrp_fx.dataset import merge as join
from lrp_fx.errors import LRPError, TargetError
from lrp_fx.relevance import FilterBy
from lrp_fx.zoo import load

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended."""


def batch(
    data: Annotated[
        str,
        typer.Argument(
            help="A folder of images, a manifest (.csv, .tsv, .parquet), shards (.tar, "
            "'x-{000..123}.tar'), or an array (.npy, .h5, .zarr)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
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
        float, typer.Option(help="Keep this share of the relevance values before each layer.")
    ] = 1.0,
    filter_by: Annotated[
        FilterBy, typer.Option(help="The filter keeps the largest 'value' or 'magnitude'.")
    ] = "value",
    target: Annotated[
        str, typer.Option(help="'predicted', 'label', or the index of a class.")
    ] = "predicted",
    keep: Annotated[
        str, typer.Option(help="'maps', 'channel_sums', 'concepts' (with --layer), or 'summary'.")
    ] = "maps",
    layer: Annotated[
        list[str] | None, typer.Option(help="A layer whose channels are concepts; repeat it.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="'float32' or 'float16'; the table states the error.")
    ] = "float32",
    key: Annotated[
        str | None, typer.Option(help="The array in an HDF5 file or Zarr store.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Samples at once; halved on out-of-memory.", show_default="16"),
    ] = None,
    part_size: Annotated[
        int | None, typer.Option(help="Samples committed at once.", show_default="64")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that read and decode.")] = 0,
    shard: Annotated[
        str | None,
        typer.Option(
            help="'i/n' for one of n processes (i from 0), or 'auto' in torchrun and SLURM."
        ),
    ] = None,
    retry: Annotated[bool, typer.Option(help="Explain again what failed.")] = False,
    engine: Annotated[str, typer.Option(help="'local', or 'ray' for Ray Data.")] = "local",
    explainers: Annotated[int, typer.Option(help="With --engine ray: how many actors.")] = 1,
    address: Annotated[
        str | None, typer.Option(help="With --engine ray: of the cluster.", show_default="local")
    ] = None,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, mps, ...")] = "cpu",
) -> None:
    """Explain a whole data set: relevance in Zarr, a table in Parquet, nothing lost.

    A run that ended early goes on if the same command is run again.
    """
    console, errors = Console(), Console(stderr=True)
    try:
        loaded = load(model, weights)
        move(loaded, device)
        rules = composite_for(loaded, composite)
        kind = ConceptLRPFx if keep == "concepts" else LRPFx
        lrp = kind(loaded.model, rules, top_k=top_k, filter_by=filter_by)
        run = attribute_dataset(
            lrp,
            data,
            out,
            target=_target(target),
            preprocess=loaded.preprocess,
            key=key,
            keep=keep,
            layers=layer or (),
            dtype=dtype,
            batch_size=batch_size,
            part_size=part_size,
            workers=workers,
            shard=shard,
            retry=retry,
            progress=sys.stderr.isatty(),
            engine=engine,
            explainers=explainers,
            address=address,
        )
    except LRPError as error:
        say_error(errors, error)
        raise typer.Exit(2) from None
    except KeyboardInterrupt as error:
        say(errors, str(error) or "interrupted: run the same again to go on")
        raise typer.Exit(INTERRUPTED) from None
    if run is None:
        say(console, f"shard {shard} is done; when all are: lrp-fx merge {out}")
        return
    _tell(console, run)


def merge(
    out: Annotated[Path, typer.Argument(help="Folder of the run.")],
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Folders with other parts of the same run.")
    ] = None,
) -> None:
    """Join the shards of a run into one table."""
    console, errors = Console(), Console(stderr=True)
    try:
        run = join(out, sources or ())
    except LRPError as error:
        say_error(errors, error)
        raise typer.Exit(2) from None
    _tell(console, run)


def _tell(console: Console, run: Run) -> None:
    say(console, str(run))
    if run.failed:
        raise typer.Exit(1)


def _target(text: str) -> str | int:
    """The target: a word, or the index of a class."""
    if text in ("predicted", "label"):
        return text
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise TargetError(f"--target must be 'predicted', 'label' or an index, got {text!r}")
    return int(text)
