"""The same models in other words: whose maps stay?

Each spelling of ``tests/helpers/spellings.py`` by itself in a small model, explained before and after by
this library, zennit, Captum's LRP and AttnLRP in the form in which LXT publishes it. The table goes
between the markers of the page:

    python benchmarks/rewrites.py --out docs/one_map.md

Every tool runs with ε ≤ 1e-9, so that a stabilizer is never the difference.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from harness import contestants
from harness.tables import options, put
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.helpers.held import relevance_by_hand
from tests.helpers.rewrites import (
    TARGET,
    Case,
    Program,
    every_case,
    explained,
    network,
    same_function,
)
from tests.helpers.spellings import EXCEPT_ZERO

KEPT = 1e-5  # of max |R|: rounding, and ε ≤ 1e-9 amplified by small denominators
EPS = 1e-9


def by_zennit(model: nn.Module, x: Tensor) -> Tensor:
    """Its preset ``EpsilonPlus``, with its canonizer for batch norms."""
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import EpsilonPlus

    x = x.clone().requires_grad_()
    composite = EpsilonPlus(epsilon=EPS, canonizers=[SequentialMergeBatchNorm()])
    with composite.context(model) as modified:
        y = modified(x)
        one_hot = torch.zeros_like(y)
        one_hot[:, TARGET] = y[:, TARGET].detach()
        return torch.autograd.grad(y, x, one_hot)[0]


def by_captum(model: nn.Module, x: Tensor) -> Tensor:
    """Its LRP with its default rules, ε everywhere."""
    return contestants.by_captum(None, model, TARGET)(x)


def by_attnlrp(model: nn.Module, x: Tensor) -> Tensor:
    """AttnLRP as LXT publishes it: input × a gradient with factors held (``tests/helpers/held.py``)."""
    return relevance_by_hand(model, x, TARGET, lambda y: y)


@dataclass(frozen=True)
class Tool:
    """A column: who explains, and under which preset's terms a spelling counts as the same."""

    name: str
    explain: Callable[[nn.Module, Tensor], Tensor]
    terms: str


TOOLS = (
    Tool("lrp_fx, `zero`", explained("zero"), "zero"),
    Tool("lrp_fx, `epsilon_plus`", explained("epsilon_plus"), "epsilon_plus"),
    Tool("lrp_fx, `attn_lrp`", explained("attn_lrp"), "attn_lrp"),
    Tool("zennit, `EpsilonPlus`", by_zennit, "epsilon_plus"),
    Tool("Captum, `LRP`", by_captum, "epsilon"),
    Tool("AttnLRP as LXT has it", by_attnlrp, "attn_lrp"),
)


@cache
def map_of(tool: Tool, program: Program) -> Tensor | str:
    """The map, or the kind of the error."""
    try:
        return tool.explain(network(program), program.input()).detach()
    except Exception as error:
        return type(error).__name__


def outcome(tool: Tool, case: Case) -> float | str | None:
    """How far off the rewritten model's map is, of max |R|; or why there is none; None: not meant."""
    excepted = EXCEPT_ZERO in case.kinds()
    rewritten = case.rewritten("zero" if excepted else tool.terms)
    if rewritten == case.program:  # the rules differ on purpose: a dense layer is no convolution
        return None
    before, after = map_of(tool, case.program), map_of(tool, rewritten)
    if isinstance(before, str):
        return "not run"
    if isinstance(after, str):
        return "refused"
    largest = float(before.abs().max()) or 1.0  # a map of zeros stays one
    off = float((after - before).abs().max()) / largest
    return "NaN" if math.isnan(off) else off


def in_words(outcomes: list[float | str]) -> str:
    """``17 of 20 (2.1)``: how many keep their map, and the largest deviation of the others."""
    if set(outcomes) <= {"not run"}:
        return "–"
    off = [each for each in outcomes if isinstance(each, float) and each > KEPT]
    kept = sum(isinstance(each, float) and each <= KEPT for each in outcomes)
    words = [f"{kept} of {len(outcomes)}"]
    words += [f"off by {max(off):.2g}"] if off else []
    for why in ("NaN", "refused", "not run"):
        count = outcomes.count(why)
        words += [f"{count} {why}"] if count else []
    return ", ".join(words)


def table() -> list[str]:
    results: dict[str, dict[str, list[float | str]]] = defaultdict(lambda: defaultdict(list))
    left: list[str] = []
    for name, case in every_case():
        assert same_function(case), name
        (kind,) = case.kinds()
        for tool in TOOLS:
            found = outcome(tool, case)
            if found is None:
                continue
            results[kind][tool.name].append(found)
            ours = tool.name.startswith("lrp_fx") and not (
                kind == EXCEPT_ZERO and tool.terms != "zero"
            )
            if ours and not (isinstance(found, float) and found <= KEPT):
                words = found if isinstance(found, str) else f"{found:.2g}"
                left.append(f"{name} ({tool.terms}): {words}")
    lines = ["| rewrites | " + " | ".join(tool.name for tool in TOOLS) + " |"]
    lines.append("|---|" + "---|" * len(TOOLS))
    for kind, row in results.items():
        lines.append(f"| {kind} | " + " | ".join(in_words(row[t.name]) for t in TOOLS) + " |")
    totals = [[each for row in results.values() for each in row[t.name]] for t in TOOLS]
    kept = [sum(isinstance(e, float) and e <= KEPT for e in each) for each in totals]
    shares = [f"{n} of {len(each)}" for n, each in zip(kept, totals, strict=True)]
    lines.append("| **together** | " + " | ".join(f"**{each}**" for each in shares) + " |")
    for each in left:
        print("not kept by lrp_fx:", each, flush=True)
    return lines


def main() -> None:
    settings = options(__doc__).parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    put(settings.out, "rewrites", {"": table()})


if __name__ == "__main__":
    main()
