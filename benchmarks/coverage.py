"""Which models lrp_fx explains, and whether their relevance adds up.

    python benchmarks/coverage.py --results coverage.json --out docs/coverage.md
    python benchmarks/coverage.py --suite timm --only swin_tiny_patch4_window7_224

Each model of the suites in ``harness/suites.py`` runs in a process of its own. The tables say of each
whether it was explained, by which capture, in what time, and where relevance was lost. The suites need
what ``bench`` and ``bench-domains`` install; nothing is downloaded.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from harness.domains import DOMAINS
from harness.suites import SUITES, Sample, parameters_of, sample_of, strongest
from harness.tables import options, put, say, table
from harness.timing import alone, prepared
from torch import Tensor

from lrp_fx import LRPFx
from lrp_fx.capture.captured import Arguments
from lrp_fx.errors import UnsupportedOperationError
from lrp_fx.plan.view import View
from lrp_fx.relevance import UNKNOWN
from lrp_fx.run.ledger import Ledger

CONSERVED = 0.01  # |Σ relevance / output − 1| up to which a sum counts as right
EXPLODED = 100.0  # largest |R| / |output| from which relevance counts as exploded
EXACT = {"float64": 1e-9, "mixed": 1e-6, "float32": 1e-3}
"""How far the two engines may differ, of max |R|, and how far the ledger may stay open at a node, of
Σ |terms|. Some models cast to float32 whatever they are given: "mixed"."""
SLOW = 60.0  # seconds for the first map from which a model is named
MENTIONED = 0.01  # of the output: losses that the page names
SUMMARY = [
    *("suite", "models", "explained", "nodes covered"),
    *("sum right within 1 %", "with CP-LRP", "exploded"),
]
TITLES = {
    "torchvision": "torchvision, classification",
    "timm": "timm, the smallest model of each module",
    "huggingface": "Hugging Face, small configurations",
    "heads": "Segmentation and detection",
    "braindecode": "EEG: braindecode",
    "monai": "Medical images: MONAI",
    "segmentation": "Masks: segmentation-models-pytorch",
    "graphs": "Graphs: PyTorch Geometric",
    "reinforcement": "Policies: stable-baselines3, sb3-contrib",
    "tables": "Tables: rtdl, TabNet, TabM",
    "audio": "Sound: torchaudio, SpeechBrain, asteroid-filterbanks",
    "recommendation": "Recommendation: DeepCTR",
    "clip": "Pictures and words: OpenCLIP",
}


@dataclass(frozen=True)
class Result:
    """What became of one model; relative figures are the worst over the batch."""

    suite: str
    name: str
    error: str = ""
    capture: str = ""
    composite: str = ""
    dtype: str = ""
    parameters: int = 0
    seconds: float = math.nan
    ratio: float = math.nan
    engines: float = math.nan
    again: float = math.nan
    nodes: int = 0
    covered: int = 0
    largest: float = math.nan
    constant_path: float = math.nan
    gap: float = math.nan
    losses: dict[str, float] = field(default_factory=dict)


# --- one model ----------------------------------------------------------------------------------


def measure(suite: str, name: str) -> Result:
    """Build a model, explain it, and compare."""
    result = Result(suite, name)
    try:
        sample = sample_of(suite, name)
        return explained(replace(result, parameters=parameters_of(sample)), sample)
    except Exception as error:
        if "-v" in sys.argv:
            raise
        nodes, covered = counted(sample) if isinstance(error, UnsupportedOperationError) else (0, 0)
        text = f"{type(error).__name__}: {error}"
        return replace(result, error=text, nodes=nodes, covered=covered)


def counted(sample: Sample) -> tuple[int, int]:
    """How many nodes carry relevance, and how many of those have a rule, where some have none."""
    lrp = LRPFx(sample.model, output=sample.output, unknown="vjp")
    steps = [step for step in lrp.plan(*sample.inputs).steps if step.operation is not None]
    return len(steps), sum(step.operation is not UNKNOWN for step in steps)


def explained(result: Result, sample: Sample) -> Result:
    output = sample.outputs()
    targets = strongest(output)
    y = torch.stack([output[i][place] for i, place in enumerate(targets)]).double()

    def attribute(lrp: LRPFx) -> Tensor:
        parts = lrp.attribute(sample.inputs, targets)
        return torch.cat([part.double().flatten(1) for part in parts], 1)

    lrp = LRPFx(sample.model, output=sample.output)
    began = time.perf_counter()
    relevance = attribute(lrp)
    seconds = time.perf_counter() - began
    arguments = Arguments.of(sample.inputs)
    program = lrp._explainer.program(arguments, len(sample.inputs), View())
    capture, composite, *_ = program.plan.notes
    nodes = sum(step.operation is not None for step in program.plan.steps)
    ledger = lrp.audit(sample.inputs, targets)
    casts = output.dtype == torch.float64 and any(
        torch.float32 in (*step.node.args, *step.node.kwargs.values())
        for step in program.plan.steps
    )
    other = LRPFx(sample.model, output=sample.output, propagation="gradient")
    other._explainer._readings = lrp.with_composite(None)._explainer._readings  # not read again
    by_gradient = attribute(other)
    again = attribute(lrp)
    result = replace(
        result,
        capture=capture.removeprefix("capture: "),
        composite=composite.removeprefix("composite: "),
        dtype="mixed" if casts else str(output.dtype).removeprefix("torch."),
        seconds=seconds,
        ratio=worst(relevance.sum(1) / y),
        engines=float((relevance - by_gradient).abs().max() / relevance.abs().max()),
        again=float((relevance - again).abs().max() / relevance.abs().max()),
        nodes=nodes,
        covered=nodes,
        largest=float((relevance.abs().amax(1) / y.abs()).max()),
        gap=unexplained(ledger),
        losses=losses(ledger),
    )
    if "AttnLRP" in composite:
        constant_path = attribute(lrp.with_composite("cp_lrp"))
        result = replace(result, constant_path=worst(constant_path.sum(1) / y))
    return result


def worst(ratios: Tensor) -> float:
    return float(ratios[(ratios - 1).abs().argmax()])


def losses(ledger: Ledger) -> dict[str, float]:
    """What operations took (positive) or made, by cause, as shares of the output; the mean."""
    taken: dict[str, float] = {}
    for entry in ledger.entries:
        for cause, amounts in entry.taken.items():
            shares = [amount / start for amount, start in zip(amounts, ledger.start, strict=True)]
            name = f"{entry.operation} {cause}"
            taken[name] = taken.get(name, 0.0) + sum(shares) / len(shares)
    ranked = sorted(taken.items(), key=lambda item: -abs(item[1]))
    return {name: loss for name, loss in ranked if abs(loss) > MENTIONED}


def unexplained(ledger: Ledger) -> float:
    """The largest gap in the ledger of any node, or of all together, as a share of Σ |terms|."""
    pairs = [
        (abs(gap), size)
        for entry in ledger.entries
        for gap, size in zip(entry.gap, entry.terms, strict=True)
    ]
    whole = [sum(sizes) for sizes in zip(*(entry.terms for entry in ledger.entries), strict=True)]
    pairs += [(abs(gap), size) for gap, size in zip(ledger.gap, whole, strict=True)]
    return max(gap / size for gap, size in pairs if size)


# --- all models ---------------------------------------------------------------------------------


def run_all(jobs: Sequence[tuple[str, str]], timeout: float) -> Iterator[Result]:
    """Each model in its own process, which ends with it."""
    context = prepared()
    for suite, name in jobs:
        try:
            yield alone(measure, suite, name, timeout=timeout, context=context)
        except (TimeoutError, ChildProcessError) as error:
            yield Result(suite, name, error=f"{type(error).__name__}: {error}")


def line(result: Result) -> str:
    """For the terminal."""
    if result.error:
        return f"{result.suite}/{result.name}: {result.error}"
    return f"{result.suite}/{result.name}: {', '.join(cell for cell in row(result)[1:] if cell)}"


# --- the tables ---------------------------------------------------------------------------------


def tables(results: Sequence[Result]) -> Iterator[tuple[str, list[str]]]:
    by_suite = {
        suite: sorted((r for r in results if r.suite == suite), key=lambda r: r.name.lower())
        for suite in SUITES
    }
    by_suite = {suite: mine for suite, mine in by_suite.items() if mine}
    for name, group in (("summary", set(SUITES) - set(DOMAINS)), ("fields", set(DOMAINS))):
        rows = [summary(suite, mine) for suite, mine in by_suite.items() if suite in group]
        if rows:
            yield name, table(SUMMARY, rows, "lrrrrrr")
    head = ["model", "capture", "seconds", "sum", "CP-LRP", "engines", "ledger", "largest"]
    for suite, mine in by_suite.items():
        yield suite, table([*head, "taken by"], list(map(row, mine)), "llrrrrrrl")


def summary(suite: str, results: Sequence[Result]) -> list[str]:
    done = [result for result in results if not result.error]
    known = len(list(SUITES[suite][0]()))
    models = str(known) if len(results) == known else f"{len(results)} run of {known}"
    counts = (
        len(done),
        covered(results),
        sum(near_one(result.ratio) for result in done),
        sum(near_one(result.ratio) or near_one(result.constant_path) for result in done),
        sum(result.largest > EXPLODED for result in done),
    )
    return [TITLES[suite], models, *map(str, counts)]


def covered(results: Sequence[Result]) -> str:
    """How many nodes have a rule; empty for results from before they were counted."""
    nodes = sum(result.nodes for result in results)
    return f"{sum(result.covered for result in results)} of {nodes}" if nodes else ""


def row(result: Result) -> list[str]:
    if result.error:
        text = " ".join(result.error.strip().splitlines()[:2])[:160].replace("|", "/")
        if result.nodes:
            text = f"{result.covered} of {result.nodes} nodes have a rule; {text}"
        return [result.name, "**error**", "", "", "", "", "", "", text]
    lost = ", ".join(f"{name} {loss:+.2g}" for name, loss in list(result.losses.items())[:3])
    return [
        result.name,
        result.capture,
        f"{result.seconds:.1f}",
        figure(result.ratio),
        "" if math.isnan(result.constant_path) else figure(result.constant_path),
        f"{result.engines:.0e}",
        f"{result.gap:.0e}",
        f"{result.largest:.1g}",
        lost,
    ]


def figure(ratio: float) -> str:
    return "1" if abs(ratio - 1) < 5e-4 else f"{ratio:.3g}"


def near_one(ratio: float) -> bool:
    return abs(ratio - 1) <= CONSERVED


def report(results: Sequence[Result]) -> None:
    """What the sentences of the page rest on: engines that differ, ledgers that stay open, dtypes."""
    done = [result for result in results if not result.error]
    apart = [result.name for result in done if result.engines > EXACT[result.dtype]]
    unbalanced = [result.name for result in done if result.gap > EXACT[result.dtype]]
    changed = [result.name for result in done if result.again > EXACT[result.dtype]]
    slow = [f"{result.name} {result.seconds:.0f} s" for result in done if result.seconds > SLOW]
    counts = {dtype: sum(result.dtype == dtype for result in done) for dtype in EXACT}
    say(f"{len(done)} models are explained, {counts}")
    say(f"the engines differ on {', '.join(apart) or 'none'}")
    say(f"a second call differs on {', '.join(changed) or 'none'}")
    say(f"the first map takes longer than {SLOW:.0f} s on {', '.join(slow) or 'none'}")
    say(f"the ledger stays open on {', '.join(unbalanced) or 'none'}")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--suite", choices=[*SUITES, "all"], default="all")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these models only")
    parser.add_argument("--missing", action="store_true", help="only those not in --results yet")
    parser.add_argument("-v", action="store_true", help="end at the first error, in this process")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for each model")
    parser.add_argument(
        "--results", type=Path, help="JSON file: read first, so that runs can be pieced together"
    )
    settings = parser.parse_args()
    known: dict[tuple[str, str], Result] = {}
    if settings.results is not None and settings.results.exists():
        for entry in json.loads(settings.results.read_text()):
            known[entry["suite"], entry["name"]] = Result(**entry)
    suites = list(SUITES) if settings.suite == "all" else [settings.suite]
    jobs = [(suite, name) for suite in suites for name in SUITES[suite][0]()]
    if settings.missing:
        jobs = [job for job in jobs if job not in known or known[job].error]
    if settings.only:
        jobs = [job for job in jobs if job[1] in settings.only]
    here = (measure(suite, name) for suite, name in jobs)
    for result in here if settings.v else run_all(jobs, settings.timeout):
        say(line(result))
        known[result.suite, result.name] = result
        if settings.results is not None:
            part = settings.results.with_suffix(".part")
            part.write_text(json.dumps([asdict(each) for each in known.values()]))
            part.replace(settings.results)
    report(list(known.values()))
    put(settings.out, "coverage", dict(tables(list(known.values()))))


if __name__ == "__main__":
    main()
