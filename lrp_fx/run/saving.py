"""Files of explainers: each appears when it is whole, and has been tried in its runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from lrp_fx._common import appearing, check_file
from lrp_fx.capture import exporting, first_line
from lrp_fx.errors import CaptureError, OptionError
from lrp_fx.graph import broadcast_shape, compile_and_package, has_compiler, load_package
from lrp_fx.relevance import PORTABLE
from lrp_fx.run.compiling import NO_COMPILER

Format = Literal["pt2", "aot", "onnx"]
SUFFIXES: dict[str, str] = {"pt2": ".pt2", "aot": ".pt2", "onnx": ".onnx"}
NO_PACKAGES = 'format="onnx" needs the packages onnx and onnxscript: pip install onnx onnxscript'
ROUGH = 0.05
"""Of the norm: by how much a file may differ from the explainer.

Other kernels round otherwise, and then a maximum may flip and take its relevance elsewhere. A file that
is wrong for a batch size differs by far more.
"""
_Run: TypeAlias = Callable[[Sequence[Tensor]], Sequence[Any]]


@dataclass(frozen=True, eq=False)
class Trial:
    """The inputs on which an exported program is run, and the results that it must return.

    Args:
        inputs: the tensors that it takes, with the target and the share.
        expected: the output (N, …), and the relevance of each explained input.
    """

    inputs: tuple[Tensor, ...]
    expected: tuple[Tensor, ...]


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


def save(
    program: ExportedProgram,
    path: str | os.PathLike[str],
    format: Format,
    trials: Sequence[Trial] = (),
) -> None:
    """Write an exported program to a file, which is loaded and tried before it gets its name.

    Args:
        program: the exported program.
        path: the file.
        format: ``"pt2"`` for ``torch.export.load``, ``"aot"`` for machine code that
            ``torch._inductor.aoti_load_package`` loads, ``"onnx"`` for any ONNX runtime; it is tried
            where onnxruntime is installed.
        trials: what the file must compute.

    Raises:
        OptionError: if the format's compiler or packages are missing, or the name does not fit it.
        CaptureError: if the format cannot express an operation of the program, or if the file
            computes something else.
        RunError: if the file cannot be written.
    """
    check_destination(path, format)
    place = Path(path)
    write, load = _FORMATS[format]
    with appearing(place) as file, exporting():
        write(program, file)
        run = load(file)
        if run is not None:
            for trial in trials:
                _check(run, trial, format)


def _check(run: _Run, trial: Trial, format: Format) -> None:
    """Raise a ``CaptureError`` unless a file computes what is expected."""
    batch = len(trial.expected[0])
    try:
        with torch.no_grad():
            found = [torch.as_tensor(value).cpu() for value in run(trial.inputs)]
    except Exception as error:
        raise CaptureError(
            f'the file of format="{format}" cannot be run at batch size {batch}: {first_line(error)}'
        ) from error
    for mine, exact in zip(found, trial.expected, strict=True):
        if not _alike(mine.double(), exact.detach().cpu().double()):
            raise CaptureError(
                f'the file of format="{format}" does not compute at batch size {batch} what the '
                "explainer computes: it was not written. Another format, a newer PyTorch, or "
                "dynamic_batch=False may help"
            )


def _alike(mine: Tensor, exact: Tensor) -> bool:
    if mine.shape != exact.shape:
        return False
    distance = torch.where(mine == exact, 0, mine - exact).norm()  # of equal infinities too
    finite = torch.where(exact.isfinite(), exact, 0)
    return bool(distance <= ROUGH * finite.norm() + 1e-6)


def _write_pt2(program: ExportedProgram, file: Path) -> None:
    torch.export.save(program, file)


def _load_pt2(file: Path) -> _Run:
    module = torch.export.load(file).module()
    return lambda inputs: module(*inputs)


def _write_aot(program: ExportedProgram, file: Path) -> None:
    try:
        compile_and_package(program, os.fspath(file))
    except Exception as error:
        raise CaptureError(f"the explainer cannot be compiled: {_reason(error)}") from error


def _load_aot(file: Path) -> _Run:
    module = load_package(os.fspath(file))
    return lambda inputs: module(*inputs)


def _write_onnx(program: ExportedProgram, file: Path) -> None:
    signature = program.graph_signature
    explained = signature.user_inputs[: len(signature.user_outputs) - 1]
    names = ["relevance"] if len(explained) == 1 else [f"relevance_{name}" for name in explained]
    open_ = {node.name for node in program.graph.nodes if _has_open_batch(node)}
    shapes = {name: {0: "batch"} if name in open_ else None for name in signature.user_inputs}
    translated = None
    for table in (PORTABLE, {**PORTABLE, **_BY_BMM}):
        try:
            translated = torch.onnx.export(
                program.run_decompositions(table),
                dynamo=True,
                verbose=False,
                output_names=["output", *names],
                dynamic_shapes=shapes,
            )
            break
        except torch.onnx.errors.OnnxExporterError as error:
            reason = error
    else:
        raise CaptureError(f"ONNX cannot express this explainer: {_reason(reason)}") from reason
    assert translated is not None
    translated.save(file)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` by ``bmm``: torch 2.6 cannot take ``matmul`` apart where the batch is open."""
    x, y = (a.unsqueeze(0) if a.dim() == 1 else a), (b.unsqueeze(-1) if b.dim() == 1 else b)
    batch = broadcast_shape(x.shape[:-2], y.shape[:-2])
    x, y = x.expand(*batch, *x.shape[-2:]), y.expand(*batch, *y.shape[-2:])
    result = torch.bmm(x.reshape(-1, *x.shape[-2:]), y.reshape(-1, *y.shape[-2:]))
    result = result.reshape(*batch, x.shape[-2], y.shape[-1])
    result = result.squeeze(-2) if a.dim() == 1 else result
    return result.squeeze(-1) if b.dim() == 1 else result


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    result = _matmul(input, weight.mT if weight.dim() > 1 else weight)
    return result if bias is None else result + bias


_BY_BMM = {torch.ops.aten.matmul.default: _matmul, torch.ops.aten.linear.default: _linear}


def _load_onnx(file: Path) -> _Run | None:
    if not find_spec("onnxruntime"):
        return None
    try:
        session = import_module("onnxruntime").InferenceSession(
            file, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise CaptureError(f"onnxruntime cannot run this explainer: {first_line(error)}") from error
    names = [each.name for each in session.get_inputs()]
    return lambda inputs: session.run(
        None, {name: t.detach().cpu().numpy() for name, t in zip(names, inputs, strict=True)}
    )


_FORMATS: dict[str, tuple[Callable[[ExportedProgram, Path], None], Callable[[Path], _Run | None]]]
_FORMATS = {
    "pt2": (_write_pt2, _load_pt2),
    "aot": (_write_aot, _load_aot),
    "onnx": (_write_onnx, _load_onnx),
}


def _has_open_batch(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and any(isinstance(n, torch.SymInt) for n in value.shape[:1])


def _reason(error: Exception) -> str:
    """The first line of the innermost cause of an error. The outer ones give advice to developers."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return first_line(error)
