"""Export: an explainer as a ``torch.export`` program that runs without lrp_fx."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from lrp_fx.capture import REORDERED, Arguments, exporting, first_line, reproduces, samples
from lrp_fx.errors import CaptureError, OptionError
from lrp_fx.graph import aten, graph_module_of, tensor_at
from lrp_fx.relevance import (
    OpenTopKFilter,
    StartRelevance,
    TensorStart,
    TopK,
    TopKFilter,
    VjpRelevance,
    indexed_sizes,
)
from lrp_fx.rewrite import LRPGraph
from lrp_fx.run.program import Program, check_batch
from lrp_fx.run.saving import Trial

FIXED = "dynamic_batch=False exports for the batch size of the example only"


def exported(
    program: Program,
    tensors: tuple[Tensor, ...],
    *,
    second: tuple[Program, tuple[Tensor, ...]] | None = None,
    open_filter: TopK | None = None,
) -> tuple[ExportedProgram, list[Trial]]:
    """A program, with its weights, as a ``torch.export`` program.

    Args:
        program: the LRP graph and its model.
        tensors: an example of the model's input tensors. The result is compared with the program on
            them.
        second: the program and an example of another batch size. The result is compared on it too,
            and leaves the batch size open; None fixes it.
        open_filter: the share of all filters like this one becomes an input.

    Returns:
        An exported program. It takes the tensors and, if ``start`` and the output need one, a
        target: int64 of shape (N,), or (N, K) for outputs with K dimensions after the batch. With
        ``open_filter``, the last input is the share, float32 of shape (N,), in (0, 1]. It
        returns the output (N, …) and the relevance of each explained input. It does not check the
        target: negative indices count from the end, and an index out of range gives zero relevance.
        Beside it, what it was compared on.

    Raises:
        CaptureError: if the program is valid for one input only, or cannot be exported.
        OptionError: if its adjoints come from autograd, or a filter meets values that hide the
            batch.
        InputError, NonFiniteError: if the example cannot be explained.
    """
    if program.plan.way == "record":
        raise CaptureError(
            "this model's Python branches on values, so it was recorded for one input, and an exported "
            "program would be wrong for inputs that take another branch: write the branches with "
            "torch.where"
        )
    if any(map(_uses_autograd, program.lrp.module.modules())):
        raise OptionError(
            "torch.export cannot follow autograd, which this explainer uses: export it with "
            "propagation='direct' and unknown='error', the defaults"
        )
    fixed_to_one = second is None and tensors[0].shape[0] == 1
    if not fixed_to_one and program.hides_batch(tensors):
        raise OptionError(
            "top_k and filters keep a part of each sample's relevance, and here some would meet values "
            "whose layout hides the batch, such as those inside attention: pass one sample and "
            "dynamic_batch=False, or filter other layers"
        )
    output = program.output(tensors)
    check_batch(output, tensors[0])
    start = program.lrp.module.get_submodule(str(program.lrp.start.target))
    assert isinstance(start, StartRelevance)
    sizes = indexed_sizes(output.shape) if start.takes_target else ()
    runs = [(program, tensors), *([] if second is None else [second])]
    trials = [_trial(*run, sizes, open_filter) for run in runs]
    explained = trials[0].expected[1:]
    dtypes = [relevance.dtype for relevance in explained]
    first = TensorStart(start.start) if sizes else None
    module = _module(program.lrp, first, dtypes, open_filter)
    example, shapes = trials[0].inputs, None
    if second is not None:
        example, (shapes,) = samples(trials[0].inputs)[0]
    try:
        # with gradients enabled, relevance nodes overwrite nothing, so the program is functional
        with exporting(), torch.enable_grad():
            result = torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        advice = (
            ". If the model's code makes a Python number of the batch size, as len(x) does, write "
            f"x.shape[0]; {FIXED}"
        )
        raise CaptureError(
            f"torch.export cannot read the explainer: {first_line(error)}"
            + ("" if second is None else advice)
        ) from error
    explainer = result.module()
    for trial in trials:
        arguments = Arguments.of(trial.inputs)
        if not reproduces(explainer, arguments, list(trial.expected), REORDERED):
            raise CaptureError(
                f"the exported program does not compute at batch size {len(trial.expected[0])} what the "
                "explainer computes: this is a bug in lrp_fx, please report it with the model"
            )
    return result, trials


def _trial(
    program: Program, tensors: tuple[Tensor, ...], sizes: tuple[int, ...], open_filter: TopK | None
) -> Trial:
    """The first entry of the output as target, and what the program computes for it."""
    explanation = program.run(tensors, (0,) * len(sizes) if sizes else None)
    output = explanation.output
    relevance = (
        each.to(x.dtype) if x.is_floating_point() else each
        for each, x in zip(explanation.relevance, tensors, strict=False)
    )
    inputs = tensors
    if sizes:
        shape = (len(output), *((len(sizes),) if len(sizes) > 1 else ()))
        inputs = (*inputs, torch.zeros(shape, dtype=torch.long, device=output.device))
    if open_filter is not None:
        shares = torch.full((len(output),), open_filter.share, dtype=torch.float32)
        inputs = (*inputs, shares.to(output.device))
    return Trial(inputs, (output, *relevance))


def larger(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Tensors (N, …) with the first sample once more, (N + 1, …); all others as they are."""
    size = len(tensors[0])
    return tuple(torch.cat([t, t[:1]]) if t.dim() and len(t) == size else t for t in tensors)


def _uses_autograd(module: nn.Module) -> bool:
    return isinstance(module, VjpRelevance) or getattr(module, "engine", "direct") == "gradient"


def _module(
    lrp: LRPGraph, start: TensorStart | None, dtypes: list[torch.dtype], open_filter: TopK | None
) -> fx.GraphModule:
    """The LRP graph with its current tensors; it returns the output and the relevance.

    Args:
        lrp: the LRP graph.
        start: takes the target as a tensor; None for a graph without a target.
        dtypes: the dtype of the relevance of each input.
        open_filter: the share of all filters like this one becomes the last argument.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, Any] = {}
    share: fx.Node | None = None
    root: dict[str, Any] = {}
    source = lrp.module
    target: Any = lrp.start.args[1]
    for node in source.graph.nodes:
        if node.op == "output":
            found, output, *_ = node.args[0]
            cast = (
                graph.call_function(aten.to.dtype, (copies[relevance], dtype))
                for relevance, dtype in zip(found, dtypes, strict=True)
            )
            graph.output((copies[output], *cast))
            continue
        if node is target and start is None:
            copies[node] = None
        else:
            copies[node] = graph.node_copy(node, lambda n: copies[n])
        if node is target and open_filter is not None:  # the target is the last argument but this
            share = graph.placeholder("share")
        copy, path = copies[node], str(node.target)
        if copy is None:
            continue
        if node.op == "placeholder":
            copy.args = ()  # the target's default
        elif node.op == "get_attr":
            root[path] = tensor_at(source, path).detach().clone()  # a snapshot
        elif node.op == "call_module":
            root[path] = source.get_submodule(path)
            if isinstance(root[path], TopKFilter) and root[path].top_k == open_filter:
                assert open_filter is not None and share is not None
                copy.args = (*copy.args, share)
                root[path] = OpenTopKFilter(open_filter.by, open_filter.renormalize)
        if node is lrp.start and start is not None:
            root[path] = start
    return graph_module_of(root, graph, "Explainer")
