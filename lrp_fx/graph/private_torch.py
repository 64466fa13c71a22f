"""Every private name of torch that the library uses, and why; no other file names one.

Seen to work in the versions of :data:`SEEN`. torch may move a private name in any release: then this is
the one file to change, and the tests say which name is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.fx.experimental import proxy_tensor
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.batchnorm import _NormBase as NormBase
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

if TYPE_CHECKING:

    class TorchDispatchMode(AbstractContextManager["TorchDispatchMode"]):
        """Sees every operation that runs; torch leaves it untyped."""

        def __exit__(self, *error: object) -> None: ...

else:
    from torch.utils._python_dispatch import TorchDispatchMode

SEEN = ("2.14",)
"""Versions of torch in which the tests passed."""

OpOverload = torch._ops.OpOverload
"""What an exported or recorded graph calls: one signature of an ATen operation."""
OpOverloadPacket = torch._ops.OpOverloadPacket
"""All signatures of an ATen operation, what a canonical graph calls."""
ModuleTracer = proxy_tensor._ModuleStackTracer
"""What ``torch.export`` follows modules with."""
HigherOrderOperator = torch._ops.HigherOrderOperator
"""Calls of exported graphs that hold graphs: they have to be inlined."""
torch_assert = torch._assert
"""An assertion that tracing sees; it is left out of graphs."""


def property_getter(name: str) -> Callable[[Any], Any]:
    """The function behind a property of all tensors; it passes a subclass by, and runs often."""
    getter: Callable[[Any], Any] = getattr(Tensor, name).__get__
    return getter


version_of: Callable[[Tensor], int] = property_getter("_version")
"""How often a tensor was written to, as far as PyTorch counts."""


def schema_of(overload: Any) -> Any:
    """The names, types and aliases of an overload's arguments and results."""
    return overload._schema


def members_of(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A module's own parameters, buffers and modules: the public iterators take three times as long."""
    return module._parameters, module._buffers, module._modules


def hold_as_buffer(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Make a buffer that is no part of the state dict, also where the class has such a name."""
    module._buffers[name] = tensor
    module._non_persistent_buffers_set.add(name)


def make_parameter(kind: type[nn.Parameter], values: Tensor, requires_grad: bool) -> nn.Parameter:
    """A parameter of a subclass, without a call of its constructor, which may be anything."""
    parameter: nn.Parameter = Tensor._make_subclass(kind, values, requires_grad)
    return parameter


@contextmanager
def exports_traced_by(tracer: type[ModuleTracer]) -> Iterator[None]:
    """Let ``torch.export`` follow modules by another tracer, in the whole process."""
    name = ModuleTracer.__name__
    original = getattr(proxy_tensor, name)
    setattr(proxy_tensor, name, tracer)
    try:
        yield
    finally:
        setattr(proxy_tensor, name, original)


def global_hooks() -> tuple[Mapping[int, Any], Mapping[int, Any]]:
    """The forward hooks of all modules, behind and before the forward."""
    of_modules = nn.modules.module
    return of_modules._global_forward_hooks, of_modules._global_forward_pre_hooks


def is_of_functorch(target: Any) -> bool:
    """Whether a call begins or ends a region of ``torch.vmap``."""
    return str(getattr(target, "__module__", "")).startswith("torch._functorch")


def has_compiler() -> bool:
    """Whether there is a C++ compiler that torch can use."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        return bool(get_cpp_compiler())
    except InvalidCxxCompiler:
        return False


def compile_and_package(program: torch.export.ExportedProgram, path: str) -> None:
    """Compile an exported program into one file; torch has no public name for this."""
    from torch._inductor import aoti_compile_and_package

    aoti_compile_and_package(program, package_path=path)


def not_compiled() -> type[Exception]:
    """The error of ``torch.compile`` for what it cannot follow."""
    return torch._dynamo.exc.Unsupported


__all__ = [
    "SEEN",
    "BatchNorm",
    "HigherOrderOperator",
    "ModuleTracer",
    "NormBase",
    "OpOverload",
    "OpOverloadPacket",
    "TorchDispatchMode",
    "TreeSpec",
    "compile_and_package",
    "exports_traced_by",
    "global_hooks",
    "has_compiler",
    "hold_as_buffer",
    "is_of_functorch",
    "make_parameter",
    "members_of",
    "not_compiled",
    "property_getter",
    "schema_of",
    "torch_assert",
    "tree_flatten",
    "tree_unflatten",
    "version_of",
]
