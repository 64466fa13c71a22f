"""The attributions of layers and neurons, with the interface of Captum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, Unpack, cast, overload

from captum.attr import LayerAttribution, NeuronAttribution
from captum.log import log_usage
from torch import Tensor, nn

from lrp_fx.attribution.base import Explaining
from lrp_fx.attribution.boundary import documented
from lrp_fx.attribution.cache import Explainer
from lrp_fx.attribution.given import AnyArrays, AnyInputs, AnyTensors, Array, Inputs, finalize
from lrp_fx.attribution.options import Keywords, Options, check_names, shows_options
from lrp_fx.composites import Composite
from lrp_fx.plan import Layer, View, as_layers
from lrp_fx.relevance import SelectorTarget, Target
from lrp_fx.run import per_sample

OfLayers: TypeAlias = Tensor | tuple[Tensor, ...] | list[Tensor | tuple[Tensor, ...]]
"""The relevance of a layer: a tuple if it has several tensors; a list for a list of layers."""
ArraysOfLayers: TypeAlias = Array | tuple[Array, ...] | list[Array | tuple[Array, ...]]
"""The same in NumPy arrays, for inputs that are arrays."""


class OfLayer(Explaining):
    """The common base of the attributions of a layer: their constructor."""

    @shows_options
    @documented
    def __init__(
        self,
        /,
        model: nn.Module,
        layer: Layer | list[Layer],
        composite: Composite | str | None = None,
        **options: Unpack[Keywords],
    ) -> None:
        check_names(type(self).__name__, options)
        super().__init__(model, layer)  # type: ignore[call-arg]  # Captum's class, next in line
        self._explainer = Explainer(model, Options(composite, **options))


class LayerLRPFx(OfLayer, LayerAttribution):
    """The relevance of a layer's output or input.

    Several layers take one pass. The relevance pass stops at them, so nothing below them needs a
    rule.

    Args:
        model: the model; it is only read.
        layer: a module, its path, ``path#i`` for the i-th call (from 0) of a module that is called
            several times, the name of a node as the plan shows it, or a list of these.
        composite: as in :class:`LRPFx`.
        options: the keyword options of :class:`LRPFx`.

    Raises:
        OptionError: for an unknown option, or a value that an option cannot have.
        CompositeError: for an unknown composite.
    """

    @classmethod
    def get_name(cls) -> str:
        """The name that Captum shows."""
        return "LayerLRPFx"

    @overload
    def attribute(
        self,
        inputs: AnyTensors,
        target: Target = None,
        additional_forward_args: object = None,
        return_convergence_delta: Literal[False] = False,
        attribute_to_layer_input: bool = False,
        verbose: bool = False,
        *,
        create_graph: bool = False,
    ) -> OfLayers: ...
    @overload
    def attribute(
        self,
        inputs: AnyTensors,
        target: Target = None,
        additional_forward_args: object = None,
        *,
        return_convergence_delta: Literal[True],
        attribute_to_layer_input: bool = False,
        verbose: bool = False,
        create_graph: bool = False,
    ) -> tuple[OfLayers, Tensor | list[Tensor]]: ...
    @overload
    def attribute(
        self,
        inputs: AnyArrays,
        target: Target = None,
        additional_forward_args: object = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
        verbose: bool = False,
        *,
        create_graph: bool = False,
    ) -> ArraysOfLayers | tuple[ArraysOfLayers, Array | list[Array]]: ...
    @log_usage(part_of_slo=True)
    @documented
    def attribute(
        self,
        inputs: AnyInputs,
        target: Target = None,
        additional_forward_args: object = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
        verbose: bool = False,
        *,
        create_graph: bool = False,
    ) -> (
        OfLayers
        | ArraysOfLayers
        | tuple[OfLayers, Tensor | list[Tensor]]
        | tuple[ArraysOfLayers, Array | list[Array]]
    ):
        """The relevance of the layer for the target.

        Args:
            inputs: as in :meth:`LRPFx.attribute`.
            target: as in :meth:`LRPFx.attribute`.
            additional_forward_args: as in :meth:`LRPFx.attribute`.
            return_convergence_delta: also return the sum of the start less that of the relevance,
                (N,); a list of them for a list of layers.
            attribute_to_layer_input: the relevance of what the layer reads. If other layers read
                the same tensor too, this is all of its relevance.
            verbose: print the plan.
            create_graph: as in :meth:`LRPFx.attribute`.

        Returns:
            A tensor of the shape of the layer's output (or input); a tuple if the layer returns (or
            reads) several tensors; a list for a list of layers. Arrays if the inputs are arrays.

        Raises:
            InputError: for an unknown layer, and as :meth:`LRPFx.attribute` does.
            OptionError, TargetError, CaptureError, NonFiniteError: as :meth:`LRPFx.attribute` does.
        """
        layers = as_layers(self.layer if isinstance(self.layer, list) else [self.layer])
        view = View(layers=layers, layers_input=attribute_to_layer_input)
        given = self._given(inputs, additional_forward_args, create_graph=create_graph)
        explanation, groups = self._of_layers(
            given.tensors, given.additional, target, view, verbose, create_graph
        )
        found = [
            tuple(finalize(r, create_graph) for r in group)
            if len(group) > 1
            else finalize(group[0], create_graph)
            for group in groups
        ]
        in_list = isinstance(self.layer, list)
        shown = found if in_list else found[0]
        if not return_convergence_delta:
            return cast(OfLayers | ArraysOfLayers, given.alike(shown))
        start = per_sample(explanation.start)
        deltas = [start - sum(map(per_sample, group)) for group in groups]
        both = shown, deltas if in_list else deltas[0]
        return cast(tuple[OfLayers, Tensor | list[Tensor]], given.alike(both))


class NeuronLRPFx(OfLayer, NeuronAttribution):
    """The relevance of the inputs for one neuron of a layer.

    The neuron takes the place of the output. Where a preset has a special rule for the last linear
    operation, such as ε in the ``Epsilon…`` family, the last one before the neuron gets it.

    Args:
        model: the model; it is only read.
        layer: one layer, as in :class:`LayerLRPFx`.
        composite: as in :class:`LRPFx`.
        options: the keyword options of :class:`LRPFx`.

    Raises:
        OptionError: for an unknown option, or a value that an option cannot have.
        CompositeError: for an unknown composite.
    """

    @classmethod
    def get_name(cls) -> str:
        """The name that Captum shows."""
        return "NeuronLRPFx"

    @log_usage(part_of_slo=True)
    @documented
    def attribute(
        self,
        inputs: Inputs,
        neuron_selector: Target | Callable[[Tensor], Tensor] = None,
        additional_forward_args: object = None,
        attribute_to_neuron_input: bool = False,
        verbose: bool = False,
        *,
        create_graph: bool = False,
    ) -> Inputs:
        """The relevance of the inputs for the chosen neuron.

        Args:
            inputs: as in :meth:`LRPFx.attribute`.
            neuron_selector: the index of the neuron in the layer's output, in the forms of a
                target; slices select several neurons. Or a function ``f`` from the layer's output
                (N, …) to (N,), such as a sum of neurons. Relevance then starts with ``y ⊙ ∂f/∂y``.
            additional_forward_args: as in :meth:`LRPFx.attribute`.
            attribute_to_neuron_input: explain a neuron of the layer's input instead.
            verbose: print the plan.
            create_graph: as in :meth:`LRPFx.attribute`.

        Returns:
            Relevance of the form, shape, dtype and device of the inputs.

        Raises:
            InputError: for an unknown layer, and as :meth:`LRPFx.attribute` does.
            OptionError, TargetError, CaptureError, NonFiniteError: as :meth:`LRPFx.attribute` does.
        """
        (layer,) = as_layers([self.layer])
        view = View(explained=layer, explained_input=attribute_to_neuron_input)
        chosen = SelectorTarget(neuron_selector) if callable(neuron_selector) else neuron_selector
        given = self._given(inputs, additional_forward_args, create_graph=create_graph)
        explanation, _ = self._explained(
            given.tensors, given.additional, chosen, view, verbose, create_graph
        )
        return given.restored(explanation.relevance, create_graph=create_graph)
