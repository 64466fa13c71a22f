"""The Captum face of the library, and nothing but that."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from captum.attr import Attribution, LayerAttribution, NeuronAttribution
from captum.log import log_usage
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.utils.hooks import RemovableHandle

from lrp_fx.audit import Ledger, audit
from lrp_fx.capture import Arguments
from lrp_fx.composites import Composite
from lrp_fx.composites.composite import MatcherLike, as_matcher
from lrp_fx.errors import InputError, TargetError
from lrp_fx.explainer import Explainer, Options, View, check_inputs, not_tokens
from lrp_fx.export import Format, check_destination, exported, save
from lrp_fx.hooks import Hook, HookFunction
from lrp_fx.layers import Layer
from lrp_fx.outputs import OutputKey
from lrp_fx.plan import Plan, Unknown
from lrp_fx.program import Explanation, Program, check_batch, per_sample
from lrp_fx.relevance import BiasPolicy, Engine
from lrp_fx.start import Start, Target


class _Explaining:
    """What the three attributions share: an explainer, and how arguments come and go."""

    _explainer: Explainer
    multiplies_by_inputs = True

    def has_convergence_delta(self) -> bool:
        """True: the delta is the explained output less the sum of the relevance."""
        return True

    def compute_convergence_delta(
        self, attributions: Tensor | tuple[Tensor, ...], output: Tensor
    ) -> Tensor:
        """Σ ``output`` − Σ ``attributions`` of each sample, (N,).

        Args:
            attributions: (N, …) each, as :meth:`attribute` returned them.
            output: what the propagation started with, (N, …).
        """
        many = attributions if isinstance(attributions, tuple) else (attributions,)
        return per_sample(output) - sum(per_sample(each) for each in many)

    def refresh(self) -> None:
        """Recompute what was computed from parameters; needed only after edits of ``p.data``."""
        self._explainer.refresh()

    def _explain(
        self,
        inputs: Any,
        additional: Any,
        target: Target,
        view: View,
        verbose: bool,
    ) -> Explanation:
        program, tensors = self._prepared(inputs, additional, view, verbose)
        explanation = program.run(tensors, target)
        check_batch(explanation.output, tensors[0].shape[0])
        return explanation

    def _prepared(
        self, inputs: Any, additional: Any, view: View, verbose: bool = False
    ) -> tuple[Program, tuple[Tensor, ...]]:
        """The program for these arguments, and the tensors to run it on."""
        inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        check_inputs(inputs)
        arguments = _arguments(inputs, additional)
        report = print if verbose else None
        integers = [i for i, value in enumerate(inputs) if not value.is_floating_point()]
        try:
            program = self._explainer.program(arguments, len(inputs), view, report)
        except InputError as error:
            if not integers:
                raise
            raise not_tokens(f"input {integers[0]}", inputs[integers[0]]) from error
        for position in integers:
            if not program.explains_tokens(position):
                raise not_tokens(f"input {position}", inputs[position])
        if verbose:
            print(program.plan)
        return program, tuple(t.detach() for t in arguments.tensors)

    def register_relevance_hook(
        self, pattern: MatcherLike, function: HookFunction
    ) -> RemovableHandle:
        """Let a function see, and change, the relevance that enters nodes.

        Args:
            pattern: which nodes: a glob of module paths, a module class, or a matcher of
                :mod:`lrp_fx.composites`.
            function: called as ``function(relevance, step)`` in every run, for each node, with the
                relevance of the node's output (behind the filter, before its rule) and the node's
                line of the plan; returns a tensor of the same shape, which goes on instead, or None.

        Returns:
            A handle; ``handle.remove()`` takes the hook away.

        Raises:
            CompositeError: at the next call, if the pattern matches nothing that carries relevance.
        """
        handle = RemovableHandle(self._explainer.hooks)
        self._explainer.hooks[handle.id] = Hook(as_matcher(pattern), function)
        return handle


class _OfLayer(_Explaining):
    """What the attributions of a layer share: how they are made."""

    def __init__(
        self,
        model: nn.Module,
        layer: Layer | list[Layer],
        composite: Composite | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, layer)  # type: ignore[call-arg]  # Captum's class, next in line
        self._explainer = Explainer(model, Options(composite, **options))


class LRPFx(_Explaining, Attribution):
    r"""Layer-wise relevance propagation for any PyTorch model, as a Captum ``Attribution``.

    Relevance starts at the output of the target and goes back to the inputs, by the rule that the
    composite gives each operation; where the rules conserve, the relevance of the inputs sums up to
    the output (Bach et al. 2015).

    Args:
        model: the model. It is only read: no hooks, no attributes, never switched to eval; a model
            in train mode is explained as in eval mode.
        composite: which operation gets which rule: a :class:`~lrp_fx.composites.Composite`, the name
            of a preset, or None for ``epsilon_plus``.
        top_k: of the relevance that enters each convolution, linear layer and pooling only this
            fraction, the largest, goes on; 1 for all.
        filters: (matcher, top_k) pairs, for some layers only; they come before ``top_k``.
        propagation: ``"direct"`` for analytic adjoints, ``"gradient"`` for autograd on each rule.
        start: ``"logit"``, ``"one_hot"``, ``"softmax"`` (over dimension 1, no target), or a callable
            from the output (N, …) to its relevance.
        bias: the bias' share of the relevance: ``"absorb"`` it (the literature's default),
            ``"ignore"`` the bias, ``"distribute"`` the share evenly over the inputs of the unit;
            None for what the composite says.
        capture: how the model is read: ``"symbolic"``, ``"export"``, or ``"auto"`` for the first
            that reads it right.
        unknown: ``"error"`` for operations without a description, or ``"vjp"`` for the ε rule on
            their vector-Jacobian product.
        output: index or key of the output to explain, for models with several; a tuple of them for one
            inside another. None for the first floating tensor of two dimensions or more; the plan says
            which that is.
        memory: ``"keep"`` keeps every activation until its relevance node has run.

    Raises:
        OptionError: for a value that an option cannot have.
        CompositeError: for an unknown composite.
    """

    def __init__(
        self,
        model: nn.Module,
        composite: Composite | str | None = None,
        *,
        top_k: float = 1.0,
        filters: Sequence[tuple[MatcherLike, float]] | None = None,
        propagation: Engine = "direct",
        start: Start = "logit",
        bias: BiasPolicy | None = None,
        capture: str = "auto",
        unknown: Unknown = "error",
        output: OutputKey | None = None,
        memory: str = "keep",
    ) -> None:
        Attribution.__init__(self, model)
        options = Options(
            *(composite, top_k, filters, propagation, start),
            *(bias, capture, unknown, output, memory),
        )
        self._explainer = Explainer(model, options)

    @classmethod
    def get_name(cls) -> str:
        """The name that Captum shows."""
        return "LRPFx"

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: Any = None,
        return_convergence_delta: bool = False,
        verbose: bool = False,
    ) -> Any:
        """The relevance of the inputs for the target.

        Args:
            inputs: a tensor (N, …) or a tuple of tensors of one batch size.
            target: which output to explain: an int, a tuple of ints for outputs of more dimensions, a
                1-D tensor or a list with one entry per sample; None where there is one value per
                sample, or where ``start`` needs none.
            additional_forward_args: further arguments of the model, tensors or not; they get no
                relevance.
            return_convergence_delta: also return, per sample, the start's sum less the relevance's.
            verbose: print the time of the capture and the plan.

        Returns:
            Relevance of the shape, dtype and device of the inputs: a tensor for a tensor, a tuple for
            a tuple; with ``return_convergence_delta`` also a tensor of shape (N,).

        Raises:
            InputError: if the inputs cannot be explained, or the model fails on them.
            TargetError: if the target does not fit the output.
            CaptureError: if the model cannot be read.
            NonFiniteError: if the relevance is not finite.
        """
        explanation = self._explain(inputs, additional_forward_args, target, View(), verbose)
        attributions = formed(explanation, inputs)
        return (attributions, explanation.delta()) if return_convergence_delta else attributions

    @log_usage(part_of_slo=True)
    def attribute_many(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        targets: Sequence[Target],
        additional_forward_args: Any = None,
    ) -> Any:
        """The relevance of the inputs for several targets, from one forward pass.

        The forward pass and the denominators of the rules are computed once, the adjoints for each
        target. The results are those of :meth:`attribute`.

        Args:
            inputs: a tensor (N, …) or a tuple of tensors of one batch size.
            targets: T targets, each in the forms of :meth:`attribute`: ``range(10)`` for the first ten
                classes of every sample; ``list(model(x).topk(5).indices.T)`` for each sample's top five.
            additional_forward_args: as in :meth:`attribute`.

        Returns:
            Relevance of shape (T, N, …), of the dtype and device of the inputs; a tuple for a tuple.

        Raises:
            InputError, TargetError, CaptureError, NonFiniteError: as :meth:`attribute` does.
        """
        if not isinstance(targets, Iterable) or not (targets := list(targets)):
            raise TargetError(f"targets must be a non-empty list of targets, got {targets!r}")
        program, tensors = self._prepared(inputs, additional_forward_args, View())
        found = []
        for explanation in program.run_many(tensors, ((target,) for target in targets)):
            check_batch(explanation.output, tensors[0].shape[0])
            found.append(formed(explanation, inputs))
        if isinstance(inputs, tuple):
            return tuple(torch.stack(each) for each in zip(*found, strict=True))
        return torch.stack(found)

    def audit(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: Any = None,
    ) -> Ledger:
        """Where the relevance of each sample goes: the conservation ledger.

        For each node and sample it holds the relevance that came in, what went on, and what was taken,
        by cause. It runs the relevance pass once for each sample.

        Args:
            inputs: as in :meth:`attribute`.
            target: likewise.
            additional_forward_args: likewise.

        Returns:
            The ledger: print it, or see its ``entries``, ``explosions()``, ``to_pandas()``,
            ``to_json()`` and ``plot()``.

        Raises:
            InputError, TargetError, CaptureError: as :meth:`attribute` does.
        """
        view = View(audited=True)
        program, tensors = self._prepared(inputs, additional_forward_args, view)
        return audit(program, tensors, target)

    def explained_output(
        self, inputs: Tensor | tuple[Tensor, ...], additional_forward_args: Any = None
    ) -> Tensor:
        """What :meth:`attribute` explains, (N, …): the chosen output, below a final softmax.

        Args:
            inputs: as in :meth:`attribute`.
            additional_forward_args: likewise.
        """
        program, tensors = self._prepared(inputs, additional_forward_args, View())
        return program.output(tensors)

    def export(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        additional_forward_args: Any = None,
        *,
        path: str | os.PathLike[str] | None = None,
        format: Format = "pt2",
        dynamic_batch: bool = True,
    ) -> ExportedProgram:
        """The explainer as a program that runs without this library, for any inputs and targets.

        It takes the input tensors, the additional tensors and a target, int64 of shape (N,); (N, K)
        where the output has K dimensions behind the batch, none where :meth:`attribute` needs none.
        It returns the explained output and the relevance of each input. The weights are those of now.
        Not in it are the checks: NaN in the relevance is no error, and a target that is out of range
        gives relevance zero.

        Args:
            inputs: an example, as for :meth:`attribute`; of other sizes only the batch may differ.
            additional_forward_args: as in :meth:`attribute`; tensors become inputs, other values
                constants.
            path: where to write it.
            format: ``"pt2"`` for ``torch.export.load``; ``"aot"`` compiled for this machine, for
                ``torch._inductor.aoti_load_package``; ``"onnx"`` for ONNX runtimes.
            dynamic_batch: leave the batch size open; otherwise that of the example is fixed.

        Returns:
            The exported program.

        Raises:
            OptionError: if a format's compiler or packages are missing, or the path does not fit it.
            CaptureError: if the model cannot be read, or only for one input, or not be exported.
            InputError, NonFiniteError: if the example cannot be explained.
        """
        check_destination(path, format)
        program, tensors = self._prepared(inputs, additional_forward_args, View())
        result = exported(program, tensors, dynamic_batch=dynamic_batch)
        if path is not None:
            save(result, path, format)
        return result

    def plan(self, *example: Any) -> Plan:
        """Which operation gets which rule, and why: ``print(lrp.plan())``.

        Args:
            example: the model's arguments. Without them the model is read symbolically; where that
                does not suffice, they are needed.

        Raises:
            CaptureError: if the model cannot be read, or not without example inputs.
        """
        return self._program(*example).plan

    @property
    def graph(self) -> fx.Graph:
        """The LRP graph: forward nodes, then relevance nodes in reverse. ``print(lrp.graph)``."""
        return self._program().lrp.module.graph

    def print_readable(self) -> str:
        """Print the LRP graph as Python code, and return that."""
        return self._program().lrp.module.print_readable()

    def _program(self, *example: Any) -> Program:
        if not example:
            return self._explainer.unverified_program()
        arguments = Arguments.of(example)
        return self._explainer.program(arguments, len(arguments.tensors), View())


class LayerLRPFx(_OfLayer, LayerAttribution):
    """The relevance of a layer's output or input.

    Args:
        model: the model; it is only read.
        layer: a module, its path, ``path#i`` for one call of a module that is called several times,
            the name of a node as the plan shows it, or a list of these.
        composite: as in :class:`LRPFx`.
        options: the keyword options of :class:`LRPFx`.

    Several layers take one pass. Nothing below them is run backwards, and no rules are needed there.
    """

    @classmethod
    def get_name(cls) -> str:
        """The name that Captum shows."""
        return "LayerLRPFx"

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: Any = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
        verbose: bool = False,
    ) -> Any:
        """The relevance of the layer for the target.

        Args:
            inputs: as in :meth:`LRPFx.attribute`.
            target: likewise.
            additional_forward_args: likewise.
            return_convergence_delta: also return the start's sum less the relevance's, (N,); a list
                for a list of layers.
            attribute_to_layer_input: the relevance of what the layer reads; of a tensor that other
                layers read too, all its relevance.
            verbose: print the plan.

        Returns:
            A tensor of the shape of the layer's output (or input); a tuple where the layer returns
            (or reads) several tensors; a list for a list of layers.
        """
        layers = tuple(self.layer) if isinstance(self.layer, list) else (self.layer,)
        view = View(layers=layers, layers_input=attribute_to_layer_input)
        program, tensors = self._prepared(inputs, additional_forward_args, view, verbose)
        explanation = program.run(tensors, target)
        check_batch(explanation.output, tensors[0].shape[0])
        relevance = iter(explanation.relevance)
        groups = [tuple(next(relevance) for _ in group) for group in program.plan.groups]
        found = [
            tuple(r.detach().contiguous() for r in group)
            if len(group) > 1
            else group[0].detach().contiguous()
            for group in groups
        ]
        start = per_sample(explanation.start)
        deltas = [start - sum(map(per_sample, group)) for group in groups]
        if isinstance(self.layer, list):
            return (found, deltas) if return_convergence_delta else found
        return (found[0], deltas[0]) if return_convergence_delta else found[0]


class NeuronLRPFx(_OfLayer, NeuronAttribution):
    """The relevance of the inputs for one neuron of a layer.

    Args:
        model: the model; it is only read.
        layer: as in :class:`LayerLRPFx`, one layer.
        composite: as in :class:`LRPFx`.
        options: the keyword options of :class:`LRPFx`.
    """

    @classmethod
    def get_name(cls) -> str:
        """The name that Captum shows."""
        return "NeuronLRPFx"

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        neuron_selector: Target = None,
        additional_forward_args: Any = None,
        attribute_to_neuron_input: bool = False,
        verbose: bool = False,
    ) -> Any:
        """The relevance of the inputs for the chosen neuron.

        Args:
            inputs: as in :meth:`LRPFx.attribute`.
            neuron_selector: the neuron's place in the layer's output, in the forms of a target.
            additional_forward_args: as in :meth:`LRPFx.attribute`.
            attribute_to_neuron_input: the neuron of the layer's input instead.
            verbose: print the plan.

        Returns:
            Relevance of the shape, dtype and device of the inputs.
        """
        view = View(explained=self.layer, explained_input=attribute_to_neuron_input)
        explanation = self._explain(inputs, additional_forward_args, neuron_selector, view, verbose)
        return formed(explanation, inputs)


def formed(explanation: Explanation, inputs: Any) -> Any:
    """The relevance in the form, dtype and layout that the inputs came in."""
    many = inputs if isinstance(inputs, tuple) else (inputs,)
    relevance = tuple(
        (r.to(x.dtype) if x.is_floating_point() else r).detach().contiguous()
        for r, x in zip(explanation.relevance, many, strict=True)
    )
    return relevance if isinstance(inputs, tuple) else relevance[0]


def _arguments(inputs: tuple[Tensor, ...], additional: Any) -> Arguments:
    """The model's arguments: the inputs, then the additional ones; a dict gives keywords."""
    if additional is None:
        return Arguments.of(inputs)
    if isinstance(additional, dict):
        return Arguments.of(inputs, additional)
    return Arguments.of(inputs + (additional if isinstance(additional, tuple) else (additional,)))
