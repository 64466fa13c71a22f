"""Which maps a change of the library changes, over all models of ``benchmarks/coverage.py``.

Save the maps with one checkout, then compare with another:

    PYTHONPATH=../before python benchmarks/map_changes.py save maps/
    python benchmarks/map_changes.py compare maps/

A map is the relevance of the inputs. The composite is named, so that another default is no change of
the maps. Models and inputs are those of the coverage benchmark, made anew from the same seed; each
model runs in a process of its own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from harness.suites import SUITES, sample_of, strongest
from harness.tables import say
from harness.timing import alone, prepared
from torch import Tensor

import lrp_fx

TIMEOUT = 900  # seconds for each model
SAME = {torch.float64: 1e-9, torch.float32: 1e-3}
"""Of max |R|: by how much rounding may change a map, by the dtype of the model's output."""


def explain(suite: str, name: str, composite: str) -> tuple[Tensor, torch.dtype]:
    """The relevance of all inputs, (N, entries), and the dtype of the output."""
    sample = sample_of(suite, name)
    output = sample.outputs()
    lrp = lrp_fx.LRPFx(sample.model, composite, output=sample.output)
    parts = lrp.attribute(sample.inputs, strongest(output))
    return torch.cat([part.double().flatten(1) for part in parts], 1), output.dtype


def save(file: Path, suite: str, name: str, composite: str) -> None:
    try:
        found: object = explain(suite, name, composite)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    torch.save(found, file)


def compare(file: Path, suite: str, name: str, composite: str) -> None:
    before = torch.load(file, weights_only=False)
    try:
        after, dtype = explain(suite, name, composite)
    except Exception as error:
        same = isinstance(before, str)
        print(f"{'still' if same else 'NOW'} refused  {suite}/{name}: {error}"[:300], flush=True)
        return
    if isinstance(before, str):
        print(f"now explained  {suite}/{name}", flush=True)
        return
    was, _ = before
    change = float((after - was).abs().max() / was.abs().max())
    word = "same   " if change <= SAME.get(dtype, 1e-3) else "CHANGED"
    print(f"{word} {change:.1e}  {suite}/{name}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["save", "compare"])
    parser.add_argument("directory", type=Path, help="where the maps are")
    parser.add_argument("--suite", choices=[*SUITES, "all"], default="all")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these models only")
    parser.add_argument(
        "--composite", default="attn_lrp", help="attn_lrp has a rule for every model"
    )
    options = parser.parse_args()
    context = prepared()
    print(f"lrp_fx of {Path(lrp_fx.__file__).parent}")
    options.directory.mkdir(parents=True, exist_ok=True)
    work = {"save": save, "compare": compare}[options.what]
    for suite, (names, _) in SUITES.items():
        for name in names() if options.suite in (suite, "all") else ():
            file = options.directory / f"{suite}-{name.replace('/', '-')}.pt"
            if options.only and name not in options.only:
                continue
            if file.exists() == (options.what == "save"):
                continue
            try:
                alone(
                    *(work, file, suite, name, options.composite),
                    timeout=TIMEOUT,
                    context=context,
                )
            except (TimeoutError, ChildProcessError) as error:
                say(f"{suite}/{name}: {error}")


if __name__ == "__main__":
    main()
