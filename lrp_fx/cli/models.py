"""The model of a command: loaded by name, with the options for its preprocessing, names and device."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrp_fx.cli.options import ModelOptions
from lrp_fx.cli.photographs import check_readable
from lrp_fx.cli.talk import Talk, shown
from lrp_fx.errors import InputError, OptionError
from lrp_fx.zoo import LoadedModel, Preprocessing, load, own_function

MISSING_DEVICES = (AssertionError, NotImplementedError, RuntimeError)
"""The errors of torch for a device that does not exist."""


def open_model(options: ModelOptions, talk: Talk) -> LoadedModel:
    """The model on its device, with a preprocessing for photographs.

    Raises:
        LRPError: if it cannot be loaded, or an option does not fit.
    """
    device = device_of(options.device, talk)
    names = None if options.categories is None else read_categories(options.categories)
    loaded = load(options.model, options.weights)
    loaded.model.to(device)
    if options.preprocess is not None:
        function = own_function(options.preprocess)
        loaded = replace(loaded, preprocess=function, display=None, bounds=None)
    preprocessing = _preprocessing(options, loaded, talk)
    if preprocessing is not None:
        loaded = replace(
            loaded,
            preprocess=preprocessing.tensor,
            display=preprocessing.display,
            bounds=preprocessing.bounds(),
        )
    return loaded if names is None else replace(loaded, categories=names)


def device_of(name: str, talk: Talk) -> torch.device:
    """The device, or the CPU with a note where the device is not there.

    Raises:
        OptionError: if torch knows no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        first = str(error).partition("\n")[0]
        raise OptionError(f"cannot compute on device {name!r}: {first}") from error
    if device.type == "meta":
        raise OptionError("cannot compute on device 'meta', which keeps no values")
    try:
        torch.zeros(1, device=device)
    except MISSING_DEVICES:
        talk.note(f"there is no device {name!r} here: computing on the CPU, with the same result")
        return torch.device("cpu")
    return device


def device_of_model(model: nn.Module) -> torch.device:
    """Where the model's tensors are; the CPU if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def _preprocessing(options: ModelOptions, loaded: LoadedModel, talk: Talk) -> Preprocessing | None:
    """The preprocessing that the options ask for; None if the model's own is right."""
    given = (options.mean, options.std, options.resize, options.crop)
    asked = options.grey or any(each is not None for each in given)
    own = loaded.preprocess is not None
    if own and not asked:
        return None
    channels = 1 if options.grey else channels_of(loaded)
    before = getattr(loaded.preprocess, "__self__", None)
    base = before if isinstance(before, Preprocessing) else None
    mean, std = _statistics(loaded)
    resize = _size(options.resize)
    if resize is None:
        resize = base.resize if base else 0
    crop = options.crop
    if crop is None:
        crop = base.crop if base and options.resize != "0" else 0
    made = Preprocessing(
        resize,
        crop,
        _numbers("mean", options.mean, channels) or _of_channels(mean, channels),
        _numbers("std", options.std, channels) or _of_channels(std, channels),
        grey=channels == 1,
        **({"interpolation": base.interpolation} if base else {}),
    )
    if min(made.std) < torch.finfo(torch.float32).tiny:
        raise OptionError("std must not be 0 or less: pixels are divided by it")
    if own and base is None:
        talk.note("the options replace the model's own preprocessing: it neither resizes nor crops")
    if not own and not asked:
        talk.note(
            "the model brings no preprocessing: photographs go in as they are, with pixels in [0, 1]; "
            "see --resize, --crop, --mean and --std"
        )
    return made


def channels_of(loaded: LoadedModel) -> int:
    """How many channels the photographs of the model have: one or three."""
    if loaded.bounds is not None:
        return len(loaded.bounds[0])
    for module in loaded.model.modules():
        if isinstance(module, nn.Conv2d):
            return 1 if module.in_channels == 1 else 3
    return 3


def _statistics(loaded: LoadedModel) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the model's own preprocessing; 0 and 1 if there is none."""
    if loaded.bounds is None:
        return (0.0,), (1.0,)
    low, high = (each.flatten() for each in loaded.bounds)
    std = 1 / (high - low)
    return tuple((-low * std).tolist()), tuple(std.tolist())


def _of_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """The values for as many channels; their mean where there are others."""
    return values if len(values) == channels else (math.fsum(values) / len(values),) * channels


def _numbers(name: str, text: str | None, channels: int) -> tuple[float, ...]:
    """The numbers of an option, one for each channel; none if it was not given."""
    if text is None:
        return ()
    try:
        found = tuple(float(each) for each in text.split(","))
    except ValueError:
        found = ()
    if len(found) not in (1, channels) or not all(map(math.isfinite, found)):
        many = f", or {channels} with commas between them" if channels > 1 else ""
        raise OptionError(f"{name} must be a number{many}, got {text!r}")
    return found * channels if len(found) == 1 else found


def _size(text: str | None) -> int | tuple[int, int] | None:
    """The size of an option: the shorter side, or height and width."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", text.strip())
    if match is None or (match[2] is not None and 0 in (int(match[1]), int(match[2]))):
        raise OptionError(f"resize must be a number of pixels or HEIGHTxWIDTH, got {text!r}")
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


def read_categories(file: Path) -> tuple[str, ...]:
    """The names of classes in a file: one on each line, or JSON, also with ``id2label``.

    Raises:
        InputError: if it cannot be read, or holds no names.
    """
    check_readable(file)
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() != ".json":
            found = [line.strip() for line in text.splitlines()]
            while found and not found[-1]:
                found.pop()
            names = tuple(found)
        else:
            names = _in_order(json.loads(text))
    except OSError as error:
        raise InputError(f"cannot read {shown(file)}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        kind = "JSON" if file.suffix.lower() == ".json" else "text in UTF-8"
        raise InputError(f"cannot read {shown(file)}: it is not {kind}") from error
    if not names:
        raise InputError(
            f"{shown(file)} holds no names of classes: it needs one on each line, or in JSON a list, or "
            '{"0": "name", "1": "name"}'
        )
    return names


def _in_order(found: Any) -> tuple[str, ...]:
    """The names in a list or a mapping from indices; none if it is neither."""
    if isinstance(found, dict):
        found = found.get("id2label", found)
    if isinstance(found, dict):
        keys = [str(index) for index in range(len(found))]
        found = [found[key] for key in keys] if set(keys) == found.keys() else None
    if not isinstance(found, list):
        return ()
    return tuple(str(each) for each in found)


def check_categories(categories: tuple[str, ...], scores: Tensor) -> None:
    """Raise an ``OptionError`` unless there is a name for each class, or no name at all."""
    if categories and scores.ndim == 2 and len(categories) != scores.shape[1]:
        raise OptionError(
            f"there are {len(categories)} names of classes, but the model has {scores.shape[1]} outputs"
        )
