"""Fourier transforms of real numbers and their adjoints, and the operation ``lrp_fx::fourier``.

A complex tensor of shape (…) is a real one of shape (…, 2), with the real part first. Seen like
this, each Fourier transform is a linear map of real numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lrp_fx.graph.calls import Packet

SWAPPED = {None: "forward", "backward": "forward", "forward": "backward", "ortho": "ortho"}
"""The norm of the adjoint: what one direction divides by, the other does not."""


def fourier(
    input: Tensor,
    name: str,
    is_complex: bool,
    sizes: Sequence[int] | None,
    dims: Sequence[int],
    norm: str | None,
) -> Tensor:
    """The Fourier transform over ``dims``; a complex result is a real one of shape (…, 2).

    Args:
        input: a real tensor, or a complex one as a real one of shape (…, 2).
        name: ``"fftn"``, ``"ifftn"``, ``"rfftn"`` or ``"irfftn"``.
        is_complex: whether the input is a complex one.
        sizes: the sizes to which ``dims`` are cut or filled up with zeros; None for all as they are.
        dims: the dimensions of the complex tensor, none negative.
        norm: as in ``torch.fft``.
    """
    value = torch.view_as_complex(input.contiguous()) if is_complex else input
    transform: Any = getattr(torch.fft, name)
    result: Tensor = transform(value, s=sizes, dim=dims, norm=norm)
    return torch.view_as_real(result) if result.is_complex() else result


def fourier_adjoint(
    q: Tensor,
    shape: torch.Size,
    name: str,
    is_complex: bool,
    sizes: Sequence[int] | None,
    dims: Sequence[int],
    norm: str | None,
) -> Tensor:
    """``Jᵀ q`` for the Jacobian ``J`` of :func:`fourier`; of ``shape``."""
    last = dims[-1]
    options: dict[str, Any] = {"dim": list(dims), "norm": SWAPPED[norm]}
    whole = tuple(shape[:-1]) if is_complex else tuple(shape)
    if name == "irfftn":
        pulled = torch.fft.rfftn(q, **options)
        # each frequency but the first, and the last of an even size, stands for two
        count = pulled.shape[last]
        weights = q.new_full((count,), 2.0)
        twice = torch.arange(count, device=q.device)
        weights = weights.masked_fill((twice == 0) | (2 * twice == q.shape[last]), 1.0)
        pulled = pulled * weights.reshape(-1, *[1] * (pulled.dim() - 1 - last))
    else:
        z = torch.view_as_complex(q.contiguous())
        if name == "rfftn":
            size = whole[last] if sizes is None else sizes[-1]
            z = _fitted(z, {last: size})
        pulled = (torch.fft.fftn if name == "ifftn" else torch.fft.ifftn)(z, **options)
    pulled = _fitted(pulled, {dim: whole[dim] for dim in dims})
    return torch.view_as_real(pulled) if is_complex else pulled.real


def _fitted(z: Tensor, sizes: dict[int, int]) -> Tensor:
    """A complex tensor cut or filled up with zeros to these sizes."""
    missing = [0] * (2 * z.dim())
    for dim, size in sizes.items():
        missing[2 * (z.dim() - 1 - dim) + 1] = size - z.shape[dim]
    if not any(missing):
        return z
    parts = torch.nn.functional.pad(torch.view_as_real(z), [0, 0, *missing])
    return torch.view_as_complex(parts.contiguous())


torch.library.define(
    "lrp_fx::fourier",
    "(Tensor input, str name, bool is_complex, int[]? sizes, int[] dims, str? norm) -> Tensor",
)
torch.library.impl("lrp_fx::fourier", "CompositeImplicitAutograd", fourier)
_operations: Any = torch.ops.lrp_fx
FOURIER: Packet = _operations.fourier
