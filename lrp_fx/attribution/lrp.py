"""The Captum face of the library, and nothing but that."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, overload

from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from lrp_fx._checks import entries
from lrp_fx.attribution.arguments import Inputs
from lrp_fx.attribution.base import Explaining, formed, stacked
from lrp_fx.attribution.boundary import documented
from lrp_fx.attribution.cache import Explainer
from lrp_fx.attribution.options import Options, Verify
from lrp_fx.capture import Arguments
from lrp_fx.composites import Composite
from lrp_fx.composites.composite import MatcherLike
from lrp_fx.errors import TargetError
from lrp_fx.optimize import Optimizations
from lrp_fx.plan import OutputKey, Plan, Unknown, View
from lrp_fx.relevance import BiasPolicy, Engine, Start, Target
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


class LRPFx(Explaining, Attribution):
    r"""Layer-wise relevance propagation for any PyTorch model, as a Captum ``Attribution``.

    Relevance starts at the output of the target and goes back to the inputs, by the rule that the
    composite gives each operation; where the rules conserve, the relevance of the inputs sums up to
    the output (Bach et al. 2015).

    Args:
        model: the model. It is only read: no hooks, no attributes, never switched to eval; a model
            in train mode is explained as in eval mode.
        composite: which operation gets which rule: a :class:`~lrp_fx.composites.Composite`, the name
            of a preset, or None for ``epsilon_plus``, or ``attn_lrp`` for a model with attention.
        top_k: of the relevance that enters each convolution, linear layer and pooling only this
            fraction, the largest, goes on; 1 for all.
        filters: (matcher, top_k) pairs, for some layers only; they come before ``top_k``.
        propagation: ``"direct"`` for analytic adjoints, ``"gradient"`` for autograd on each rule.
        start: ``"logit"``, ``"one_hot"``, ``"softmax"`` (over dimension 1, no target), or a callable
            from the output (N, …) to its relevance.
        bias: the bias' share of the relevance: ``"absorb"`` it (the literature's default),
            ``"ignore"`` the bias, ``"distribute"`` the share evenly over the inputs of the unit;
            None for what the composite says.
        capture: how the model is read: ``"symbolic"``, ``"export"``, ``"record"`` (of the one call, for
            Python that branches on values), or ``"auto"`` for the first that reads it right.
        unknown: ``"error"`` for operations without a description, or ``"vjp"`` for shares by the
            contributions ``x ∂y/∂x`` of their operands, and an error where there are none; or a function
            of ATen's name of the operation to its rule: ``Pass()`` for functions of single entries,
            ``Epsilon()`` for contributions, None for an error.
        output: index or key of the output to explain, for models with several; a tuple of them for one
            inside another. None for the first floating tensor of two dimensions or more; the plan says
            which that is.
        optimize: True for the default :class:`~lrp_fx.Optimizations`, False for none, or a choice of
            them, such as ``Optimizations(recompute=True)`` to save memory.
        verify: when the model's own output is compared with the graph's, and the model read anew if they
            differ. ``"auto"``: for new shapes, and in every call where the model holds something of
            which nobody can tell whether it changed (an iterator, a random generator). ``"first"``: for
            new shapes alone. ``"always"``: in every call, which also makes modified weights anew.

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
        filters: Sequence[tuple[MatcherLike, float]] | None = None,
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
            inputs: a tensor (N, …) or a tuple of tensors of one batch size.
            target: which output to explain: an int, a tuple of ints for outputs of more dimensions, a
                1-D tensor or a list with one entry per sample; None where there is one value per
                sample, or where ``start`` needs none. A slice among the indices is a region.
            additional_forward_args: further arguments of the model, tensors or not; they get no
                relevance.
            return_convergence_delta: also return, per sample, the start's sum less the relevance's.
            verbose: print the time of the capture and the plan.
            create_graph: make the relevance differentiable with respect to the model's parameters and
                the inputs, for a loss on it. What depends on parameters is then computed anew in the
                call, and activations are kept until the result is gone.

        Returns:
            Relevance of the shape, dtype and device of the inputs: a tensor for a tensor, a tuple for
            a tuple; with ``return_convergence_delta`` also a tensor of shape (N,). It carries no
            gradient unless ``create_graph``.

        Raises:
            InputError: if the inputs cannot be explained, or the model fails on them.
            OptionError: for ``create_graph`` under ``torch.inference_mode()``.
            TargetError: if the target does not fit the output.
            CaptureError: if the model cannot be read.
            NonFiniteError: if the relevance is not finite.
        """
        explanation, _ = self._explained(
            inputs, additional_forward_args, target, View(), verbose, create_graph
        )
        attributions = formed(explanation, inputs, create_graph=create_graph)
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

        The forward pass and the denominators of the rules are computed once, the adjoints for each
        target; those of a single sample as one batch, as far as that is faster. The results are those of
        :meth:`attribute`, up to the rounding of other kernels.

        Args:
            inputs: a tensor (N, …) or a tuple of tensors of one batch size.
            targets: T targets, each in the forms of :meth:`attribute`: ``range(10)`` for the first ten
                classes of every sample; or a tensor (T, N) with a target of each sample in each row:
                ``model(x).topk(5).indices.T`` for each sample's top five.
            additional_forward_args: as in :meth:`attribute`.
            create_graph: likewise.

        Returns:
            Relevance of shape (T, N, …), of the dtype and device of the inputs; a tuple for a tuple.

        Raises:
            InputError, OptionError, TargetError, CaptureError, NonFiniteError: as :meth:`attribute`
                does.
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
            found.append(formed(explanation, inputs, create_graph=create_graph))
        return stacked(found)

    @documented
    def audit(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: object = None,
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

    @documented
    def explained_output(
        self, inputs: Tensor | tuple[Tensor, ...], additional_forward_args: object = None
    ) -> Tensor:
        """What :meth:`attribute` explains, (N, …): the chosen output, of probabilities their logits.

        Args:
            inputs: as in :meth:`attribute`.
            additional_forward_args: likewise.
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

    @documented
    def plan(self, *example: object) -> Plan:
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

    def _program(self, *example: object) -> Program:
        if not example:
            return self._explainer.unverified_program()
        arguments = Arguments.of(example)
        return self._explainer.program(arguments, len(arguments.tensors), View())
