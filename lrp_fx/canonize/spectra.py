"""Fourier transforms of signals, whole or in frames, as linear maps of real numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx

from lrp_fx.canonize.parts import ComplexWriter, Pair
from lrp_fx.graph import FOURIER, SWAPPED, as_tuple, aten, name_of

_INVERSE = ("ifftn", "irfftn")


def transform(
    write: ComplexWriter, pair: Pair, name: str, sizes: Any, dims: list[int], norm: str | None
) -> Any:
    """The Fourier transform of a value by its parts: a pair, or a node for real results."""
    real, imaginary = pair
    is_complex = imaginary is not None or name == "irfftn"
    value = write.stacked(write.alike(real, imaginary)) if is_complex else real
    result = write(FOURIER, value, name, is_complex, sizes, dims, norm)
    return result if name == "irfftn" else write.unstacked(result)


def _named(write: ComplexWriter, b: dict[str, Any]) -> Any:
    """A call of ``torch.fft``."""
    name = name_of(write.node).removeprefix("fft_")
    known = write.like(b["self"])
    if known is None:
        return None
    sizes, dims = b.get("n", b.get("s")), b.get("dim")
    sizes = None if sizes is None else list(as_tuple(sizes, 1))
    if dims is None:
        dims = range(-len(sizes or known.shape), 0)
    dims = [dim % known.dim() for dim in as_tuple(dims if isinstance(dims, int) else list(dims), 1)]
    pair, norm = write.pair(b["self"]), b["norm"]
    if name in ("hfft", "ihfft"):
        if name == "hfft":
            real, imaginary = write.whole(b["self"])
            conjugate = real, write(aten.neg, imaginary)
            return transform(write, conjugate, "irfftn", sizes, dims, SWAPPED[norm])
        real, imaginary = transform(write, pair, "rfftn", sizes, dims, SWAPPED[norm])
        return real, write(aten.neg, imaginary)
    return transform(write, pair, name.rstrip("2n") + "n", sizes, dims, norm)


def _kernel(write: ComplexWriter, b: dict[str, Any]) -> Any:
    """A kernel of recorded graphs."""
    known = write.like(b["self"])
    if known is None:
        return None
    dims = [dim % known.dim() for dim in b["dim"]]
    name = {"_fft_r2c": "rfftn" if b.get("onesided") else "fftn", "_fft_c2r": "irfftn"}.get(
        name_of(write.node), "fftn" if b.get("forward") else "ifftn"
    )
    norms = (
        ("forward", "ortho", "backward") if name in _INVERSE else ("backward", "ortho", "forward")
    )
    sizes = None
    if name == "irfftn":
        sizes = [*(known.shape[dim] for dim in dims[:-1]), b["last_dim_size"]]
    return transform(write, write.pair(b["self"]), name, sizes, dims, norms[b["normalization"]])


def _shifted(sign: int) -> Callable[[ComplexWriter, dict[str, Any]], Any]:
    """``fftshift`` and its inverse: a roll by half the size."""

    def rewrite(write: ComplexWriter, b: dict[str, Any]) -> Any:
        known = write.like(b["self"])
        if known is None:
            return None
        dims = list(range(known.dim())) if b["dim"] is None else list(as_tuple(b["dim"], 1))
        places = [known.shape[dim] // 2 if sign > 0 else -(known.shape[dim] // 2) for dim in dims]
        if b["self"] in write.parts:
            return write.on_parts(aten.roll, (b["self"], places, dims), {})
        return write(aten.roll, b["self"], places, dims)

    return rewrite


def _frames_of(b: dict[str, Any]) -> tuple[int, int, int]:
    """The size of a transform, the step between frames, and the length of the window."""
    size = b["n_fft"]
    return size, b["hop_length"] or size // 4, b["win_length"] or size


def _window(write: ComplexWriter, b: dict[str, Any], like: Any) -> Any:
    """The window in the middle of a frame; None for ones."""
    size, _, length = _frames_of(b)
    window = b["window"]
    if length == size:
        return window
    if window is None:
        window = write(aten.new_ones, like, [length])
    left = (size - length) // 2
    return write(aten.pad, window, [left, size - length - left], "constant", 0.0)


def _stft(write: ComplexWriter, b: dict[str, Any]) -> Any:
    """The spectra of overlapping frames of a real signal, (…, frequencies, frames)."""
    signal = b["self"]
    known = write.like(signal)
    if known is None or signal in write.parts or b.get("align_to_window"):
        return None
    size, hop, _ = _frames_of(b)
    is_single = known.dim() == 1
    if is_single:
        signal = write(aten.unsqueeze, signal, 0)
    if b.get("center"):
        half = [size // 2, size // 2]
        mode = (b["pad_mode"], 0.0) if b["pad_mode"] == "constant" else (b["pad_mode"],)
        signal = write(aten.pad, signal, half, *mode)
    frames = write(aten.unfold, signal, -1, size, hop)
    window = _window(write, b, signal)
    if window is not None:
        frames = write(aten.mul, frames, window)
    name = "fftn" if b["onesided"] is False else "rfftn"
    norm = "ortho" if b["normalized"] else None
    pair = transform(write, (frames, None), name, None, [2], norm)
    real, imaginary = (write(aten.transpose, part, 1, 2) for part in pair)
    if is_single:
        real, imaginary = (write(aten.squeeze, part, 0) for part in (real, imaginary))
    return (real, imaginary) if b["return_complex"] else write.stacked((real, imaginary))


def _istft(write: ComplexWriter, b: dict[str, Any]) -> Any:
    """The signal of spectra: overlapping frames, added and divided by the sum of their windows."""
    known = write.like(b["self"])
    if known is None or b["self"] not in write.parts or b["return_complex"]:
        return None
    size, hop, _ = _frames_of(b)
    real, imaginary = write.whole(b["self"])
    is_single = known.dim() == 2
    if is_single:
        real, imaginary = (write(aten.unsqueeze, part, 0) for part in (real, imaginary))
    count = known.shape[-1]
    onesided = known.shape[-2] != size if b["onesided"] is None else b["onesided"]
    norm = "ortho" if b["normalized"] else None
    if onesided:
        frames = transform(write, (real, imaginary), "irfftn", [size], [1], norm)
    else:
        frames = transform(write, (real, imaginary), "ifftn", None, [1], norm)[0]
    window = _window(write, b, real)
    whole = write(aten.new_ones, real, [size]) if window is None else window
    column = write(aten.reshape, whole, [1, size, 1])
    if window is not None:
        frames = write(aten.mul, frames, column)
    squares = write(aten.expand, write(aten.mul, column, column), [1, size, count])
    start = size // 2 if b["center"] else 0
    total = size + hop * (count - 1)
    end = total - start if b["length"] is None else start + b["length"]
    signal, weight = (
        write(aten.slice, _overlapped(write, each, size, hop, total), -1, start, min(end, total), 1)
        for each in (frames, squares)
    )
    signal = write(aten.div, signal, weight)
    if end > total:
        signal = write(aten.pad, signal, [0, end - total], "constant", 0.0)
    return write(aten.squeeze, signal, 0) if is_single else signal


def _overlapped(write: ComplexWriter, frames: Any, size: int, hop: int, total: int) -> fx.Node:
    """Frames (N, size, count) added up to signals (N, total)."""
    shape = ([1, total], [1, size], [1, 1], [0, 0], [1, hop])
    image = write(aten.col2im, frames, *shape)
    return write(aten.select, write(aten.select, image, 1, 0), 1, 0)


SPECTRA: dict[str, Callable[[ComplexWriter, dict[str, Any]], Any]] = {
    **{
        f"fft_{kind}{dims}": _named
        for kind in ("fft", "ifft", "rfft", "irfft")
        for dims in ("", "2", "n")
    },
    **dict.fromkeys(("fft_hfft", "fft_ihfft"), _named),
    **dict.fromkeys(("_fft_r2c", "_fft_c2c", "_fft_c2r"), _kernel),
    "fft_fftshift": _shifted(1),
    "fft_ifftshift": _shifted(-1),
    "stft": _stft,
    "istft": _istft,
}
"""How each transform is written."""
