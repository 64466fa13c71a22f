"""Which maps a change of the library changes, over all models of ``benchmarks/coverage.py``.

Save the maps with one checkout, then compare with another:

    PYTHONPATH=../before python benchmarks/map_changes.py save maps/
    python benchmarks/map_changes.py compare maps/

A map is the relevance of the inputs. The composite is named, so that another default is no change of
the maps. Models and inputs are those of the coverage benchmark, made anew from the same seed; each
model runs in a process of its own. ``--small`` takes one sample, and images as small as the model
does. A run goes on where an earlier one ended: the maps and the verdicts are files of the folder.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from harness.suites import SUITES, sample_of, strongest
from harness.tables import say
from harness.timing import alone, prepared
from torch import Tensor

import lrp_fx

SAME = {torch.float64: 1e-9, torch.float32: 1e-3}
"""Of max |R|: by how much rounding may change a map, by the dtype of the model's output."""


def explain(suite: str, name: str, composite: str, small: bool) -> tuple[Tensor, torch.dtype]:
    """The relevance of all inputs, (N, entries), and the dtype of the output."""
    sample = sample_of(suite, name, small=small)
    output = sample.outputs()
    lrp = lrp_fx.LRPFx(sample.model, composite, output=sample.output)
    parts = lrp.attribute(sample.inputs, strongest(output))
    return torch.cat([part.double().flatten(1) for part in parts], 1), output.dtype


def save(file: Path, suite: str, name: str, composite: str, small: bool) -> str:
    try:
        found: object = explain(suite, name, composite, small)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    torch.save(found, file)
    return f"refused: {found}" if isinstance(found, str) else "saved"


def compare(file: Path, suite: str, name: str, composite: str, small: bool) -> str:
    verdict = compared(torch.load(file, weights_only=False), suite, name, composite, small)
    verdict_of(file).write_text(verdict)
    return verdict


def compared(before: object, suite: str, name: str, composite: str, small: bool) -> str:
    try:
        after, dtype = explain(suite, name, composite, small)
    except Exception as error:
        return f"{'still' if isinstance(before, str) else 'NOW'} refused: {error}"
    if not isinstance(before, tuple):
        return f"now explained; before: {before}"
    was, _ = before
    change = float((after - was).abs().max() / was.abs().max())
    word = "same" if change <= SAME.get(dtype, 1e-3) else "CHANGED"
    return f"{word} {change:.1e} {dtype}"


def verdict_of(file: Path) -> Path:
    return file.with_suffix(".txt")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["save", "compare"])
    parser.add_argument("directory", type=Path, help="where the maps are")
    parser.add_argument("--suite", choices=[*SUITES, "all"], default="all")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these models only")
    parser.add_argument(
        "--composite", default="attn_lrp", help="attn_lrp has a rule for every model"
    )
    parser.add_argument("--small", action="store_true", help="one sample, small images")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for each model")
    options = parser.parse_args()
    context = prepared()
    print(f"lrp_fx of {Path(lrp_fx.__file__).parent}")
    options.directory.mkdir(parents=True, exist_ok=True)
    work = {"save": save, "compare": compare}[options.what]
    for suite, (names, _) in SUITES.items():
        for name in names() if options.suite in (suite, "all") else ():
            file = options.directory / f"{suite}-{name.replace('/', '-')}.pt"
            done = file if options.what == "save" else verdict_of(file)
            if (options.only and name not in options.only) or done.exists():
                continue
            if options.what == "compare" and not file.exists():
                continue
            began = time.perf_counter()
            try:
                said = alone(
                    *(work, file, suite, name, options.composite, options.small),
                    timeout=options.timeout,
                    context=context,
                )
            except (TimeoutError, ChildProcessError) as error:
                said = str(error)
            say(f"{said[:300]}  {suite}/{name}, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
