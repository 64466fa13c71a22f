"""Reads weights from files without running code from them, and gives them to a network."""

from __future__ import annotations

import re
import stat
import textwrap
from collections.abc import Collection, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from lrp_fx.errors import LRPError
from lrp_fx.zoo.loaded import ZooError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
"""Under these names training scripts keep a state dict, beside the optimizer's and more."""
PREFIXES = ("module.", "_orig_mod.", "model.")
"""The prefixes of parameters by DataParallel, torch.compile and Lightning."""
_PLAIN = "it is not a plain state dict as torch.save(model.state_dict(), FILE) writes it"
_UNSAFE = re.compile(r"GLOBAL ([\w.]+)")


def read_state(file: Path) -> dict[str, Tensor]:
    """The state dict in ``file``: ``.safetensors``, or what ``torch.save`` wrote.

    Of a checkpoint that holds more, the state dict is taken, by its usual names.

    Raises:
        ZooError: if there is none. What would run code when it is read is refused.
    """
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise ZooError(f"cannot read weights from {file}: it is not a file")
        found: Any = (
            _safetensors(file)
            if file.suffix.lower() == ".safetensors"
            else torch.load(file, map_location="cpu", weights_only=True)
        )
    except LRPError:
        raise
    except OSError as error:
        raise ZooError(f"cannot read weights from {file}: {error.strerror or error}") from error
    except UnpicklingError as error:
        raise ZooError(f"cannot read weights from {file}: {_why_refused(error)}") from error
    except Exception as error:  # torch.load fails in many ways on files that are not its own
        raise ZooError(f"cannot read weights from {file}: {_PLAIN}") from error
    state = _unwrapped(found)
    if state is None:
        raise ZooError(f"cannot use weights from {file}: {_PLAIN}")
    return state


def _safetensors(file: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError:
        raise ZooError(
            f"cannot read weights from {file}: it needs the package safetensors: pip install safetensors"
        ) from None
    try:
        return dict(load_file(file))
    except OSError:
        raise
    except Exception as error:
        raise ZooError(
            f"cannot read weights from {file}: it is not a .safetensors file, or it is damaged"
        ) from error


def _why_refused(error: UnpicklingError) -> str:
    """Why torch did not unpickle a file."""
    unsafe = _UNSAFE.search(str(error))
    if unsafe is None:
        return _PLAIN
    return (
        f"{_PLAIN}; it holds {textwrap.shorten(unsafe[1], 60, placeholder='…')}, and reading that "
        "would run its code"
    )


def _unwrapped(found: object) -> dict[str, Tensor] | None:
    """The state dict, also of a checkpoint that holds it under a usual name."""
    if not isinstance(found, Mapping):
        return None
    for name in WRAPPERS:
        inner = found.get(name)
        if isinstance(inner, Mapping) and inner:
            return _unwrapped(inner)
    state = {key: value for key, value in found.items() if isinstance(key, str)}
    if len(state) < len(found) or not all(isinstance(each, Tensor) for each in state.values()):
        return None
    return state


def renamed(state: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """The state dict without what wrappers put before all of its names.

    Args:
        state: the state dict.
        names: the names that the network knows; a prefix that they have stays.
    """
    for prefix in PREFIXES:
        if state and all(key.startswith(prefix) for key in state) and not names & state.keys():
            return renamed({key.removeprefix(prefix): each for key, each in state.items()}, names)
    return dict(state)


def fill(network: nn.Module, state: Mapping[str, Tensor], name: str, file: Path) -> None:
    """Give the weights to the network.

    Raises:
        ZooError: if they do not fit.
    """
    try:
        network.load_state_dict(renamed(state, network.state_dict().keys()))
    except RuntimeError as error:
        # The first line says only that there are errors; the second may list hundreds of keys.
        first = textwrap.shorten(str(error).split("\n", 1)[-1], 160, placeholder=" ...")
        raise ZooError(f"{file} does not fit {name}: {first}") from error
