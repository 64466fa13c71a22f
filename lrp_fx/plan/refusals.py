"""Plans that are refused: operations without a rule, computed weights, outputs without relevance."""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx

from lrp_fx.errors import CaptureError, InputError, UnsupportedOperationError
from lrp_fx.graph import ancestors, arguments, draws, is_size, name_of, packet_of, where
from lrp_fx.meaning import Analysis
from lrp_fx.plan.plan import Step
from lrp_fx.plan.unknown import ASKED, Unknown
from lrp_fx.relevance import UNKNOWN, is_linear


def without_relevance(explained: fx.Node, facts: Analysis) -> InputError:
    """The error for a value from which no relevance reaches the inputs. It names where that ends."""
    below = ancestors(explained)
    ends = [
        node
        for node in explained.graph.nodes
        if node in below
        and node.op == "call_function"
        and not (facts.is_dynamic(node) or is_size(node))
        and any(map(facts.is_dynamic, node.all_input_nodes))
    ]
    lines = dict.fromkeys(f"  {name_of(node)} {where(node)}" for node in ends)
    found = [
        "Relevance ends at these operations, which only compare or count values, find their positions, "
        "or use them as indices:",
        *lines,
        "Write them with operations that pass it on (docs/operations.md), or explain a layer above them: "
        "LayerLRPFx(model, layer).",
    ]
    return InputError(
        "\n".join(
            [
                f"the explained value '{explained.name}' does not depend on the explained inputs, or "
                "only through shapes, comparisons and positions, which carry no relevance",
                *(found if ends else ()),
            ]
        )
    )


def refuse_random(explained: fx.Node) -> None:
    """Refuse a value that depends on random numbers: its explanation would differ from call to call.

    Raises:
        CaptureError: if the model draws the numbers in eval mode.
    """
    found = [node for node in ancestors(explained) if draws(node)]
    lines = dict.fromkeys(f"\n  {name_of(node)} {where(node)}" for node in found)
    if lines:
        raise CaptureError(
            f"the explained value '{explained.name}' is random in eval mode, so there is no single value "
            f"to explain.{''.join(lines)}\nLet randomness depend on self.training, F.dropout(x, p, "
            "training=self.training), or explain an output or a layer that does not depend on it: "
            "LRPFx(model, output=...), NeuronLRPFx(model, layer)."
        )


def _lacks_rule(step: Step) -> bool:
    """Whether an operation without a description got no suitable rule."""
    return step.chosen_by != ASKED or packet_of(step.node.target) is None


def refuse_unknown(steps: Iterable[Step], unknown: Unknown) -> None:
    """Refuse operations that have no rule. The error says what helps.

    Raises:
        UnsupportedOperationError: for all of them at once.
    """
    missing = [step.node for step in steps if step.operation is UNKNOWN and _lacks_rule(step)]
    advice = (
        'LRPFx(..., unknown="vjp") divides their relevance by the contributions of their operands, if '
        "they have a derivative. LayerLRPFx(model, layer) explains a layer above them and does not need "
        "them. If an operation is a function of single entries, let its relevance pass:\n"
        "    from lrp_fx import operations\n"
        "    operations.register(*operations.passing({names}))"
    )
    if unknown == "vjp":
        missing = [n for n in missing if packet_of(n.target) is None]
        advice = "Autograd cannot follow them: write them with operations of PyTorch."
    if not missing:
        return
    lines = dict.fromkeys(f"  {name_of(node)} {where(node)}" for node in reversed(missing))
    names = ", ".join(dict.fromkeys(f'"{name_of(node)}"' for node in reversed(missing)))
    advice = advice.replace("{names}", names)
    raise UnsupportedOperationError(
        "\n".join(["no relevance is described for these operations:", *lines, advice])
    )


def refuse_computed_weights(reached: Iterable[fx.Node], facts: Analysis) -> None:
    """Refuse layers whose weight or bias depends on the inputs: those would get no relevance."""
    for node in filter(is_linear, reached):
        bound = arguments(node)
        for name in ("weight", "bias"):
            if facts.is_dynamic(bound[name]):
                raise UnsupportedOperationError(
                    f"the {name} of '{name_of(node)}' {where(node)} is computed from the explained "
                    "inputs, and would get no relevance: write the operation as a product or a sum"
                )
