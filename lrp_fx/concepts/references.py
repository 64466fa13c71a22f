"""Relevance maximization: the samples of a data set on which each channel is most relevant."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrp_fx._common import (
    check_count,
    check_file,
    check_flag,
    digest,
    entries,
    is_int,
    locked,
    write_whole,
)
from lrp_fx.attribution import AnyInputs, check_inputs, check_same, given, identity_of
from lrp_fx.concepts.concept import ConceptLRPFx
from lrp_fx.errors import InputError, OptionError
from lrp_fx.plan import Layer, as_layers
from lrp_fx.relevance import Target


@dataclass(frozen=True)
class _Settings:
    """The settings under which a state on disk was collected."""

    layers: tuple[str, ...]
    count: int
    normalize: bool

    def __str__(self) -> str:
        measure = "normalized" if self.normalize else "plain"
        return f"{self.count} samples of {', '.join(self.layers)} by {measure} relevance"


class References:
    """For each channel of some layers, the samples with its largest relevance (Achtibat et al.
    2023).

    The state is written to ``path`` after each batch. A run that was interrupted continues where it
    stopped, and skips samples that it has seen. The state belongs to one model, composite, filter and
    data set with its targets; others are refused. One writer at a time may update it.

    Args:
        concepts: explains the model.
        layers: the layers with the channels.
        path: the file of the state; it is created if it does not exist.
        count: how many samples to keep for each channel.
        normalize: measure relevance as a share of Σ |R| over the sample's channels.

    Raises:
        OptionError: if the folder of the file does not exist; if the file holds other layers,
            another count or another ``normalize``, or no references at all; or for an argument of
            the wrong type.
        RunError: if the file was made with another model, composite, filter or version.
        InputError: if the list of layers is empty or holds something else.
    """

    def __init__(
        self,
        concepts: ConceptLRPFx,
        layers: Sequence[Layer],
        path: str | os.PathLike[str],
        *,
        count: int = 16,
        normalize: bool = True,
    ) -> None:
        if not isinstance(concepts, ConceptLRPFx):
            raise OptionError(f"concepts must be a ConceptLRPFx, got {type(concepts).__name__}")
        check_flag("normalize", normalize)
        check_count("count", count)
        if not isinstance(path, (str, os.PathLike)):
            raise OptionError(f"path must be the path of a file, got {path!r}")
        check_file("path", path)
        self.concepts, self.layers, self.path = concepts, as_layers(layers), Path(path)
        names = tuple(concepts.name_of(layer) for layer in self.layers)
        self.settings = _Settings(names, count, normalize)
        self.identity = identity_of(concepts)
        self.seen = 0
        self._data = ""
        self._values: list[Tensor] = []
        self._indices: list[Tensor] = []
        if self.path.exists():
            self._load()

    def update(self, batches: Iterable[tuple[AnyInputs, Target]]) -> None:
        """Process a data set, or the part of it that was not seen yet.

        Args:
            batches: (inputs, target) pairs, always in the same order and from the first; inputs and
                targets as in :meth:`lrp_fx.LRPFx.attribute`.

        Raises:
            InputError: for anything but pairs; if the last run stopped within one of the batches, or
                saw other samples or targets.
            RunError: if another process or thread updates the state, or it cannot be written.
            LRPError: the errors of :meth:`lrp_fx.ConceptLRPFx.channel_relevance`.
        """
        with locked(self.path.with_name(f".{self.path.name}.lock"), f"'{self.path}'"):
            if self.path.exists():  # another writer may have gone on
                self._load()
            self._update(batches)

    def _update(self, batches: Iterable[tuple[AnyInputs, Target]]) -> None:
        start, data = 0, ""
        for inputs, target, size in _pairs(batches, self.concepts.forward_func):
            data = digest(data, inputs, target.tolist() if isinstance(target, Tensor) else target)
            if start + size > self.seen:
                if start < self.seen:
                    raise InputError(
                        f"the last run, after {self.seen} samples, ends within a batch: use the batch "
                        "size of that run"
                    )
                self._add(inputs, target, start)
                self.seen, self._data = start + size, data
                self._save()
            elif start + size == self.seen and data != self._data:
                raise InputError(
                    f"'{self.path}' was made of other samples or targets: the first {self.seen} must be "
                    "the same, in the same order"
                )
            start += size

    def top(self, layer: Layer, channel: int) -> tuple[list[int], list[float]]:
        """The samples on which a channel is most relevant: their indices and its relevance there.

        Args:
            layer: one of the layers.
            channel: the index of the channel.

        Returns:
            The indices in the data set, by decreasing relevance, and the relevance for each.

        Raises:
            InputError: for an unknown layer or channel, or before the first update.
        """
        names, name = self.settings.layers, self.concepts.name_of(layer)
        if name not in names or not self._values:
            raise InputError(f"nothing is known of '{name}': the layers are {', '.join(names)}")
        place = names.index(name)
        values, indices = self._values[place], self._indices[place]
        if not is_int(channel) or not 0 <= channel < values.shape[1]:
            raise InputError(
                f"the layer '{name}' has {values.shape[1]} channels, and no {channel!r}"
            )
        return indices[:, channel].tolist(), values[:, channel].tolist()

    def _add(self, inputs: Any, target: Target, start: int) -> None:
        found = self.concepts.channel_relevance(inputs, self.layers, target)
        for i, relevance in enumerate(found):
            values = torch.as_tensor(relevance).float()
            if self.settings.normalize:
                total = values.abs().sum(1, keepdim=True)
                values = torch.where(total > 0, values / total, 0)
            places = torch.arange(start, start + len(values), device=values.device)
            indices = places.unsqueeze(1).expand_as(values)
            if len(self._values) > i:
                values = torch.cat([self._values[i].to(values), values])
                indices = torch.cat([self._indices[i].to(indices), indices])
            top = values.topk(min(self.settings.count, len(values)), 0)
            self._values[i : i + 1] = [top.values]
            self._indices[i : i + 1] = [indices.gather(0, top.indices)]

    def _save(self) -> None:
        state = {
            "settings": asdict(self.settings),
            "identity": self.identity,
            "data": self._data,
            "seen": self.seen,
            "values": self._values,
            "indices": self._indices,
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_whole(self.path, content.getbuffer())

    def _load(self) -> None:
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            settings = _Settings(**state["settings"])
            identity, data = dict(state["identity"]), str(state["data"])
            seen, values, indices = (state[name] for name in ("seen", "values", "indices"))
            _check_state(len(settings.layers), seen, values, indices)
        except Exception as error:  # torch.load fails in many ways on files that are not its own
            raise OptionError(
                f"'{self.path}' holds no references: choose another file, or remove it"
            ) from error
        if settings != self.settings:
            raise OptionError(f"'{self.path}' holds references for {settings}, not {self.settings}")
        check_same(f"'{self.path}'", identity, self.identity)
        self.seen, self._data, self._values, self._indices = seen, data, values, indices


def _check_state(layers: int, seen: Any, values: Any, indices: Any) -> None:
    """Raise a ``ValueError`` unless the tensors are those of a state."""
    fits = is_int(seen) and seen > 0 and len(values) == len(indices) == layers
    for value, index in zip(values, indices, strict=True):
        fits &= value.dim() == 2 and value.shape == index.shape and len(value) > 0
        fits &= value.is_floating_point() and bool(value.isfinite().all())
        fits &= index.dtype == torch.long and bool(((index >= 0) & (index < seen)).all())
    if not fits:
        raise ValueError


def _pairs(batches: Any, model: nn.Module) -> Iterator[tuple[Any, Target, int]]:
    """The pairs of (inputs, target) with their numbers of samples, with checked inputs."""
    pairs = entries(batches)
    if pairs is None:
        raise InputError(f"batches are (inputs, target) pairs, got {batches!r}")
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InputError(f"batches are (inputs, target) pairs, got {type(pair).__name__}")
        inputs, target = pair
        tensors = given(inputs, None, model).tensors
        check_inputs(tensors)
        yield inputs, target, tensors[0].shape[0]
