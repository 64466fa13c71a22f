"""Concept relevance propagation (CRP): relevance through chosen channels (Achtibat et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any, Unpack, overload

from torch import Tensor, nn

from lrp_fx._common import check_count, entries, is_int
from lrp_fx.attribution import (
    AnyArrays,
    AnyInputs,
    AnyTensors,
    Array,
    Inputs,
    Keywords,
    LRPFx,
    check_inputs,
    check_names,
    documented,
    shows_options,
    stacked,
)
from lrp_fx.composites import Composite
from lrp_fx.concepts.channels import Concept, Edge
from lrp_fx.concepts.graph import AttributionGraph
from lrp_fx.errors import InputError, OptionError, TargetError
from lrp_fx.graph import ancestors
from lrp_fx.plan import Layer, View, as_layers, layer_name
from lrp_fx.relevance import JointTarget, Target, check_dim
from lrp_fx.run import Explanation, Program, check_batch

Condition = Mapping[Layer, object]
"""Layer → channels, ``{"layer3": [5, 7]}``. ``"y"`` gives the target, or a list of classes."""


class ConceptLRPFx(LRPFx):
    """:class:`LRPFx` with conditions, which select channels that relevance may pass through.

    Args:
        model: the model; it is only read.
        composite: as in :class:`LRPFx`.
        channel_dim: the dimension of the channels: 1 for convolutions, -1 for transformers.
        options: the keyword options of :class:`LRPFx`.

    Raises:
        OptionError: if ``channel_dim`` is not an int or 0, for an unknown option, or for a value that
            an option cannot have.
        CompositeError: for an unknown composite.
    """

    @shows_options
    @documented
    def __init__(
        self,
        /,
        model: nn.Module,
        composite: Composite | str | None = None,
        *,
        channel_dim: int = 1,
        **options: Unpack[Keywords],
    ) -> None:
        if not is_int(channel_dim) or channel_dim == 0:
            raise OptionError(
                f"channel_dim must be an int and not the batch's, got {channel_dim!r}"
            )
        check_names(type(self).__name__, options)
        super().__init__(model, composite, **options)
        self.channel_dim = int(channel_dim)

    @classmethod
    def get_name(cls) -> str:
        """The name that Captum shows."""
        return "ConceptLRPFx"

    @documented
    def attribute_conditions(
        self,
        inputs: Inputs,
        conditions: Sequence[Condition],
        target: Target = None,
        additional_forward_args: object = None,
        *,
        create_graph: bool = False,
        exclude_parallel: bool = True,
    ) -> Inputs:
        """The relevance of the inputs under each condition, from one forward pass.

        At each layer that a condition names, the relevance of all other channels is set to zero
        where it enters the layer's last operation. Relevance that bypasses the layer, for example
        by a skip connection, is set to zero too. So only relevance through the chosen channels
        remains. The rules are linear in the relevance: the maps of conditions on each single
        channel of a layer sum up to the relevance that passes the layer, which is all relevance if
        nothing bypasses it.

        Args:
            inputs: as in :meth:`attribute`.
            conditions: C conditions ``{layer: channels}``. ``"y"`` may give the target of a
                condition. A list under ``"y"`` names classes that are explained together, for every
                sample.
            target: the target of the conditions that give none.
            additional_forward_args: as in :meth:`attribute`.
            create_graph: as in :meth:`attribute`.
            exclude_parallel: False lets relevance that bypasses a layer pass.

        Returns:
            Relevance of shape (C, N, …), in the form of the inputs.

        Raises:
            InputError: for an unknown layer or channel, or for layers on parallel paths in one
                condition.
            TargetError: for a target that does not fit.
            OptionError, CaptureError, NonFiniteError: as :meth:`attribute` does.
        """
        layers, runs = _runs(conditions, target)
        view = View(masked=layers, through=exclude_parallel, channel_dim=self.channel_dim)
        given = self._given(inputs, additional_forward_args, create_graph=create_graph)
        program, tensors = self._prepared(
            given.tensors, given.additional, view, create_graph=create_graph
        )
        if exclude_parallel:
            _check_in_series(program, runs)
        found = [
            given.finished(each.relevance, create_graph=create_graph)
            for each in _checked(program, tensors, runs, create_graph=create_graph)
        ]
        return given.formed(stacked(found))

    @overload
    def channel_relevance(
        self,
        inputs: AnyTensors,
        layers: Sequence[Layer],
        target: Target = None,
        additional_forward_args: object = None,
        *,
        create_graph: bool = False,
    ) -> list[Tensor]: ...
    @overload
    def channel_relevance(
        self,
        inputs: AnyArrays,
        layers: Sequence[Layer],
        target: Target = None,
        additional_forward_args: object = None,
        *,
        create_graph: bool = False,
    ) -> list[Array]: ...
    @documented
    def channel_relevance(
        self,
        inputs: AnyInputs,
        layers: Sequence[Layer],
        target: Target = None,
        additional_forward_args: object = None,
        *,
        create_graph: bool = False,
    ) -> list[Tensor] | list[Array]:
        """The relevance of each channel of some layers, (N, channels) per layer, from one pass.

        Args:
            inputs: as in :meth:`attribute`.
            layers: modules, paths or node names, each with one output.
            target: as in :meth:`attribute`.
            additional_forward_args: as in :meth:`attribute`.
            create_graph: as in :meth:`attribute`.

        Raises:
            InputError: for an unknown layer, or one without channels.
            OptionError, TargetError, CaptureError, NonFiniteError: as :meth:`attribute` does.
        """
        layers = as_layers(layers)
        given = self._given(inputs, additional_forward_args, create_graph=create_graph)
        _, groups = self._of_layers(
            given.tensors, given.additional, target, View(layers=layers), create_graph=create_graph
        )
        found = self._by_channel(layers, [relevance for group in groups for relevance in group])
        in_form: list[Tensor] | list[Array] = given.alike(found)
        return in_form

    @documented
    def attribution_graph(
        self,
        inputs: AnyInputs,
        target: Target,
        layers: Sequence[Layer],
        *,
        width: int = 4,
        additional_forward_args: object = None,
    ) -> AttributionGraph:
        """Which channels feed which channels of the next layer, in the prediction for one sample.

        The relevance of an edge passed the upper channel and then reached the lower one. Relevance
        that bypassed the upper layer does not count.

        Args:
            inputs: one sample, (1, …).
            target: as in :meth:`attribute`.
            layers: from the one nearest to the output to the one nearest to the input, each with
                one output and a channel dimension.
            width: how many channels of each layer to take, those with the largest |relevance|.
            additional_forward_args: as in :meth:`attribute`.

        Raises:
            InputError: for more than one sample, for unknown layers, or for layers in another
                order.
            OptionError: if ``width`` is not an int of at least 1.
            TargetError, CaptureError, NonFiniteError: as :meth:`attribute` does.
        """
        given = self._given(inputs, additional_forward_args)
        check_inputs(given.tensors)
        check_count("width", width)
        count = given.tensors[0].shape[0]
        if count != 1:
            raise InputError(f"an attribution graph is about one sample, not {count}")
        layers = as_layers(layers)
        view = View(layers=layers, masked=layers, through=True, channel_dim=self.channel_dim)
        program, tensors = self._prepared(given.tensors, given.additional, view)
        for (node, mask), (next_node, next_mask) in pairwise(program.plan.masks.items()):
            if next_node not in ancestors(node):
                raise InputError(
                    f"'{mask.layer}' does not depend on '{next_mask.layer}': the layers go from the "
                    "output to the input"
                )
        (whole,) = _checked(program, tensors, [(target, *[None] * len(layers))])
        chosen: list[Concept] = []
        names = [self.name_of(layer) for layer in layers]
        for name, relevance in zip(names, self._by_channel(layers, whole.relevance), strict=True):
            top = relevance[0].abs().topk(min(width, relevance.shape[1])).indices.tolist()
            chosen += [Concept(name, c, float(relevance[0, c])) for c in top]
        upper = [concept for concept in chosen if concept.layer != names[-1]]
        runs = [
            (target, *([c.channel] if name == c.layer else None for name in names)) for c in upper
        ]
        edges = []
        for concept, explanation in zip(upper, _checked(program, tensors, runs), strict=True):
            below = names.index(concept.layer) + 1
            relevance = self._by_channel(layers, explanation.relevance)[below][0]
            edges += [
                Edge(concept, other, float(relevance[other.channel]))
                for other in chosen
                if other.layer == names[below]
            ]
        return AttributionGraph(tuple(chosen), tuple(edges), float(whole.start.sum()))

    def _by_channel(self, layers: Sequence[Layer], relevances: Sequence[Tensor]) -> list[Tensor]:
        found = []
        for layer, relevance in zip(layers, relevances, strict=True):
            dim = check_dim(self.name_of(layer), relevance, self.channel_dim)
            others = [d for d in range(1, relevance.dim()) if d != dim]
            found.append(relevance.sum(others) if others else relevance)
        return found

    def name_of(self, layer: Layer) -> str:
        """The path of a layer, or the name that was given."""
        return layer_name(self.forward_func, layer)


def _runs(
    conditions: Sequence[Condition], target: Target
) -> tuple[tuple[Layer, ...], list[tuple[Any, ...]]]:
    """The layers that any condition names, and for each condition its target and channels there."""
    if not isinstance(conditions, Sequence) or not conditions:
        raise InputError(f"conditions must be a non-empty list of mappings, got {conditions!r}")
    for condition in conditions:
        if not isinstance(condition, Mapping):
            raise InputError(f"a condition is a mapping {{layer: channels}}, got {condition!r}")
    layers = tuple(dict.fromkeys(layer for c in conditions for layer in c if layer != "y"))
    layers = as_layers(layers) if layers else ()
    runs = []
    for condition in conditions:
        channels = [_channels(layer, condition.get(layer)) for layer in layers]
        y = condition.get("y", target)
        if "y" in condition and isinstance(y, list):  # classes for all samples, not one each
            if not y:
                raise TargetError("the list of classes under 'y' is empty")
            y = JointTarget(tuple(y))
        runs.append((y, *channels))
    return layers, runs


def _channels(layer: Layer, channels: Any) -> tuple[int, ...] | None:
    if channels is None:
        return None
    listed = entries(channels)
    many = [channels] if listed is None else list(listed)
    if not many or not all(map(is_int, many)):
        raise InputError(f"the channels of '{layer}' must be a list of ints, got {channels!r}")
    return tuple(map(int, many))


def _check_in_series(program: Program, runs: Iterable[tuple[Any, ...]]) -> None:
    """Raise an ``InputError`` if no relevance can pass all layers of a condition."""
    for _, *channels in runs:
        masks = zip(program.plan.masks.items(), channels, strict=True)
        named = [mask for mask, chosen in masks if chosen is not None]
        for (one, mask), (other, its_mask) in combinations(named, 2):
            if one not in ancestors(other) and other not in ancestors(one):
                raise InputError(
                    f"no relevance goes through both '{mask.layer}' and '{its_mask.layer}', which lie "
                    "side by side: name them in two conditions, or pass exclude_parallel=False"
                )


def _checked(
    program: Program,
    tensors: tuple[Tensor, ...],
    runs: Sequence[tuple[Any, ...]],
    *,
    create_graph: bool = False,
) -> Iterator[Explanation]:
    for explanation in program.run_many(tensors, runs, create_graph=create_graph):
        check_batch(explanation.output, tensors[0])
        yield explanation
