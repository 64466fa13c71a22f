"""``torch.compile`` of an LRP graph as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from lrp_fx.capture import alone
from lrp_fx.errors import OptionError
from lrp_fx.graph import SEEN, has_compiler, not_compiled

NO_COMPILER = (
    "{what} needs a C++ compiler, and none was found: install g++ or clang, or name one in the "
    "environment variable CXX"
)


def check_compiler() -> None:
    """Raise an ``OptionError`` if there is no C++ compiler."""
    if not has_compiler():
        raise OptionError(NO_COMPILER.format(what="compile()"))


def compiled(module: fx.GraphModule) -> Callable[..., Any]:
    """A function that compiles the graph as a whole at its first call, and runs it.

    Raises:
        OptionError: in the call, if a part of the graph cannot be compiled, such as a hook that
            calls other libraries.
    """
    function = torch.compile(module, fullgraph=True)
    known: set[tuple[Any, ...]] = set()

    def call(*args: Any) -> Any:
        forms = tuple(
            (a.shape, a.dtype, a.device) if isinstance(a, Tensor) else type(a) for a in args
        )
        try:
            if forms in known:
                return function(*args)
            with alone():  # this call compiles, so it traces
                result = function(*args)
            known.add(forms)
            return result
        except not_compiled() as error:
            reason = str(error).strip().partition("\n")[0]
            raise OptionError(
                f"compile() cannot follow a part of this explainer ({reason}); hooks and callable starts "
                f"have to be plain torch code, and PyTorch {torch.__version__} may be too old: version "
                f"{SEEN[-1]} compiles"
            ) from error

    return call
