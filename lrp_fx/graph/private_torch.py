"""The private names of torch that the library uses, and what for.

torch may rename them in any release; then this file has to change, and the tests report which name
is gone. The names exist in the versions of :data:`SEEN`. Two private names of ``torch.fx`` are
elsewhere: ``_ModuleStackTracer`` in ``capture/exclusive.py`` and ``_loader`` in ``graph/source.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.fx.experimental import proxy_tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import (
    TreeSpec as TreeSpec,
    tree_flatten as tree_flatten,
    tree_unflatten as tree_unflatten,
)

if TYPE_CHECKING:

    class TorchDispatchMode(AbstractContextManager["TorchDispatchMode"]):
        """Sees every operation that runs; torch leaves it untyped."""

        def __exit__(self, *error: object) -> None: ...

else:
    from torch.utils._python_dispatch import TorchDispatchMode

SEEN = ("2.14",)
"""Versions of torch in which the tests passed."""

OpOverload = torch._ops.OpOverload
"""One overload (signature) of an ATen operation. Exported and recorded graphs call overloads."""
OpOverloadPacket = torch._ops.OpOverloadPacket
"""All overloads of an ATen operation. Canonical graphs call packets."""
StorageReference: Callable[[Any], Hashable] = StorageWeakRef
"""A weak reference to the memory of a tensor, which is equal for all tensors that share it."""
ModuleTracer = proxy_tensor._ModuleStackTracer
"""The tracer by which ``torch.export`` follows modules."""
HigherOrderOperator = torch._ops.HigherOrderOperator
"""Operations of exported graphs that take subgraphs as arguments. The subgraphs have to be inlined."""
BatchNorm = nn.modules.batchnorm._BatchNorm
"""The base class of torch's batch norms."""
NormBase = nn.modules.batchnorm._NormBase
"""The base class of torch's batch norms and instance norms."""
torch_assert = torch._assert
"""An assertion that appears as a call in traced graphs, from which it is removed."""


def property_getter(name: str) -> Callable[[Any], Any]:
    """The bare getter of a property of all tensors: it is fast, and skips what subclasses override."""
    getter: Callable[[Any], Any] = getattr(Tensor, name).__get__
    return getter


version_of: Callable[[Tensor], int] = property_getter("_version")
"""How often PyTorch has counted a write to a tensor."""


def schema_of(overload: Any) -> Any:
    """The names, types and aliases of an overload's arguments and results."""
    return overload._schema


def members_of(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A module's own parameters, buffers and submodules; three times as fast as the public iterators."""
    return module._parameters, module._buffers, module._modules


def hold_as_buffer(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Make a buffer that is not a part of the state dict, also where the class has such a name."""
    module._buffers[name] = tensor
    module._non_persistent_buffers_set.add(name)


def make_parameter(kind: type[nn.Parameter], values: Tensor, requires_grad: bool) -> nn.Parameter:
    """A parameter of a subclass, without a call of its constructor, which may be anything."""
    parameter: nn.Parameter = Tensor._make_subclass(kind, values, requires_grad)
    return parameter


T = TypeVar("T", bound=Tensor)


def without_data(kind: type[T]) -> T:
    """A tensor of a subclass that holds no data."""
    made: T = Tensor._make_subclass(kind, torch.empty(0, device="meta"))
    return made


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


def call_at_once(module: nn.Module, function: Callable[..., Any]) -> None:
    """Let ``module(…)`` call a function, unless hooks are called too.

    It takes the place of a method of torch between the call and ``forward``. So a wrapper around
    ``forward`` makes the stack of Python no deeper, which counts where modules are nested deeply.
    """
    if not any((module._forward_hooks, module._forward_pre_hooks, *global_hooks())):
        module.__dict__["_call_impl"] = function


def global_hooks() -> tuple[Mapping[int, Any], Mapping[int, Any]]:
    """The forward hooks and the forward pre-hooks that are registered for all modules."""
    of_modules = nn.modules.module
    return of_modules._global_forward_hooks, of_modules._global_forward_pre_hooks


def is_of_functorch(target: Any) -> bool:
    """Whether a call target belongs to ``torch.vmap``: such calls begin or end a mapped region."""
    return str(getattr(target, "__module__", "")).startswith("torch._functorch")


def has_compiler() -> bool:
    """Whether torch finds a C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        return bool(get_cpp_compiler())
    except InvalidCxxCompiler:
        return False


def compile_and_package(program: torch.export.ExportedProgram, path: str) -> None:
    """Compile an exported program into one file. torch has no public function for this."""
    from torch._inductor import aoti_compile_and_package

    aoti_compile_and_package(program, package_path=path)


def load_package(path: str) -> Callable[..., Sequence[Tensor]]:
    """Load a file of :func:`compile_and_package`; torch documents the function at this place."""
    from torch._inductor import aoti_load_package

    loaded: Callable[..., Sequence[Tensor]] = aoti_load_package(path)
    return loaded


def functionalized(call: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors without writes to any: each becomes a new tensor, also through views.

    Unlike ``torch.func.functionalize`` it runs functions with a derivative of their own too.
    """
    from torch._subclasses.functional_tensor import FunctionalTensorMode, dispatch_functionalize

    function: Callable[..., Any] = dispatch_functionalize(call, FunctionalTensorMode())
    return function


def decompositions() -> Mapping[Any, Callable[..., Any]]:
    """By operation, the function that computes it with simpler operations."""
    from torch._decomp import decomposition_table

    return decomposition_table


def not_compiled() -> type[Exception]:
    """The error class that ``torch.compile`` raises for code that it cannot trace."""
    return torch._dynamo.exc.Unsupported
