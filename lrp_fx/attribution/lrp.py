"""The attribution of a model's inputs, with the interface of Captum."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, overload

from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from lrp_fx._checks import check_flag, entries
from lrp_fx.attribution.arguments import Inputs
from lrp_fx.attribution.base import Explaining, restore_form, stacked
from lrp_fx.attribution.boundary import documented
from lrp_fx.attribution.cache import Explainer
from lrp_fx.attribution.options import Options, Verify
from lrp_fx.capture import Arguments
from lrp_fx.composites import Composite
from lrp_fx.composites.composite import MatcherLike
from lrp_fx.errors import TargetError
from lrp_fx.optimize import Optimizations
from lrp_fx.plan import OutputKey, Plan, Unknown, View
from lrp_fx.relevance import BiasPolicy, Engine, FilterBy, Start, Target, TopK
from lrp_fx.run import (
    Format,
    Ledger,
    Program,
    audit,
    check_batch,
    check_destination,
    exported,
    save,
)

ANY_SHARE = 0.5
"""What filters keep while a program is made whose share is an input."""


class LRPFx(Explaining, Attribution):
    r"""Layer-wise relevance propagation for any PyTorch model, as a Captum ``Attribution``.

    Relevance starts at the target's output and goes back to the inputs. At each operation it
    follows the rule that the composite gives to the operation. If the rules conserve, the relevance
    of the inputs sums up to the output (Bach et al. 2015).

    Args:
        model: the model. It is only read: it gets no hooks or attributes, and its mode does not
            change. A model in train mode is explained as in eval mode.
        composite: which operation gets which rule: a :class:`~lrp_fx.composites.Composite`, the
            name of a preset, or None for the default, ``attn_lrp`` for models with attention and
            ``epsilon_gamma`` for others.
        top_k: the fraction of the relevance values that enter each convolution, linear layer and
            pooling that goes on, the largest ones; 1 for all.
        filters: (matcher, top_k) pairs for single layers; they override ``top_k`` there.
        filter_by: which values a filter keeps: the largest signed ones (``"value"``, as in the blog
            post of 2021) or the largest |R| (``"magnitude"``).
        renormalize: scale what a filter keeps so that the sum of each sample stays, see
            :class:`~lrp_fx.composites.TopK`.
        propagation: ``"direct"`` for analytic adjoints, ``"gradient"`` for autograd within each
            rule.
        start: ``"logit"``, ``"one_hot"``, ``"against_rest"`` (the target against the softmax of all
            other classes, dimension 1), ``"softmax"`` (over dimension 1, without a target), or a
            function from the output (N, …) to its relevance, of the same shape.
        bias: what happens to the bias' share of the relevance: ``"absorb"`` it (the default of the
            literature), ``"ignore"`` the bias, ``"distribute"`` its share evenly over the inputs of
            the unit; None for what the composite says.
        capture: how the model is read: ``"symbolic"``, ``"export"``, ``"record"`` (one call only,
            for Python that branches on values), or ``"auto"`` for the first way that reads it
            correctly.
        unknown: what to do at operations without a description. ``"error"`` raises an error.
            ``"vjp"`` divides relevance by the contributions ``x ∂y/∂x`` of the operands, and raises
            an error if there are none. A function gets ATen's name of the operation and returns its
            rule: ``Pass()`` for functions of single entries, ``Epsilon()`` for division by
            contributions, None for an error.
        output: for models with several outputs, the index or key of the one to explain; a tuple of
            them for nested outputs. None for the first floating-point tensor with two dimensions or
            more, which the plan names.
        optimize: True for the default :class:`~lrp_fx.Optimizations`, False for none, or a choice of
            them, such as ``Optimizations(recompute=True)`` to save memory.
        verify: when to compare the graph's output with the model's own. If they differ, the model
            is read again. ``"auto"``: for new shapes, and in every call if the model holds
            something whose changes cannot be detected (an iterator, a random generator).
            ``"first"``: only for new shapes. ``"always"``: in every call; modified weights are then
            also computed again.

    Raises:
        OptionError: for a value that an option cannot have.
        CompositeError: for an unknown composite.
    """

    @documented
    def __init__(
        self,
        model: nn.Module,
        composite: Composite | str | None = None,
        *,
        top_k: float = 1.0,
        filters: Sequence[tuple[MatcherLike, float | TopK]] | None = None,
        filter_by: FilterBy = "value",
        renormalize: bool = False,
        propagation: Engine = "direct",
        start: Start = "logit",
        bias: BiasPolicy | None = None,
        capture: str = "auto",
        unknown: Unknown = "error",
        output: OutputKey | None = None,
        optimize: bool | Optimizations = True,
        verify: Verify = "auto",
    ) -> None:
        Attribution.__init__(self, model)
        options = Options(
            composite=composite,
            top_k=top_k,
            filters=filters,
            filter_by=filter_by,
            renormalize=renormalize,
            propagation=propagation,
            start=start,
            bias=bias,
            capture=capture,
            unknown=unknown,
            output=output,
            optimize=optimize,
            verify=verify,
        )
        self._explainer = Explainer(model, options)

    @classmethod
    def get_name(cls) -> str:
        """The name that Captum shows."""
        return "LRPFx"

    @overload
    def attribute(
        self,
        inputs: Inputs,
        target: Target = None,
        additional_forward_args: object = None,
        return_convergence_delta: Literal[False] = False,
        verbose: bool = False,
        *,
        create_graph: bool = False,
    ) -> Inputs: ...
    @overload
    def attribute(
        self,
        inputs: Inputs,
        target: Target = None,
        additional_forward_args: object = None,
        *,
        return_convergence_delta: Literal[True],
        verbose: bool = False,
        create_graph: bool = False,
    ) -> tuple[Inputs, Tensor]: ...
    @log_usage(part_of_slo=True)
    @documented
    def attribute(
        self,
        inputs: Inputs,
        target: Target = None,
        additional_forward_args: object = None,
        return_convergence_delta: bool = False,
        verbose: bool = False,
        *,
        create_graph: bool = False,
    ) -> Inputs | tuple[Inputs, Tensor]:
        """The relevance of the inputs for the target.

        Args:
            inputs: a tensor (N, …) or a tuple of tensors with the same batch size N.
            target: the output to explain: an int, or a tuple of ints for outputs with more
                dimensions; for one target per sample, a 1-D tensor or a list of N entries. A slice
                among the indices selects a region. None if there is one value per sample, or if
                ``start`` needs no target.
            additional_forward_args: further arguments of the model, tensors or not: a tuple, a
                single value, or a dict of keyword arguments. They get no relevance.
            return_convergence_delta: also return, per sample, the sum of the start less the sum of
                the relevance.
            verbose: print the time of the capture and the plan.
            create_graph: make the relevance differentiable with respect to the model's parameters
                and the inputs, for a loss on it. Everything that depends on parameters is then
                computed in the call, and activations are kept as long as the result.

        Returns:
            Relevance of the shape, dtype and device of the inputs: a tensor for a tensor, a tuple
            for a tuple; with ``return_convergence_delta`` also a tensor of shape (N,). It carries
            no gradient unless ``create_graph``.

        Raises:
            InputError: if the inputs cannot be explained, or the model fails on them.
            OptionError: for ``create_graph`` under ``torch.inference_mode()``, or an ``output``
                that the model does not have.
            TargetError: if the target does not fit the output.
            CaptureError: if the model cannot be read.
            UnsupportedOperationError: if relevance reaches an operation without a description.
            CompositeError: if a line of the composite, a filter or a hook matches nothing.
            NonFiniteError: if the relevance is not finite.
        """
        explanation, _ = self._explained(
            inputs, additional_forward_args, target, View(), verbose, create_graph
        )
        attributions = restore_form(explanation, inputs, create_graph=create_graph)
        return (attributions, explanation.delta()) if return_convergence_delta else attributions

    @log_usage(part_of_slo=True)
    @documented
    def attribute_many(
        self,
        inputs: Inputs,
        targets: Sequence[Target] | Tensor,
        additional_forward_args: object = None,
        *,
        create_graph: bool = False,
    ) -> Inputs:
        """The relevance of the inputs for several targets, from one forward pass.

        The forward pass and the denominators of the rules are computed once, only the adjoints for
        each target. The targets of a single sample run as a batch where this is faster. The results
        equal those of :meth:`attribute` up to rounding.

        Args:
            inputs: a tensor (N, …) or a tuple of tensors with the same batch size N.
            targets: T targets, each in the forms of :meth:`attribute`: ``range(10)`` for the first
                ten classes of every sample. Or a tensor (T, N) whose rows have one target per
                sample: ``model(x).topk(5).indices.T`` for the top five of each sample.
            additional_forward_args: as in :meth:`attribute`.
            create_graph: as in :meth:`attribute`.

        Returns:
            Relevance of shape (T, N, …), of the dtype and device of the inputs; a tuple for a
            tuple.

        Raises:
            LRPError: the errors of :meth:`attribute`; a ``TargetError`` also if there are no
                targets.
        """
        listed = list(entries(targets) or [])
        if not listed:
            raise TargetError(
                f"targets must be a non-empty list of targets or a tensor (T, N), got {targets!r}"
            )
        program, tensors = self._prepared(
            inputs, additional_forward_args, View(), create_graph=create_graph
        )
        runs, found = ((target,) for target in listed), []
        for explanation in program.run_many(tensors, runs, create_graph=create_graph):
            check_batch(explanation.output, tensors[0])
            found.append(restore_form(explanation, inputs, create_graph=create_graph))
        return stacked(found)

    @documented
    def audit(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: object = None,
    ) -> Ledger:
        """The conservation ledger: where the relevance of each sample goes.

        For each node and sample it holds the relevance that came in and went on, and what was
        taken, by cause. The relevance pass is run once per sample.

        Args:
            inputs: as in :meth:`attribute`.
            target: as in :meth:`attribute`.
            additional_forward_args: as in :meth:`attribute`.

        Returns:
            The ledger: print it, or use its ``entries``, ``explosions()``, ``to_pandas()``,
            ``to_json()`` and ``plot()``.

        Raises:
            LRPError: the errors of :meth:`attribute`.
        """
        view = View(audited=True)
        program, tensors = self._prepared(inputs, additional_forward_args, view)
        return audit(program, tensors, target)

    @documented
    def explained_output(
        self, inputs: Tensor | tuple[Tensor, ...], additional_forward_args: object = None
    ) -> Tensor:
        """The output that :meth:`attribute` explains, (N, …); for probabilities, their logits.

        Args:
            inputs: as in :meth:`attribute`.
            additional_forward_args: as in :meth:`attribute`.

        Raises:
            LRPError: the errors of :meth:`attribute`.
        """
        program, tensors = self._prepared(inputs, additional_forward_args, View())
        return program.output(tensors)

    @documented
    def export(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        additional_forward_args: object = None,
        *,
        path: str | os.PathLike[str] | None = None,
        format: Format = "pt2",
        dynamic_batch: bool = True,
        filter_input: bool = False,
    ) -> ExportedProgram:
        """The explainer as a program that runs without this library, for any inputs and targets.

        The program takes the input tensors, the additional tensors and a target: int64 of shape
        (N,), or (N, K) if the output has K dimensions behind the batch. It takes no target where
        :meth:`attribute` needs none. It returns the explained output and the relevance of each
        input. It contains the current weights. It does not contain the checks: NaN in the relevance
        raises no error, and a target out of range gives zero relevance.

        Args:
            inputs: an example, as for :meth:`attribute`; only the batch size may differ later.
            additional_forward_args: as in :meth:`attribute`; tensors become inputs, other values
                constants.
            path: the file to write.
            format: ``"pt2"`` for ``torch.export.load``; ``"aot"`` compiled for this machine, for
                ``torch._inductor.aoti_load_package``; ``"onnx"`` for ONNX runtimes.
            dynamic_batch: leave the batch size open; False fixes it to that of the example.
            filter_input: make ``top_k`` an input too, the last one, ``share``: float32 of shape
                (N,), what the filter before each convolution, linear layer and pooling keeps of each
                sample, 0 < share ≤ 1, in millionths. Filters of single layers keep their own.

        Returns:
            The exported program.

        Raises:
            OptionError: if the format's compiler or packages are missing, if the path does not fit
                the format, or if the explainer uses autograd or filters values that hide the batch.
            CaptureError: if the model cannot be read, is read for one input only, or cannot be
                exported.
            InputError, NonFiniteError: if the example cannot be explained.
        """
        check_destination(path, format)
        check_flag("filter_input", filter_input)
        lrp, opened = self, None
        if filter_input:
            options = self._explainer.options
            share = options.top_k if options.top_k < 1 else ANY_SHARE
            lrp = self.with_options(top_k=share)
            opened = TopK(share, options.filter_by, options.renormalize)
        program, tensors = lrp._prepared(inputs, additional_forward_args, View())  # noqa: SLF001 its own
        result = exported(program, tensors, dynamic_batch=dynamic_batch, open_filter=opened)
        if path is not None:
            save(result, path, format)
        return result

    @documented
    def plan(self, *example: object) -> Plan:
        """Which operation gets which rule, and why: ``print(lrp.plan())``.

        Args:
            example: the model's arguments. Without them the model is read by symbolic tracing.
                Models that this cannot read need them.

        Raises:
            CaptureError: if the model cannot be read, or not without example inputs.
            UnsupportedOperationError, CompositeError: as :meth:`attribute` does.
        """
        return self._program(*example).plan

    @property
    def graph(self) -> fx.Graph:
        """The LRP graph: forward nodes, then relevance nodes in reverse order. ``print(lrp.graph)``."""
        return self._program().lrp.module.graph

    def print_readable(self) -> str:
        """Print the LRP graph as Python code, and return the code."""
        return self._program().lrp.module.print_readable()

    def _program(self, *example: object) -> Program:
        if not example:
            return self._explainer.unverified_program()
        arguments = Arguments.of(example)
        return self._explainer.program(arguments, len(arguments.tensors), View())
