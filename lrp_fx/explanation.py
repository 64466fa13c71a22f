"""An explanation of one sample: the relevance with all that is needed to read, show and keep it."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrp_fx._checks import entries, is_int
from lrp_fx._version import __version__
from lrp_fx.attribution import LRPFx
from lrp_fx.errors import InputError, OptionError, TargetError, blamed, name_of_function
from lrp_fx.relevance import Target
from lrp_fx.visualize import (
    as_pixels,
    bar,
    heatmap,
    overlay,
    show,
    signal,
    to_bytes,
    tokens,
    volume,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

FORMAT = 1
"""The version of the folder's format."""
MANIFEST, RELEVANCE, INPUTS, PICTURE = "manifest.json", "relevance.npy", "inputs.npy", "picture.npy"
HEATMAP, OVERLAY = "heatmap.png", "overlay.png"
LARGEST_MANIFEST = 64 * 2**20
"""A longer manifest, in bytes, is refused before it is read."""
DTYPES = (
    *("float16", "bfloat16", "float32", "float64", "bool"),
    *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
)
"""What relevance and inputs may be of."""
STORABLE = ("f2", "f4", "f8", "b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8")
"""The arrays that are tensors too, of any byte order."""
_WRITERS = Lock()
"""Only one thread at a time puts files in their places."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """What one sample's relevance is, and how it came about. A notebook shows it as a picture.

    Args:
        relevance: ``(1, …)``, of the shape of the input; on the CPU.
        inputs: the model's input, ``(1, …)``; on the CPU.
        picture: what the model saw as 8-bit RGB, ``(H, W, 3)``, if the input is an image.
        prediction: the class with the largest output; None if the output has no classes.
        target: the explained target, as it was passed.
        output: the explained output at the target; None if the target is not one class.
        delta: the sum of the start less the sum of the relevance.
        plan: the plan as text: which operation got which rule, and why.
        names: the names of the classes; empty if none were given.
        words: the names of the input's entries: of tokens, of a table's features, or of channels.
        versions: of the library, torch, and Python.
    """

    relevance: Tensor
    inputs: Tensor
    picture: NDArray[np.uint8] | None
    prediction: int | None
    target: str | int | None
    output: float | None
    delta: float
    plan: str
    names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def target_name(self) -> str:
        """The name of the explained class; its index, or the target, where it has no name."""
        if isinstance(self.target, int) and 0 <= self.target < len(self.names):
            return self.names[self.target]
        return "" if self.target is None else str(self.target)

    @property
    def summary(self) -> str:
        """What was explained, in a line."""
        name = self.target_name or "the output"
        if isinstance(self.target, int) and not self.names:
            name = f"class {self.target}"
        value = "" if self.output is None else f", output {self.output:.4g}"
        other = ""
        if self.prediction is not None and self.prediction != self.target:
            named = 0 <= self.prediction < len(self.names)
            said = self.names[self.prediction] if named else f"class {self.prediction}"
            other = f" (the model says {said})"
        return f"{name}{value}{other}"

    def show(self, *, smooth: float = 0.0) -> Figure:
        """The figure that fits the input: an image, a signal, a volume, tokens or a row.

        Args:
            smooth: σ of Gaussian smoothing, for images, signals and volumes.

        Raises:
            InputError: for relevance of a shape that has no figure.
            OptionError: if matplotlib is missing.
        """
        name, title, shape = self.target_name, self.summary, self.relevance.shape
        if len(shape) == 4:
            picture = self.picture
            return show(self._map, picture, target=name, title=title, smooth=smooth)
        if len(shape) == 5:
            return volume(self.relevance, self.inputs, target=name, title=title, smooth=smooth)
        if len(shape) == 3:
            channels = self.words if len(self.words) == shape[1] else None
            return signal(
                self.relevance, self.inputs, names=channels, target=name, title=title, smooth=smooth
            )
        if len(shape) == 2 and self._is_text:
            return tokens(self._shown_words, self.relevance, target=name).figure(title)
        if len(shape) == 2:
            return bar(self.relevance, self.words or None, self.inputs, target=name, title=title)
        raise InputError(f"there is no figure for relevance of shape {tuple(shape)}")

    def overlay(self, *, smooth: float = 0.0) -> Figure:
        """The map with the outlines of the picture.

        Args:
            smooth: σ of Gaussian smoothing in pixels.

        Raises:
            InputError: if there is no picture.
            OptionError: if matplotlib is missing.
        """
        if self.picture is None:
            raise InputError("only the explanation of an image has an overlay: use show()")
        name, title = self.target_name, self.summary
        return overlay(self._map, self.picture, target=name, title=title, smooth=smooth)

    @property
    def _map(self) -> Tensor:
        """The relevance of an image, summed over its channels, (1, 1, H, W)."""
        return heatmap(self.relevance, dims=2)[:, None]

    @property
    def _is_text(self) -> bool:
        return not self.inputs.is_floating_point()

    @property
    def _shown_words(self) -> Sequence[str]:
        return self.words or [str(index) for index in self.inputs[0].tolist()]

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write a folder: arrays (.npy), pictures (.png), and at last ``manifest.json``.

        All files are made in memory first and take their places together at the end. So a save that
        fails leaves an older explanation as it was, and of several writers the last one wins. The
        manifest has the SHA-256 of all files: a folder without one, or with one that does not fit,
        is no explanation.

        Args:
            folder: it is made if it is not there. Files of these names in it are replaced.

        Returns:
            The folder.

        Raises:
            InputError: if it cannot be written.
            OptionError: if the folder is no path, or if matplotlib is missing.
        """
        place = _path(folder)
        contents = {RELEVANCE: _npy(self.relevance), INPUTS: _npy(self.inputs)}
        contents[HEATMAP] = to_bytes(self.show())
        if self.picture is not None:
            contents[PICTURE] = _npy(self.picture)
            contents[OVERLAY] = to_bytes(self.overlay())
        manifest = {
            "format": FORMAT,
            "files": {name: hashlib.sha256(each).hexdigest() for name, each in contents.items()},
            "dtypes": [str(each.dtype).removeprefix("torch.") for each in self._tensors],
            **{name: getattr(self, name) for name in KINDS},
            "versions": dict(self.versions),
        }
        try:
            contents[MANIFEST] = json.dumps(manifest, indent=1, allow_nan=False).encode()
        except ValueError as error:
            raise InputError(
                f"an explanation needs a finite delta and output to be saved, not {self.delta} and "
                f"{self.output}"
            ) from error
        _put(place, contents)
        return place

    @property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        return self.relevance, self.inputs

    def _repr_png_(self) -> bytes:
        return to_bytes(self.show())

    def __str__(self) -> str:
        shape = tuple(self.relevance.shape)
        return f"explanation of {self.summary}: relevance {shape}, delta {self.delta:.4g}"

    def __repr__(self) -> str:
        return f"<{self}>"


KINDS: dict[str, tuple[type, ...]] = {
    "prediction": (int, type(None)),
    "target": (int, str, type(None)),
    "output": (int, float, type(None)),
    "delta": (int, float),
    "plan": (str,),
    "names": (list, tuple),
    "words": (list, tuple),
}
"""The fields in the manifest that are written as they are, and their types."""


def explain(
    lrp: LRPFx,
    inputs: Tensor | NDArray[np.generic] | Image.Image,
    target: Target | Literal["predicted"] = "predicted",
    *,
    preprocess: Callable[[Image.Image], Tensor] | None = None,
    display: Callable[[Image.Image], Image.Image] | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    names: Sequence[str] | Mapping[int, str] | None = (),
    words: Sequence[str] | None = (),
    additional_forward_args: object = None,
) -> Explanation:
    """Explain one sample, and keep what is needed to read, show and save the result.

    Args:
        lrp: the attribution, ``LRPFx(model)``.
        inputs: one sample: a tensor or an array (1, …), or a photograph of PIL with ``preprocess``.
        target: as in :meth:`LRPFx.attribute <lrp_fx.LRPFx.attribute>`; ``"predicted"`` for the class
            with the largest output, None where no target is needed.
        preprocess: from a photograph to the model's input (C, H, W) or (1, C, H, W).
        display: from a photograph to what the model sees of it, of H × W pixels. Without it, the
            input itself is shown, by ``mean`` and ``std``.
        mean: what ``preprocess`` subtracts from pixels in [0, 1], one value or one per channel.
        std: what it then divides by.
        names: of the classes, in order, or a mapping from their indices, such as ``id2label``.
        words: one for each of the tokens, of the features of a table, or of the channels of a signal.
        additional_forward_args: further arguments of the model.

    Returns:
        The explanation: ``.show()``, ``.save(folder)``, ``.relevance``, and more.

    Raises:
        InputError: if the input is not one sample, or is a photograph without ``preprocess``; for
            names or words that do not fit.
        TargetError: for ``"predicted"`` if the output has no classes.
        LRPError: the errors of :meth:`LRPFx.attribute <lrp_fx.LRPFx.attribute>`.
    """
    if not isinstance(lrp, LRPFx):
        raise InputError(f"explain needs an LRPFx, such as LRPFx(model), not {type(lrp).__name__}")
    listed = _listed("words", words)
    x, shown = _sample(lrp, inputs, preprocess, display)
    with torch.no_grad():
        scores = lrp.explained_output(x, additional_forward_args)
    classes = scores.ndim == 2 and scores.shape[1] > 1
    named = _names(names, scores.shape[1] if classes else None)
    prediction = int(scores[0].argmax()) if classes else None
    if isinstance(target, str):
        if target != "predicted":
            raise TargetError(f"target must be 'predicted' or a target, got {target!r}")
        if prediction is None and scores[0].numel() > 1:
            raise TargetError(
                f"the output {tuple(scores.shape)} has no single predicted class: pass target="
            )
        chosen: Target = prediction
    else:
        chosen = target
    relevance, delta = lrp.attribute(
        x, chosen, additional_forward_args, return_convergence_delta=True
    )
    if listed and relevance.ndim in (2, 3) and len(listed) != relevance.shape[1]:
        raise InputError(f"{relevance.shape[1]} words are needed, got {len(listed)}")
    index = _index_of(chosen)
    if isinstance(index, int) and index < 0 and classes:
        index += scores.shape[1]
    output = None
    if isinstance(index, int) and classes:
        output = float(scores[0, index])
    elif chosen is None and scores[0].numel() == 1:
        output = float(scores)
    picture = None
    if relevance.ndim == 4:
        picture = as_pixels(x, mean, std) if shown is None else as_pixels(shown)
        (high, wide), (height, width) = picture.shape[:2], relevance.shape[2:]
        if high % height or wide % width or high // height != wide // width:
            raise InputError(
                f"{'the input has' if shown is None else 'display gives'} {high} × {wide} pixels, but "
                f"the relevance has {height} × {width} positions: its channels must come before "
                "them, and display must return what the model sees"
            )
    return Explanation(
        relevance=relevance.detach().cpu(),
        inputs=x.detach().cpu(),
        picture=picture,
        prediction=prediction,
        target=index,
        output=output,
        delta=float(delta.detach()),
        plan=str(lrp.plan()),
        names=named,
        words=listed,
        versions={
            "lrp_fx": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )


def _listed(name: str, texts: Sequence[str] | None) -> tuple[str, ...]:
    """A sequence of texts; one text is none, because it would be cut into letters."""
    if texts is None:
        return ()
    found = None if isinstance(texts, (str, bytes, Mapping)) else entries(texts)
    if found is None:
        raise InputError(f"{name} must be a list of texts, got {texts!r}")
    return tuple(map(str, found))


def _names(names: Sequence[str] | Mapping[int, str] | None, classes: int | None) -> tuple[str, ...]:
    """The names of the classes in order, also of a mapping from their indices, as ints or texts."""
    if not isinstance(names, Mapping):
        return _listed("names", names)
    try:
        named = {int(key): str(name) for key, name in names.items()}
    except (TypeError, ValueError):
        raise InputError(
            f"names must be a list, or map the indices of classes to names, got {names!r}"
        ) from None
    count = len(named) if classes is None else classes
    if any(not 0 <= index < count for index in named):
        raise InputError(f"names must have indices from 0 to {count - 1}, got {sorted(named)}")
    return tuple(named.get(index, f"class {index}") for index in range(count)) if named else ()


def _sample(
    lrp: LRPFx,
    inputs: Tensor | NDArray[np.generic] | Image.Image,
    preprocess: Callable[[Image.Image], Tensor] | None,
    display: Callable[[Image.Image], Image.Image] | None,
) -> tuple[Tensor, Image.Image | None]:
    """The model's input, and the picture that is shown instead of it."""
    shown = None
    if isinstance(inputs, np.ndarray):
        if inputs.dtype.str[1:] not in STORABLE or inputs.dtype.kind == "b":
            raise InputError(
                f"an array must hold real numbers that a tensor can hold, not {inputs.dtype}"
            )
        inputs = torch.from_numpy(_native(inputs))
    if not isinstance(inputs, Tensor):
        if isinstance(inputs, (tuple, list, dict, str)) or not hasattr(inputs, "convert"):
            raise InputError(
                "explain takes one tensor, array or photograph of PIL, not "
                f"{type(inputs).__name__}; for several inputs use attribute"
            )
        if preprocess is None:
            raise InputError(
                "a photograph needs preprocess=, the function that makes the model's input of it"
            )
        photograph = inputs
        with blamed(f"preprocess {name_of_function(preprocess)!r}"):
            inputs = preprocess(photograph)
        if not isinstance(inputs, Tensor):
            raise InputError(f"preprocess must return a tensor, not {type(inputs).__name__}")
        inputs = inputs[None] if inputs.ndim == 3 else inputs
        if display is not None:
            with blamed(f"display {name_of_function(display)!r}"):
                shown = display(photograph)
            if shown is None:
                raise InputError("display must return a picture, not None")
    if inputs.ndim < 2 or inputs.shape[0] != 1:
        raise InputError(
            f"explain takes one sample, of shape (1, …), not {tuple(inputs.shape)}; for a batch: "
            "[explain(lrp, x[n : n + 1]) for n in range(len(x))]"
        )
    parameter = next(iter(lrp.forward_func.parameters()), None)
    return inputs if parameter is None else inputs.to(parameter.device), shown


def _index_of(target: Target) -> str | int | None:
    """The target as a class; in words if it is not one."""
    if target is None:
        return None
    if isinstance(target, (Tensor, np.ndarray)):
        listed = np.ravel(np.asarray(target.tolist())).tolist()
        return int(listed[0]) if len(listed) == 1 else str(listed)
    if isinstance(target, (list, tuple)) and len(target) == 1:
        only = target[0]
        return str(only) if isinstance(only, slice) else _index_of(only)
    return int(target) if is_int(target) else str(target)


def load_explanation(folder: str | os.PathLike[str]) -> Explanation:
    """The explanation that :meth:`Explanation.save` wrote. No code of the folder is run.

    Args:
        folder: the folder.

    Raises:
        InputError: if the folder is incomplete, changed, or none of ours; the message says what is
            wrong.
    """
    place = _path(folder)
    if not place.is_dir():
        raise _malformed(place, f"it holds no {MANIFEST}, which is written last")
    try:
        with _locked(place, write=False):
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
        raise _malformed(place, f"{PICTURE} is no picture of 8-bit RGB")
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
            raise _malformed(place, f"{name!r} of its manifest holds something else than texts")
        fields[name] = tuple(fields[name])
    versions = _field(place, manifest, "versions", (dict,))
    if not all(isinstance(each, str) for each in versions.values()):
        raise _malformed(place, "the versions of its manifest are no texts")
    return Explanation(
        relevance=relevance, inputs=inputs, picture=picture, versions=versions, **fields
    )


def _path(folder: str | os.PathLike[str]) -> Path:
    """The folder as a path."""
    try:
        return Path(os.fsdecode(folder))
    except TypeError:
        raise OptionError(f"folder must be a path, got {folder!r}") from None


@contextmanager
def _locked(place: Path, *, write: bool) -> Iterator[None]:
    """Be the only writer of a folder, or one of its readers while nobody writes.

    The lock is the operating system's on the folder itself: it leaves no file, and ends with the
    process. Where there is none, only the threads of this process wait for each other.
    """
    if sys.platform == "win32":
        with _WRITERS:
            yield
        return
    import fcntl

    folder = os.open(place, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(folder, fcntl.LOCK_EX if write else fcntl.LOCK_SH)
        yield
    finally:
        os.close(folder)


def _put(place: Path, contents: Mapping[str, bytes]) -> None:
    """Write the files under other names, then give all of them their places, the manifest last."""
    parts = {name: place / f".{uuid4().hex}.part" for name in contents}
    try:
        place.mkdir(parents=True, exist_ok=True)
        try:
            for name, content in contents.items():
                parts[name].write_bytes(content)
            with _locked(place, write=True):
                for name, part in parts.items():
                    part.replace(place / name)
                for name in {PICTURE, OVERLAY} - contents.keys():  # of an earlier explanation
                    (place / name).unlink(missing_ok=True)
        finally:
            for part in parts.values():
                part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to '{place}': {error.strerror or error}") from error


def _malformed(place: Path, why: str) -> InputError:
    return InputError(f"'{place}' is no saved explanation, or is damaged: {why}")


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
    return _native(array)


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """A copy in the order of bytes and entries that torch takes."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)


def _npy(values: Tensor | NDArray[np.uint8]) -> bytes:
    """The file of an array."""
    file = io.BytesIO()
    np.save(file, _stored(values) if isinstance(values, Tensor) else values, allow_pickle=False)
    return file.getvalue()


def _stored(tensor: Tensor) -> NDArray[np.generic]:
    """The tensor as an array that .npy can hold: bfloat16 as float32, which has all its values."""
    plain = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    array: NDArray[np.generic] = plain.numpy()
    return array
