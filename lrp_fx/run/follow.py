"""Keeps the tensors of an LRP graph in step with the live model's parameters."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lrp_fx.capture import Memory, ModelState, leaves_traces, traces_of
from lrp_fx.errors import CaptureError, OptionError
from lrp_fx.graph import members_of
from lrp_fx.rewrite import LRPGraph
from lrp_fx.run.interpreter import Runner, run_nodes


class FollowedParameters:
    """The model's tensors that an LRP graph reads, and the constants computed from them.

    Before a run they are compared with the tensors that the graph's constants were computed from,
    so that parameters which were replaced, moved, cast or written to are noticed. Writes that
    PyTorch does not count are found by looking at the memory of tensors that constants are computed
    from. This is done only on CPU; on other devices :meth:`refresh` makes the graph notice them.

    Args:
        state: the model.
        lrp: the graph.
    """

    def __init__(self, state: ModelState, lrp: LRPGraph) -> None:
        self._state, self._lrp = state, lrp
        self._fingerprint: tuple[Any, ...] | None = None
        self._memory, self._seen = Memory([]), list[bytes]()
        self._lock = threading.Lock()
        computing = (str(n.target) for n in lrp.constants.graph.find_nodes(op="get_attr"))
        self._sources = frozenset(computing) & set(lrp.parameters)
        """The paths of tensors from which constants are computed and kept."""

    def refresh(self) -> None:
        """Forget everything that was computed; the next run computes it again."""
        self._fingerprint = None

    def named(self) -> dict[str, Tensor]:
        """The live tensors by path, including those that have no path in the model."""
        return {**self._lrp.made, **self._state.tensors}

    def follow(self) -> None:
        """Bring the graph's tensors up to date with the model's."""
        live = self.named()
        wanted = [live.get(path) for path in self._lrp.parameters]
        # training changes running statistics unnoticed, except for their counter
        counters = (t for path, t in live.items() if path.endswith("num_batches_tracked"))
        fingerprint = traces_of((*wanted, *counters))
        # equal fingerprints mean that the tensors, and so their memory, are still there
        if fingerprint == self._fingerprint and self._memory.look() == self._seen:
            return
        with self._lock, torch.inference_mode(False), torch.no_grad():
            memory = Memory(live[path] for path in self._sources if path in live)
            seen = memory.look()
            if fingerprint == self._fingerprint and seen == self._seen:
                return  # another thread was faster
            for path, tensor in zip(self._lrp.parameters, wanted, strict=True):
                for module in (self._lrp.module, self._lrp.constants):
                    _put(module, path, _not_lost(path, tensor))
            with _without_autocast(wanted):  # the constants outlive the caller's autocast
                values = self._lrp.constants.forward()
                for name, value in zip(self._lrp.constant_names, values, strict=True):
                    _put(self._lrp.module, name, value)
            is_noticed = all(leaves_traces(live[path]) for path in self._sources if path in live)
            self._memory, self._seen = memory, seen
            self._fingerprint = fingerprint if is_noticed else None

    def live(self, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """All tensors that the graph reads, by path, as differentiable functions of the parameters.

        Raises:
            OptionError: under ``inference_mode``, or for inputs or parameters that were made under
                it.
        """
        if torch.is_inference_mode_enabled():
            raise OptionError(
                "create_graph=True needs autograd, which torch.inference_mode() switches off: explain "
                "outside of it"
            )
        named = self.named()
        live = {path: _not_lost(path, named.get(path)) for path in self._lrp.parameters}
        inputs_by_name = {f"input {place}": tensor for place, tensor in enumerate(inputs)}
        for name, tensor in (*inputs_by_name.items(), *live.items()):
            if tensor.is_inference():
                raise OptionError(
                    f"create_graph=True: '{name}' was made under torch.inference_mode(), so autograd "
                    "cannot use it: clone it outside of that mode"
                )
        for path, tensor in live.items():
            if not tensor.requires_grad and not isinstance(tensor, nn.Parameter):
                # a model in train mode changes its running statistics before the backward pass
                live[path] = tensor.clone()
        names = self._lrp.constant_names
        with torch.enable_grad(), _without_autocast(live.values()):
            # older versions of torch would reuse casts that were made without gradients
            torch.clear_autocast_cache()
            nodes = list(self._lrp.constants.graph.nodes)
            values = run_nodes(Runner(self._lrp.constants, live), nodes, ())[nodes[-1]]
        return {**live, **dict(zip(names, values, strict=True))}


@contextmanager
def _without_autocast(tensors: Iterable[Tensor | None]) -> Iterator[None]:
    """Switch autocast off on the devices of the tensors."""
    with ExitStack() as stack:
        for device in {tensor.device.type for tensor in tensors if tensor is not None}:
            stack.enter_context(torch.autocast(device, enabled=False))
        yield


def _not_lost(path: str, tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise CaptureError(f"the model has lost its parameter '{path}' since it was read")
    return tensor


def _put(module: nn.Module, path: str, value: Tensor) -> None:
    """Set an existing tensor attribute, whether it was a parameter or a buffer."""
    prefix, _, name = path.rpartition(".")
    try:
        owner = module.get_submodule(prefix)
    except AttributeError:
        return
    if not hasattr(owner, name) or getattr(owner, name) is value:
        return
    parameters, buffers, _ = members_of(owner)
    kept = parameters if isinstance(value, nn.Parameter) else buffers
    if name not in kept:
        delattr(owner, name)
    kept[name] = value  # an existing entry is replaced atomically: another thread may be reading
