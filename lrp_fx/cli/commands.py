"""The commands of ``lrp-fx``, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from lrp_fx._common import __version__
from lrp_fx.cli.app import app as serve_page
from lrp_fx.cli.audit import audit
from lrp_fx.cli.batch import batch, merge
from lrp_fx.cli.compare import compare
from lrp_fx.cli.composites import composites
from lrp_fx.cli.evaluation import evaluate
from lrp_fx.cli.explain import explain
from lrp_fx.cli.explain_text import explain_text
from lrp_fx.cli.export import export
from lrp_fx.cli.options import flat
from lrp_fx.cli.plan import plan
from lrp_fx.cli.rule_search import search

COMMANDS: dict[str, Callable[..., None]] = {
    "explain": explain,
    "compare": compare,
    "explain-text": explain_text,
    "plan": plan,
    "audit": audit,
    "export": export,
    "composites": composites,
    "evaluate": evaluate,
    "search": search,
    "batch": batch,
    "merge": merge,
    "app": serve_page,
}
"""Name → function, in the order of ``lrp-fx --help``."""

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False)
for _name, _command in COMMANDS.items():
    app.command(_name)(flat(_command))


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
    """Layer-wise relevance propagation: what a network looked at.

    Start with: lrp-fx explain PHOTOGRAPH. Each command has examples: lrp-fx explain --help.
    """
