"""Export: an explainer as one file that runs without lrp_fx, for PyTorch, compiled, or ONNX."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from lrp_fx._checks import check_file
from lrp_fx.capture import REORDERED, Arguments, exporting, first_line, reproduces, samples
from lrp_fx.errors import CaptureError, OptionError
from lrp_fx.graph import aten, compile_and_package, graph_module_of, has_compiler, tensor_at
from lrp_fx.relevance import (
    PORTABLE,
    OpenTopKFilter,
    StartRelevance,
    TensorStart,
    TopK,
    TopKFilter,
    VjpRelevance,
    indexed_sizes,
)
from lrp_fx.rewrite import LRPGraph
from lrp_fx.run.compiling import NO_COMPILER
from lrp_fx.run.program import Program, check_batch

Format = Literal["pt2", "aot", "onnx"]
SUFFIXES: dict[str, str] = {"pt2": ".pt2", "aot": ".pt2", "onnx": ".onnx"}
NO_PACKAGES = 'format="onnx" needs the packages onnx and onnxscript: pip install onnx onnxscript'


def check_destination(path: str | os.PathLike[str] | None, format: Format) -> None:
    """Raise an ``OptionError`` unless a file of the format can be written under this name."""
    if not isinstance(format, str) or format not in SUFFIXES:
        words = ", ".join(map(repr, SUFFIXES))
        raise OptionError(f"format must be one of {words}, got {format!r}")
    if path is None:
        if format != "pt2":
            raise OptionError(f'format="{format}" is a file: pass path="….{SUFFIXES[format][1:]}"')
        return
    if not isinstance(path, (str, os.PathLike)):
        raise OptionError(f"path must be the name of a file, got {path!r}")
    if not str(os.fspath(path)).endswith(SUFFIXES[format]):
        raise OptionError(
            f'the name of a file of format="{format}" ends in {SUFFIXES[format]}, got {os.fspath(path)!r}'
        )
    check_file("path", path)
    if format == "onnx" and not (find_spec("onnx") and find_spec("onnxscript")):
        raise OptionError(NO_PACKAGES)
    if format == "aot" and not has_compiler():
        raise OptionError(NO_COMPILER.format(what='format="aot"'))


def exported(
    program: Program,
    tensors: tuple[Tensor, ...],
    *,
    dynamic_batch: bool = True,
    open_filter: TopK | None = None,
) -> ExportedProgram:
    """A program, with its weights, as a ``torch.export`` program.

    Args:
        program: the LRP graph and its model.
        tensors: an example of the model's input tensors. The result is compared with the program on
            them.
        dynamic_batch: leave the batch size open.
        open_filter: the share of all filters like this one becomes an input.

    Returns:
        An exported program. It takes the tensors and, if ``start`` and the output need one, a
        target: int64 of shape (N,), or (N, K) for outputs with K dimensions behind the batch. With
        ``open_filter``, the last input is the share, float32 of shape (N,), in (0, 1]. It
        returns the output (N, …) and the relevance of each explained input. It does not check the
        target: negative indices count from the end, and an index out of range gives zero relevance.

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
    fixed_to_one = not dynamic_batch and tensors[0].shape[0] == 1
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
    explanation = program.run(tensors, (0,) * len(sizes) if sizes else None)
    expected: list[object] = [explanation.output]
    dtypes = []
    for relevance, x in zip(explanation.relevance, tensors, strict=False):
        dtypes.append(x.dtype if x.is_floating_point() else relevance.dtype)
        expected.append(relevance.to(dtypes[-1]))
    first = TensorStart(start.start) if sizes else None
    module = _module(program.lrp, first, dtypes, open_filter)
    if sizes:
        shape = (len(output), *((len(sizes),) if len(sizes) > 1 else ()))
        tensors = (*tensors, torch.zeros(shape, dtype=torch.long, device=output.device))
    if open_filter is not None:
        shares = torch.full((len(output),), open_filter.share, dtype=torch.float32)
        tensors = (*tensors, shares.to(output.device))
    example, shapes = tensors, None
    if dynamic_batch:
        example, (shapes,) = samples(tensors)[0]
    try:
        # with gradients enabled, relevance nodes overwrite nothing, so the program is functional
        with exporting(), torch.enable_grad():
            result = torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        advice = (
            ". If the model's code makes a Python number of the batch size, as len(x) does, write "
            "x.shape[0]; dynamic_batch=False exports for the batch size of the example only"
        )
        raise CaptureError(
            f"torch.export cannot read the explainer: {first_line(error)}"
            + (advice if dynamic_batch else "")
        ) from error
    if not reproduces(result.module(), Arguments.of(tensors), expected, REORDERED):
        raise CaptureError(
            "the exported program does not compute what the explainer computes: this is a bug in "
            "lrp_fx, please report it with the model"
        )
    return result


def save(program: ExportedProgram, path: str | os.PathLike[str], format: Format) -> None:
    """Write an exported program to a file.

    Args:
        program: the result of :func:`exported`.
        path: the file.
        format: ``"pt2"`` for ``torch.export.load``, ``"aot"`` for machine code that
            ``torch._inductor.aoti_load_package`` loads, ``"onnx"`` for any ONNX runtime.

    Raises:
        OptionError: if the format's compiler or packages are missing, or the name does not fit it.
        CaptureError: if the format cannot express an operation of the program.
    """
    check_destination(path, format)
    with exporting():
        if format == "pt2":
            torch.export.save(program, path)
        elif format == "aot":
            _compile(program, path)
        else:
            _translate(program, path)


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


def _compile(program: ExportedProgram, path: str | os.PathLike[str]) -> None:
    try:
        compile_and_package(program, os.fspath(path))
    except Exception as error:
        raise CaptureError(f"the explainer cannot be compiled: {_reason(error)}") from error


def _translate(program: ExportedProgram, path: str | os.PathLike[str]) -> None:
    signature = program.graph_signature
    explained = signature.user_inputs[: len(signature.user_outputs) - 1]
    names = ["relevance"] if len(explained) == 1 else [f"relevance_{name}" for name in explained]
    open_ = {node.name for node in program.graph.nodes if _has_open_batch(node)}
    portable = program.run_decompositions(PORTABLE)
    try:
        translated = torch.onnx.export(
            portable,
            dynamo=True,
            verbose=False,
            output_names=["output", *names],
            dynamic_shapes={
                name: {0: "batch"} if name in open_ else None for name in signature.user_inputs
            },
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise CaptureError(f"ONNX cannot express this explainer: {_reason(error)}") from error
    assert translated is not None
    translated.save(path)


def _has_open_batch(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and any(isinstance(n, torch.SymInt) for n in value.shape[:1])


def _reason(error: Exception) -> str:
    """The first line of the innermost cause of an error. The outer ones give advice to developers."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return first_line(error)
