"""Reads a saved explanation back, and refuses what is damaged."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lrp_fx._common import is_int
from lrp_fx.errors import InputError
from lrp_fx.explanation.explanation import KINDS, Explanation
from lrp_fx.explanation.files import (
    FORMAT,
    HEATMAP,
    INPUTS,
    MANIFEST,
    OVERLAY,
    PICTURE,
    RELEVANCE,
    STORABLE,
    locked,
    native,
    path_of,
)

LARGEST_MANIFEST = 64 * 2**20
"""A longer manifest, in bytes, is refused before it is read."""
DTYPES = (
    *("float16", "bfloat16", "float32", "float64", "bool"),
    *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
)
"""The dtypes that relevance and inputs may have."""


def load_explanation(folder: str | os.PathLike[str]) -> Explanation:
    """The explanation that :meth:`Explanation.save` wrote. No code of the folder is run.

    Args:
        folder: the folder.

    Raises:
        InputError: if the folder is incomplete, was changed, or was not written by this library;
            the message says which.
    """
    place = path_of(folder)
    if not place.is_dir():
        raise _malformed(place, f"it holds no {MANIFEST}, which is written last")
    try:
        with locked(place, write=False):
            manifest = _manifest(place)
            files = _field(place, manifest, "files", (dict,))
            contents = {
                name: _content(place / name, files[name])
                for name in (RELEVANCE, INPUTS, PICTURE, HEATMAP, OVERLAY)
                if name in files
            }
    except OSError as error:
        raise InputError(f"cannot read '{place}': {error.strerror or error}") from error
    arrays = {
        name: _array(place / name, content)
        for name, content in contents.items()
        if name.endswith(".npy")
    }
    if RELEVANCE not in arrays or INPUTS not in arrays:
        raise _malformed(place, f"its manifest does not list {RELEVANCE} and {INPUTS}")
    picture = arrays.get(PICTURE)
    if picture is not None and (
        picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3
    ):
        raise _malformed(place, f"{PICTURE} is not a picture of 8-bit RGB")
    dtypes = _field(place, manifest, "dtypes", (list,))
    tensors = [torch.from_numpy(arrays[name]) for name in (RELEVANCE, INPUTS)]
    if len(dtypes) != 2 or any(name not in DTYPES for name in dtypes):
        raise _malformed(place, "its dtypes are unknown")
    relevance, inputs = (
        each.to(getattr(torch, name)) for each, name in zip(tensors, dtypes, strict=True)
    )
    if relevance.ndim < 2 or not relevance.is_floating_point() or len(relevance) != 1:
        raise _malformed(place, f"{RELEVANCE} is not the relevance of one sample")
    if not torch.isfinite(relevance).all():
        raise _malformed(place, f"{RELEVANCE} holds NaN or infinity")
    fields = {name: _field(place, manifest, name, kinds) for name, kinds in KINDS.items()}
    for name in ("names", "words"):
        if not all(isinstance(each, str) for each in fields[name]):
            raise _malformed(place, f"{name!r} of its manifest holds something other than texts")
        fields[name] = tuple(fields[name])
    versions = _field(place, manifest, "versions", (dict,))
    if not all(isinstance(each, str) for each in versions.values()):
        raise _malformed(place, "the versions of its manifest are not texts")
    return Explanation(
        relevance=relevance, inputs=inputs, picture=picture, versions=versions, **fields
    )


def _malformed(place: Path, why: str) -> InputError:
    return InputError(f"'{place}' is not a saved explanation, or is damaged: {why}")


def _manifest(place: Path) -> dict[str, Any]:
    """The manifest of a folder."""
    path = place / MANIFEST
    if not path.is_file():
        raise _malformed(place, f"it holds no {MANIFEST}, which is written last")
    try:
        if path.stat().st_size > LARGEST_MANIFEST:
            raise _malformed(place, f"{MANIFEST} is too large")
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _malformed(place, f"{MANIFEST} is not JSON") from error
    if not isinstance(found, dict) or not _is_format(found.get("format")):
        raise _malformed(place, f"{MANIFEST} does not say format {FORMAT}")
    return found


def _field(place: Path, manifest: Mapping[str, Any], name: str, kinds: tuple[type, ...]) -> Any:
    """A field of the manifest of the right type."""
    value: Any = manifest.get(name, manifest)
    if not isinstance(value, kinds) or isinstance(value, bool) or value is manifest:
        raise _malformed(place, f"{name!r} of its manifest is missing or of a wrong type")
    if isinstance(value, (int, float)) and float in kinds and not _is_finite(value):
        raise _malformed(place, f"{name!r} of its manifest is not finite")
    return value


def _is_format(value: object) -> bool:
    return is_int(value) and value == FORMAT


def _is_finite(value: float) -> bool:
    """Whether a number of a file fits into a float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _content(path: Path, digest: object) -> bytes:
    """A file that is what the manifest says."""
    if not path.is_file():
        raise _malformed(path.parent, f"it holds no {path.name}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise _malformed(path.parent, f"{path.name} is not the file that its manifest describes")
    return content


def _array(path: Path, content: bytes) -> NDArray[Any]:
    """The array in a file."""
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # whatever the parsers of damaged headers and archives raise
        raise _malformed(path.parent, f"{path.name} holds no plain array of numbers") from error
    if not isinstance(array, np.ndarray) or array.dtype.str[1:] not in STORABLE:
        raise _malformed(path.parent, f"{path.name} holds no plain array of numbers")
    return native(array)
