"""The commands ``lrp-fx batch`` and ``lrp-fx merge``: explain a data set, and join its shards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lrp_fx import ConceptLRPFx, LRPFx
from lrp_fx.cli.methods import composite_for, keywords_of
from lrp_fx.cli.models import open_model
from lrp_fx.cli.options import Composite, ModelOptions, RuleOptions, TalkOptions
from lrp_fx.cli.talk import INTERRUPTED, SOME_FAILED, Talk, shown
from lrp_fx.dataset import Run, attribute_dataset, merge as join
from lrp_fx.errors import TargetError


def batch(
    data: Annotated[
        str,
        typer.Argument(
            help="A folder of images, a manifest (.csv, .tsv, .parquet), shards (.tar, "
            "'x-{000..123}.tar'), or an array (.npy, .h5, .zarr).",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run.", show_default=False)],
    model: ModelOptions,
    rules: RuleOptions,
    talk: TalkOptions,
    composite: Composite = None,
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
    retry: Annotated[
        bool, typer.Option(help="Explain parts again that failed, or whose files changed.")
    ] = False,
    engine: Annotated[str, typer.Option(help="'local', or 'ray' for Ray Data.")] = "local",
    explainers: Annotated[int, typer.Option(help="With --engine ray: how many actors.")] = 1,
    address: Annotated[
        str | None,
        typer.Option(help="With --engine ray: the address of the cluster.", show_default="local"),
    ] = None,
) -> None:
    """Explain a whole data set: relevance in Zarr, a table in Parquet, nothing lost.

    The same command continues a run that ended early.

    Exit code: 0 all well, 1 some samples failed, 2 wrong usage, 130 interrupted.

    Examples:
      lrp-fx batch photos/ --out run
      lrp-fx batch labels.csv --out run --target label --keep channel_sums
      lrp-fx batch photos/ --out run --shard 0/4
    """
    voice = Talk(talk)
    with voice.usage():
        loaded = open_model(model, voice)
        kind = ConceptLRPFx if keep == "concepts" else LRPFx
        lrp = kind(loaded.model, composite_for(loaded, composite), **keywords_of(rules))
        try:
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
                progress=voice.bars and sys.stderr.isatty(),
                engine=engine,
                explainers=explainers,
                address=address,
            )
        except KeyboardInterrupt as error:
            voice.failure(str(error) or "interrupted: run the same command again to continue")
            raise typer.Exit(INTERRUPTED) from None
    if run is None:
        voice.result(f"shard {shard} is done; when all are: lrp-fx merge {shown(out)}")
        voice.document({"command": "batch", "out": str(out), "shard": shard})
        return
    _tell("batch", voice, out, run)


def merge(
    out: Annotated[Path, typer.Argument(help="Folder of the run.", show_default=False)],
    talk: TalkOptions,
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Folders with other parts of the same run.")
    ] = None,
) -> None:
    """Join the shards of a run into one table.

    Exit code: 0 all well, 1 some samples failed, 2 wrong usage.

    Examples:
      lrp-fx merge run
      lrp-fx merge run node1/run node2/run
    """
    voice = Talk(talk)
    with voice.usage():
        run = join(out, sources or ())
    _tell("merge", voice, out, run)


def _tell(command: str, voice: Talk, out: Path, run: Run) -> None:
    voice.result(str(run))
    voice.document({"command": command, "out": str(out), "samples": len(run), "failed": run.failed})
    if run.failed:
        raise typer.Exit(SOME_FAILED)


def _target(text: str) -> str | int:
    """The target: a word, or the index of a class."""
    if text in ("predicted", "label"):
        return text
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise TargetError(f"--target must be 'predicted', 'label' or an index, got {text!r}")
    return int(text)
