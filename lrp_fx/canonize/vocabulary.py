"""One vocabulary for all captures: renames synonyms, removes identities."""

from __future__ import annotations

import torch
from torch import fx

from lrp_fx.canonize.algebra import ALGEBRA
from lrp_fx.canonize.arithmetic_forms import ARITHMETIC_FORMS
from lrp_fx.canonize.call_writer import replace_results, write_as
from lrp_fx.canonize.complex_numbers import COMPLEX_FORMS
from lrp_fx.canonize.groups import GROUPS
from lrp_fx.canonize.layer_forms import LAYER_FORMS
from lrp_fx.graph import (
    Packet,
    arguments,
    aten,
    bind,
    call_like,
    name_of,
    operand,
    replace_by,
    row_named,
)
from lrp_fx.relevance import registry

# Names of operations that need no description: none of them is left in a canonical graph.

_IDENTITIES = frozenset(
    [
        "contiguous",
        "clone",
        "alias",
        "detach",
        "detach_",
        "lift_fresh_copy",
        "lift_fresh",
        "positive",
    ]
)
_DROPOUT = frozenset(
    ["dropout", "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"]
)
_CHECKS = ("_assert", "sym_constrain", "_guards")
_SYNONYMS = {
    "view": aten.reshape,
    "_unsafe_view": aten.reshape,
    "view_copy": aten.reshape,
    "_reshape_alias": aten.reshape,
    "unsafe_split": aten.split,
    "unsafe_split_with_sizes": aten.split_with_sizes,
    "unsafe_chunk": aten.chunk,
    "concat": aten.cat,
    "mv": aten.matmul,
    "dot": aten.matmul,
    "_sparse_mm": aten.mm,  # of a constant sparse matrix
    "concatenate": aten.cat,
    "_adaptive_avg_pool2d": aten.adaptive_avg_pool2d,
    "_adaptive_avg_pool3d": aten.adaptive_avg_pool3d,
    "swapaxes": aten.transpose,
    "swapdims": aten.transpose,
    "moveaxis": aten.movedim,
    "ravel": aten.flatten,
    "broadcast_to": aten.expand,
    "multiply": aten.mul,
    "divide": aten.div,
    "true_divide": aten.div,
    "subtract": aten.sub,
    "negative": aten.neg,
    "special_expit": aten.sigmoid,
    "special_erf": aten.erf,
    "special_erfc": aten.erfc,
    "special_expm1": aten.expm1,
    "absolute": aten.abs,
    "clip": aten.clamp,
    "__and__": aten.bitwise_and,
    "__or__": aten.bitwise_or,
    "__xor__": aten.bitwise_xor,
    "__lshift__": aten.bitwise_left_shift,
    "__rshift__": aten.bitwise_right_shift,
}


def one_vocabulary(graph: fx.Graph) -> None:
    """Rewrite every call that has a canonical form, in place."""
    for node in list(graph.nodes):
        name = name_of(node)
        with graph.inserting_before(node):
            if name in _IDENTITIES:
                replace_by(node, operand(node))
            elif name in _DROPOUT:
                _dropout(node)
            elif name in _SYNONYMS and not _reads_bits(node):
                _rename(node, _SYNONYMS[name])
            elif name in _CANONICAL:
                write_as(node, _CANONICAL[name])


def _reads_bits(node: fx.Node) -> bool:
    """Whether a view reinterprets the bits of a tensor as another dtype."""
    if name_of(node) not in ("view", "view_copy"):
        return False
    return any(isinstance(value, torch.dtype) for value in arguments(node).values())


def _rename(node: fx.Node, packet: Packet) -> None:
    """Rename a call; its arguments become positional if the new operation names them differently."""
    if bind(packet, node.args, node.kwargs) is None:
        node.args, node.kwargs = tuple(arguments(node).values()), {}
    node.target = packet


def _dropout(node: fx.Node) -> None:
    bound = arguments(node)
    if bound["train"] and bound["p"] != 0:  # whatever depends on it cannot be explained
        return
    if name_of(node) != "native_dropout":
        replace_by(node, bound["input"])
    else:  # it returns (output, mask)
        kept = call_like(node.graph, node, aten.ones_like, bound["input"], dtype=torch.bool)
        replace_results(node, (bound["input"], kept))


_CANONICAL = ALGEBRA | GROUPS | ARITHMETIC_FORMS | LAYER_FORMS


def is_known(name: str) -> bool:
    """Whether an operation has a description, or another form that has one, by its ATen name."""
    return (
        name in registry()
        or bool(row_named(name).name)
        or name in _CANONICAL
        or name in _SYNONYMS
        or name in _IDENTITIES
        or name in _DROPOUT
        or name in COMPLEX_FORMS
        or name.startswith(_CHECKS)
    )
