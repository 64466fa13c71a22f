"""Data sets that are objects: of torch, of Hugging Face, or anything with a length and items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from torch.utils.data import TensorDataset

from lrp_fx._common import digest
from lrp_fx.dataset.images import Preprocess, of_image
from lrp_fx.dataset.sample import Sample, as_inputs, as_label, spread
from lrp_fx.errors import InputError, LRPError, OptionError, in_words, lacks_memory

INPUTS = (
    "image",
    "img",
    "pixel_values",
    "inputs",
    "input",
    "input_values",
    "input_ids",
    "x",
    "data",
)
LABELS = ("label", "labels", "fine_label", "target", "y")
PROBED = 16
"""The number of samples by which a data set is compared with another one."""
IDS = ("id", "image_id", "path", "__key__")


@dataclass(frozen=True)
class Items:
    """The meaning of an item of a data set.

    Args:
        preprocess: makes the model's input of an image.
        inputs: the column of the inputs, if the items are dicts; None for one of the usual names.
        label: the column of the class.
    """

    preprocess: Preprocess | None
    inputs: str | None = None
    label: str | None = None

    def sample(self, name: str, item: Any) -> Sample:
        """The sample of an item: ``inputs``, ``(inputs, label)`` or a dict.

        Raises:
            InputError: for anything else.
        """
        if isinstance(item, Mapping):
            value = item[_key(item, self.inputs, INPUTS, "inputs")]
            key = _key(item, self.label, LABELS, None)
            label = item[key] if key else None
            named = next(
                (item[each] for each in IDS if isinstance(item.get(each), (str, int))), name
            )
            name = str(named)
        elif isinstance(item, (tuple, list)) and len(item) in (1, 2):
            value, label = (*item, None)[:2]
        elif isinstance(item, (tuple, list)):
            raise InputError(f"an item must be inputs or (inputs, label), got {len(item)} parts")
        else:
            value, label = item, None
        if hasattr(value, "convert"):  # an image of PIL
            return Sample(name, of_image(value, self.preprocess), as_label(label))
        return Sample(name, as_inputs(value), as_label(label))


def _key(item: Mapping[str, Any], key: str | None, usual: tuple[str, ...], what: str | None) -> str:
    """The column that is meant; an empty one if it may be missing."""
    if key is not None:
        if key not in item:
            raise InputError(f"there is no column {key!r}, but {', '.join(map(str, item))}")
        return key
    found = next((each for each in usual if each in item), "")
    if not found and what:
        raise InputError(
            f"name the column of the {what} by key=: there are {', '.join(map(str, item))}"
        )
    return found


class MapSource:
    """A data set with a length and items.

    Args:
        data: the data set.
        items: what an item means.
    """

    def __init__(self, data: Any, items: Items) -> None:
        self._data, self._items = data, items
        try:
            self._count = len(data)
        except Exception as error:
            raise InputError(f"the length of the data set fails with {in_words(error)}") from error
        if self._count < 1:
            raise InputError("the data set is empty")
        self.names = _names(data, items.label)

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        """The number of the sample."""
        return str(index)

    def content(self) -> object:
        """The kind and length of the data set, its fingerprint or else some samples, and the function.

        Of lists and data sets of tensors, which are in memory, all samples count.
        """
        mark: object = getattr(self._data, "_fingerprint", None)
        if not isinstance(mark, str):
            whole = isinstance(self._data, (list, tuple, TensorDataset))
            places = spread(self._count, self._count if whole else PROBED)
            mark = [digest(_tried(partial(self.read, n), str(n))) for n in places]
        return _kind(self._data), self._count, mark, self._items

    def stamp(self, samples: range) -> None:
        """Nothing is known of files."""

    def read(self, index: int) -> Sample:
        """The sample of an item."""
        return self._items.sample(self.name(index), self._data[index])


class IterableStream:
    """A data set that can only be iterated, in an order that is always the same.

    Args:
        data: the data set.
        items: what an item means.
    """

    def __init__(self, data: Any, items: Items) -> None:
        self._data, self._items = data, items
        self.names = _names(data, items.label)

    def content(self) -> object:
        """The kind of the data set, its first samples, and the function.

        Raises:
            InputError: if it gives other samples when it is read again.
        """
        first, again = ([digest(each) for each in islice(self.samples(), PROBED)] for _ in range(2))
        if first != again:
            raise InputError(
                "the data set gives other samples when it is read again: it must start again with each "
                "iter(), always in the same order, and without random changes"
            )
        return _kind(self._data), first, self._items

    def samples(self) -> Iterator[Sample]:
        """All samples; an item that means none carries the reason.

        Raises:
            InputError: if the data set itself fails: what comes after is not known.
        """
        number = 0
        try:
            for number, item in enumerate(self._data, 1):
                name = str(number - 1)
                yield _tried(partial(self._items.sample, name, item), name)
        except Exception as error:
            if isinstance(error, LRPError) or lacks_memory(error):
                raise
            raise InputError(
                f"the data set fails with {in_words(error)}, after {number} samples; what was committed "
                "is safe: run the same again"
            ) from error


def _tried(read: Callable[[], Sample], name: str) -> Sample:
    """A sample, or the reason why there is none."""
    try:
        return read()
    except Exception as error:
        if lacks_memory(error):
            raise
        return Sample(name, None, None, reason_of(error))


def _kind(data: object) -> str:
    return f"{type(data).__module__}.{type(data).__qualname__}"


def reason_of(error: Exception) -> str:
    """The reason in the table: the sentence of our errors, the kind and first line of others."""
    return " ".join(str(error).split()) if isinstance(error, InputError) else in_words(error)


def _names(data: Any, label: str | None) -> tuple[str, ...]:
    """The names of the classes that a data set of Hugging Face or torchvision states."""
    features = getattr(data, "features", None)
    if isinstance(features, Mapping):
        for each in (label,) if label else LABELS:
            found = getattr(features.get(each), "names", None)
            if isinstance(found, (list, tuple)):
                return tuple(map(str, found))
    classes = getattr(data, "classes", None)
    return tuple(map(str, classes)) if isinstance(classes, (list, tuple)) else ()


def check_columns(key: object) -> None:
    """Raise an ``OptionError`` unless a key is a text or None."""
    if key is not None and not isinstance(key, str):
        raise OptionError(f"key must be the name of an array or column, got {key!r}")
