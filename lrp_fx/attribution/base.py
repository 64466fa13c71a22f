"""The common base of all attributions: an explainer, and the form of arguments and results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, Self, Unpack

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from lrp_fx._common import check_callable
from lrp_fx.attribution.arguments import (
    arguments_of,
    check_forms,
    check_values,
    name_of_input,
    not_tokens,
)
from lrp_fx.attribution.boundary import documented
from lrp_fx.attribution.cache import Explainer
from lrp_fx.attribution.given import Form, Given, finalize, given
from lrp_fx.attribution.options import Changes, check_names
from lrp_fx.capture import Arguments, run_model
from lrp_fx.composites import Composite
from lrp_fx.composites.composite import MatcherLike, as_matcher
from lrp_fx.errors import InputError, LRPError
from lrp_fx.plan import Hook, HookFunction, Layer, Plan, View, as_layers
from lrp_fx.relevance import LargestTarget, SelectorTarget, StartRelevance, Target
from lrp_fx.run import Explanation, Program, check_batch, per_sample


class Explaining:
    """The common base of all attributions: an explainer, and the form of arguments and results."""

    _explainer: Explainer
    multiplies_by_inputs = True

    def has_convergence_delta(self) -> bool:
        """True: the delta is the sum of the start less the sum of the relevance."""
        return True

    @documented
    def compute_convergence_delta(
        self, attributions: Tensor | tuple[Tensor, ...], output: Tensor
    ) -> Tensor:
        """Σ ``output`` − Σ ``attributions`` of each sample, (N,).

        Args:
            attributions: (N, …) each, as :meth:`attribute` returned them.
            output: the relevance that the propagation started with, (N, …).

        Raises:
            InputError: unless all are tensors with the same N.
        """
        many = attributions if isinstance(attributions, tuple) else (attributions,)
        sizes = {len(v) if isinstance(v, Tensor) and v.dim() else 0 for v in (*many, output)}
        if len(sizes) != 1 or 0 in sizes:
            raise InputError("relevance and output must be tensors (N, …) of the same N")
        return per_sample(output) - sum(per_sample(each) for each in many)

    def refresh(self) -> None:
        """Read the model again at the next call, after changes that cannot be noticed (see the guide)."""
        self._explainer.refresh()

    @documented
    def with_composite(self, composite: Composite | str | None) -> Self:
        """The same attribution with another composite; all other options and hooks stay.

        The new attribution reuses what this one has read of the model. This is the fast way to
        compare composites.

        Args:
            composite: a composite, the name of a preset, or None for the default.

        Raises:
            CompositeError: for an unknown name.
            OptionError: for anything but a composite, a name or None.
        """
        return self.with_options(composite=composite)

    @documented
    def with_options(self, **options: Unpack[Changes]) -> Self:
        """The same attribution with other options; the options not named and the hooks stay.

        The new attribution reuses what this one has read of the model: only its rules are written
        anew. So ``lrp.with_options(composite="z_plus", top_k=0.2)`` gives the map of a new
        attribution with these options, but reads nothing. Another ``capture`` reads the model again.

        Args:
            options: the options of :class:`lrp_fx.LRPFx`, also ``composite``.

        Raises:
            OptionError: for an unknown option, or for a value that an option cannot have.
            CompositeError: for an unknown composite.
        """
        check_names("with_options", options)
        other = copy(self)
        other._explainer = self._explainer.with_options(options)  # noqa: SLF001 its own class
        return other

    def _given(
        self, inputs: Form, additional: object, *, create_graph: bool = False
    ) -> Given[Form]:
        """The inputs as tensors, and the form in which their relevance goes back."""
        return given(inputs, additional, self._explainer.model, create_graph=create_graph)

    def _refused(self, inputs: Any, additional: Any) -> InputError | None:
        """Why the model itself fails, as on words that are not in its table; None if it runs."""
        try:
            made = self._given(inputs, additional)
            run_model(self._explainer.model, arguments_of(made.tensors, made.additional))
        except InputError as error:
            return error
        except Exception:  # the caller has an error already, which says more
            return None
        return None

    def _explained(
        self,
        inputs: Any,
        additional: Any,
        target: Target | SelectorTarget | LargestTarget,
        view: View,
        verbose: bool,
        create_graph: bool,
    ) -> tuple[Explanation, Plan]:
        many = inputs if isinstance(inputs, tuple) else (inputs,)
        self._check(many, late=True)
        arguments, report = arguments_of(many, additional), print if verbose else None
        with self._blaming(many):
            program, due = self._explainer.program_and_due(arguments, len(many), view, report)
        tensors = self._ready(program, many, arguments, view, verbose, create_graph)
        with self._blaming(many):
            run = partial(program.run, create_graph=create_graph, beside=_read_late(many))
            try:
                explanation = run(tensors, target)
                right = due is None or self._explainer.confirms(due, explanation.output)
            except Exception:  # whatever a wrong form runs into
                if due is None or self._explainer.confirms(due):
                    raise
                right = False
        if not right:  # another canonical form is made, and compared first
            program, tensors = self._prepared(many, additional, view, False, create_graph)
            explanation = program.run(tensors, target, create_graph=create_graph)
        check_batch(explanation.output, tensors[0])
        return explanation, program.plan

    def _prepared(
        self,
        inputs: Any,
        additional: Any,
        view: View,
        verbose: bool = False,
        create_graph: bool = False,
    ) -> tuple[Program, tuple[Tensor, ...]]:
        """The program for these arguments, and the tensors to run it on.

        Args:
            inputs: as in :meth:`attribute`; all that follow too.
            additional: the further arguments.
            view: the explained output or layer.
            verbose: print the plan.
            create_graph: keep the graph of autograd.
        """
        inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        self._check(inputs)
        arguments = arguments_of(inputs, additional)
        report = print if verbose else None
        with self._blaming(inputs):
            program = self._explainer.program(arguments, len(inputs), view, report)
        return program, self._ready(program, inputs, arguments, view, verbose, create_graph)

    def _ready(
        self,
        program: Program,
        inputs: tuple[Tensor, ...],
        arguments: Arguments,
        view: View,
        verbose: bool,
        create_graph: bool,
    ) -> tuple[Tensor, ...]:
        """The tensors to run a program on, if it can explain these inputs."""
        if view.layers is None:
            for position, source in enumerate(program.plan.sources):
                value = inputs[position]
                if not value.is_floating_point() and not program.plan.reaches(source):
                    raise not_tokens(name_of_input(inputs, position), value)
        if verbose:
            print(program.plan)
        return tuple(t if create_graph else t.detach() for t in arguments.tensors)

    def _check(self, inputs: tuple[Tensor, ...], late: bool = False) -> None:
        """Refuse inputs that cannot be explained."""
        check_forms(inputs)
        if self._explainer.options.check_finite and not (late and _read_late(inputs)):
            check_values(inputs)

    @contextmanager
    def _blaming(self, inputs: tuple[Tensor, ...]) -> Iterator[None]:
        """If a run fails, say first whether the inputs hold NaN: they may not have been read before."""
        try:
            yield
        except LRPError:
            if self._explainer.options.check_finite:
                check_values(inputs)
            raise

    def _of_layers(
        self,
        inputs: Any,
        additional: Any,
        target: Target | LargestTarget,
        view: View,
        verbose: bool = False,
        create_graph: bool = False,
    ) -> tuple[Explanation, list[tuple[Tensor, ...]]]:
        """The relevance of a view's layers.

        Returns:
            An explanation with the output and the start, and for each layer its tensors of
            relevance.
        """
        layers = view.layers or ()
        together: Sequence[Sequence[int]] = [range(len(layers))]
        if len(layers) > 1:
            many = inputs if isinstance(inputs, tuple) else (inputs,)
            self._check(many)
            together = self._explainer.together(arguments_of(many, additional), len(many), view)
        found: dict[int, tuple[Tensor, ...]] = {}
        for places in together:
            part = replace(view, layers=tuple(layers[place] for place in places))
            explanation, plan = self._explained(
                inputs, additional, target, part, verbose, create_graph
            )
            relevance = iter(explanation.relevance)
            for place, group in zip(places, plan.groups, strict=True):
                found[place] = tuple(next(relevance) for _ in group)
        return explanation, [found[place] for place in range(len(layers))]

    def compile(self) -> Self:
        """Compile the LRP graph at the next call: ``Optimizations(compiled=True)`` from now on.

        Returns:
            The attribution itself.

        Raises:
            OptionError: if there is no C++ compiler; in the next call, if a hook or a callable
                start cannot be compiled.
        """
        self._explainer.compile()
        return self

    @documented
    def register_relevance_hook(
        self, pattern: MatcherLike, function: HookFunction
    ) -> RemovableHandle:
        """Let a function see, and change, the relevance that enters nodes.

        Args:
            pattern: the nodes: a glob of module paths, a module class, or a matcher of
                :mod:`lrp_fx.composites`.
            function: called as ``function(relevance, step)`` for each node in every run. It gets
                a copy of the relevance of the node's output, after the filter and before the node's
                rule, and the node's :class:`Step` of the plan. It returns the relevance that goes
                on, a tensor of the same shape, or None to change nothing.

        Returns:
            A handle; ``handle.remove()`` removes the hook.

        Raises:
            OptionError: if the function is not callable.
            CompositeError: for a pattern of another type; at the next call, if it matches nothing
                that carries relevance.
        """
        check_callable("a relevance hook", function)
        handle = RemovableHandle(self._explainer.hooks)
        self._explainer.hooks[handle.id] = Hook(as_matcher(pattern), function)
        return handle


def _read_late(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The inputs whose values are read only at the end of a run: to read them, one waits for a device."""
    return tuple(each for each in inputs if each.device.type != "cpu")


@documented
def explained(
    lrp: Explaining, inputs: Tensor, target: Target | LargestTarget, layers: Sequence[Layer] = ()
) -> tuple[Explanation, list[Tensor]]:
    """The relevance, the output and the start of a batch, from one pass.

    Args:
        lrp: the attribution.
        inputs: (N, …).
        target: as in :meth:`lrp_fx.LRPFx.attribute`; ``LargestTarget()`` for the predicted classes.
        layers: if there are any, their relevance is computed instead of that of the inputs.

    Returns:
        The explanation, and the relevance of the inputs or of each layer.

    Raises:
        LRPError: the errors of :meth:`lrp_fx.LRPFx.attribute`.
    """
    if layers:
        view = View(layers=as_layers(layers))
        explanation, groups = lrp._of_layers(inputs, None, target, view)  # noqa: SLF001 its own
        return explanation, [relevance for group in groups for relevance in group]
    explanation, _, relevance = _of_inputs(lrp, inputs, target)
    return explanation, [relevance]


@documented
def with_probabilities(
    lrp: Explaining, inputs: Tensor, target: Target | LargestTarget
) -> tuple[Tensor, Tensor]:
    """The relevance of the inputs (N, …) and the probabilities (N, classes, …), from one pass.

    Args:
        lrp: the attribution.
        inputs: (N, …).
        target: as in :func:`explained`.

    Raises:
        InputError: if the explained output has no dimension of classes.
        LRPError: the errors of :meth:`lrp_fx.LRPFx.attribute`.
    """
    explanation, plan, relevance = _of_inputs(lrp, inputs, target)
    return relevance, plan.probabilities(explanation.output)


def _of_inputs(
    lrp: Explaining, inputs: Tensor, target: Target | LargestTarget
) -> tuple[Explanation, Plan, Tensor]:
    """A run for the inputs, its plan, and the relevance in the inputs' dtype."""
    explanation, plan = lrp._explained(inputs, None, target, View(), False, False)  # noqa: SLF001 its own
    relevance = finalize(explanation.relevance[0].to(inputs.dtype), create_graph=False)
    return explanation, plan, relevance


def takes_target(lrp: Explaining) -> bool:
    """Whether the start of the relevance depends on a target."""
    return StartRelevance(lrp._explainer.options.start).takes_target  # noqa: SLF001 its own class


def stacked(maps: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Relevance of the same inputs one above the other, (T, N, …) each."""
    return tuple(map(torch.stack, zip(*maps, strict=True)))
