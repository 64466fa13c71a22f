"""The attribution of a model's inputs, with the interface of Captum."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack, overload

from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from lrp_fx._common import check_flag, entries
from lrp_fx.attribution.arguments import arguments_of
from lrp_fx.attribution.base import Explaining, stacked
from lrp_fx.attribution.boundary import documented
from lrp_fx.attribution.cache import Explainer
from lrp_fx.attribution.given import (
    AnyArrays,
    AnyInputs,
    AnyTensors,
    Array,
    Inputs,
    OfArrays,
    OfTensors,
)
from lrp_fx.attribution.options import Keywords, Options, documents_options, shows_options
from lrp_fx.capture import Arguments
from lrp_fx.composites import Composite
from lrp_fx.errors import CaptureError, LRPError, TargetError
from lrp_fx.plan import Plan, View
from lrp_fx.relevance import Target, TopK
from lrp_fx.run import (
    FIXED,
    Format,
    Ledger,
    Program,
    audit,
    check_batch,
    check_destination,
    exported,
    larger,
    save,
)

ANY_SHARE = 0.5
"""What filters keep while a program is made whose share is an input."""


@documents_options
class LRPFx(Explaining, Attribution):
    r"""Layer-wise relevance propagation for any PyTorch model, as a Captum ``Attribution``.

    Relevance starts at the target's output and goes back to the inputs. At each operation it
    follows the rule that the composite gives to the operation. If the rules conserve, the relevance
    of the inputs sums up to the output (Bach et al. 2015).

    Args:
        model: the model. It is only read: it gets no hooks or attributes, and its mode does not
            change. A model in train mode is explained as in eval mode.
        options: the fields of :class:`~lrp_fx.attribution.options.Options`.

    Raises:
        OptionError: for a value that an option cannot have.
        CompositeError: for an unknown composite.
    """

    @documented
    @shows_options
    def __init__(
        self,
        model: nn.Module,
        composite: Composite | str | None = None,
        **options: Unpack[Keywords],
    ) -> None:
        Attribution.__init__(self, model)
        self._explainer = Explainer(model, Options(composite, **options))

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
        inputs: OfTensors,
        target: Target = None,
        additional_forward_args: object = None,
        *,
        return_convergence_delta: Literal[True],
        verbose: bool = False,
        create_graph: bool = False,
    ) -> tuple[OfTensors, Tensor]: ...
    @overload
    def attribute(
        self,
        inputs: OfArrays,
        target: Target = None,
        additional_forward_args: object = None,
        *,
        return_convergence_delta: Literal[True],
        verbose: bool = False,
        create_graph: bool = False,
    ) -> tuple[OfArrays, Array]: ...
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
    ) -> Inputs | tuple[Inputs, Tensor | Array]:
        """The relevance of the inputs for the target.

        Args:
            inputs: a tensor (N, …) or a tuple of tensors with the same batch size N. NumPy arrays
                are taken too: they go to the model's device, and floating-point ones to its dtype.
                A mapping such as the encoding of a tokenizer goes to the model by keyword. Its
                floating-point entries and token ids are explained, its masks are not (see the
                guide).
            target: the output to explain: an int, or a tuple of ints for outputs with more
                dimensions; for one target per sample, a 1-D tensor or array, or a list of N
                entries. A slice among the indices selects a region. None if there is one value per
                sample, or if ``start`` needs no target.
            additional_forward_args: further arguments of the model, tensors or not: a tuple, a
                single value, or a dict of keyword arguments. They get no relevance.
            return_convergence_delta: also return, per sample, the sum of the start less the sum of
                the relevance.
            verbose: print the time of the capture and the plan.
            create_graph: make the relevance differentiable with respect to the model's parameters
                and the inputs, for a loss on it. Everything that depends on parameters is then
                computed in the call, and activations are kept as long as the result.

        Returns:
            Relevance of the shape, dtype and device of the inputs: a tensor for a tensor, an array
            for an array, a tuple for a tuple, a dict of what is explained for a mapping; with
            ``return_convergence_delta`` also a tensor of shape (N,), or an array if the inputs are
            arrays. It carries no gradient unless ``create_graph``.

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
        given = self._given(inputs, additional_forward_args, create_graph=create_graph)
        explanation, _ = self._explained(
            given.tensors, given.additional, target, View(), verbose, create_graph
        )
        attributions = given.restored(explanation.relevance, create_graph=create_graph)
        if return_convergence_delta:
            return attributions, given.alike(explanation.delta())
        return attributions

    @log_usage(part_of_slo=True)
    @documented
    def attribute_many(
        self,
        inputs: Inputs,
        targets: Sequence[Target] | Tensor | Array,
        additional_forward_args: object = None,
        *,
        create_graph: bool = False,
    ) -> Inputs:
        """The relevance of the inputs for several targets, from one forward pass.

        The forward pass and the denominators of the rules are computed once, only the adjoints for
        each target. The targets of a single sample run as a batch where this is faster. The results
        equal those of :meth:`attribute` up to rounding.

        Args:
            inputs: as in :meth:`attribute`.
            targets: T targets, each in the forms of :meth:`attribute`: ``range(10)`` for the first
                ten classes of every sample. Or a tensor (T, N) whose rows have one target per
                sample: ``model(x).topk(5).indices.T`` for the top five of each sample.
            additional_forward_args: as in :meth:`attribute`.
            create_graph: as in :meth:`attribute`.

        Returns:
            Relevance of shape (T, N, …), of the form, dtype and device of the inputs.

        Raises:
            LRPError: the errors of :meth:`attribute`; a ``TargetError`` also if there are no
                targets.
        """
        listed = list(entries(targets) or [])
        if not listed:
            raise TargetError(
                f"targets must be a non-empty list of targets or a tensor (T, N), got {targets!r}"
            )
        given = self._given(inputs, additional_forward_args, create_graph=create_graph)
        program, tensors = self._prepared(
            given.tensors, given.additional, View(), create_graph=create_graph
        )
        runs, found = ((target,) for target in listed), []
        for explanation in program.run_many(tensors, runs, create_graph=create_graph):
            check_batch(explanation.output, tensors[0])
            found.append(given.finished(explanation.relevance, create_graph=create_graph))
        return given.formed(stacked(found))

    @documented
    def audit(
        self, inputs: AnyInputs, target: Target = None, additional_forward_args: object = None
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
        given = self._given(inputs, additional_forward_args)
        program, tensors = self._prepared(given.tensors, given.additional, view)
        return audit(program, tensors, target)

    @overload
    def explained_output(
        self, inputs: AnyTensors, additional_forward_args: object = None
    ) -> Tensor: ...
    @overload
    def explained_output(
        self, inputs: AnyArrays, additional_forward_args: object = None
    ) -> Array: ...
    @documented
    def explained_output(
        self, inputs: AnyInputs, additional_forward_args: object = None
    ) -> Tensor | Array:
        """The output that :meth:`attribute` explains, (N, …); for probabilities, their logits.

        Args:
            inputs: as in :meth:`attribute`.
            additional_forward_args: as in :meth:`attribute`.

        Raises:
            LRPError: the errors of :meth:`attribute`.
        """
        given = self._given(inputs, additional_forward_args)
        program, tensors = self._prepared(given.tensors, given.additional, View())
        output: Tensor | Array = given.alike(program.output(tensors))
        return output

    @overload
    def probabilities(
        self, inputs: AnyTensors, additional_forward_args: object = None
    ) -> Tensor: ...
    @overload
    def probabilities(self, inputs: AnyArrays, additional_forward_args: object = None) -> Array: ...
    @documented
    def probabilities(
        self, inputs: AnyInputs, additional_forward_args: object = None
    ) -> Tensor | Array:
        """The probabilities of the classes, (N, classes, …).

        Of the explained output it takes the sigmoid where the model ends in a sigmoid, and the
        softmax over dimension 1 elsewhere, in single precision at least.

        Args:
            inputs: as in :meth:`attribute`.
            additional_forward_args: as in :meth:`attribute`.

        Raises:
            InputError: if the explained output has no dimension of classes.
            LRPError: the errors of :meth:`attribute`.
        """
        given = self._given(inputs, additional_forward_args)
        program, tensors = self._prepared(given.tensors, given.additional, View())
        output = program.output(tensors)
        probabilities: Tensor | Array = given.alike(program.plan.probabilities(output))
        return probabilities

    @documented
    def export(
        self,
        inputs: AnyInputs,
        additional_forward_args: object = None,
        *,
        path: str | os.PathLike[str] | None = None,
        format: Format = "pt2",
        dynamic_batch: bool = True,
        filter_input: bool = False,
    ) -> ExportedProgram:
        """The explainer as a program that runs without this library, for any inputs and targets.

        The program takes the input tensors, the additional tensors and a target: int64 of shape
        (N,), or (N, K) if the output has K dimensions after the batch. It takes no target where
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
        given = self._given(inputs, additional_forward_args)
        program, tensors = lrp._prepared(given.tensors, given.additional, View())  # noqa: SLF001 its own
        second = lrp._larger(given.tensors, given.additional) if dynamic_batch else None  # noqa: SLF001
        result, trials = exported(program, tensors, second=second, open_filter=opened)
        if path is not None:
            save(result, path, format, trials)
        return result

    def _larger(
        self, inputs: tuple[Tensor, ...], additional: Any
    ) -> tuple[Program, tuple[Tensor, ...]]:
        """The program for one more sample, and the tensors to run it on."""
        arguments = arguments_of(inputs, additional)
        more = replace(arguments, tensors=larger(arguments.tensors))
        try:
            program = self._explainer.program(more, len(inputs), View())
        except LRPError as error:
            raise CaptureError(
                f"the model cannot be explained at another batch size than that of the example: {error}. "
                f"{FIXED}"
            ) from error
        return program, tuple(each.detach() for each in more.tensors)

    @documented
    def plan(self, *example: object) -> Plan:
        """Which operation gets which rule, and why: ``print(lrp.plan())``.

        Args:
            example: the model's arguments, or one mapping of them by name, as for
                :meth:`attribute`. Without them the model is read by symbolic tracing.
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
        if len(example) == 1 and isinstance(example[0], Mapping):
            given = self._given(example[0], None)
            return self._prepared(given.tensors, given.additional, View())[0]
        arguments = Arguments.of(self._given(example, None).tensors)
        return self._explainer.program(arguments, len(arguments.tensors), View())
