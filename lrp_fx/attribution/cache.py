"""From a model and options to programs: reads the model, plans, rewrites, and caches the results."""

from __future__ import annotations

import inspect
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from lrp_fx._common import Recent
from lrp_fx.attribution.asked import asked
from lrp_fx.attribution.options import Changes, Options
from lrp_fx.canonize import canonize, has_given_factors
from lrp_fx.capture import (
    REORDERED,
    SAME_KERNELS,
    Arguments,
    Captured,
    Follower,
    KeptCaptures,
    ModelState,
    NotText,
    Signature,
    as_text,
    close,
    has_global_hooks,
    lasting_key,
    leaves_same_trail,
    read,
    reproduces,
    run_followed,
    same_in_double,
)
from lrp_fx.errors import CaptureError, InputError, OptionError
from lrp_fx.graph import EXAMPLE, TreeSpec, draws
from lrp_fx.meaning import has_attention
from lrp_fx.plan import Hook, Plan, View, candidates, plan_of_view
from lrp_fx.rewrite import rewrite
from lrp_fx.run import Program, check_compiler, compiled

KEPT = 16
"""How many readings are kept.

There is one for each value of the non-tensor arguments, and for each shape if a capture is valid
for one shape only. Each reading has modified weights of its own.
"""

VIEWS = 8
"""How many programs are kept per reading: for layers, conditions, the ledger.

Each has modified weights of its own, so without a limit a loop over all layers of a model would
keep one copy of them per layer.
"""


def _recent_views() -> Recent[Any, Any]:
    return Recent(VIEWS)


@dataclass
class _Reading:
    """A capture of the model and what was made of it; valid while the signature is ``state``."""

    captured: Captured
    canonical: Captured
    state: Signature
    fold_dense: bool = True
    verified: Recent[Any, bool] = field(default_factory=Recent)
    """The shapes on which the graph was compared with the model."""
    is_assumed: bool = False
    """Whether the graph may be wrong on other inputs of the same shapes; then every call is verified."""
    candidates: tuple[bool, ...] | None = None
    """Which outputs may be explained by default, according to the last verification."""
    programs: Recent[tuple[int, View, Any], Program] = field(default_factory=_recent_views)
    together: Recent[View, list[list[int]]] = field(default_factory=_recent_views)
    """For views of several layers, the indices of the layers that can share one canonical graph."""
    hooks: tuple[Hook, ...] = ()


@dataclass
class _Own:
    """The outputs of a run of the model, and the follower of that run.

    Args:
        follower: has followed the run.
        outputs: its flat outputs.
        spec: how they are nested.
        is_late: whether canonical forms are compared with them later.
    """

    follower: Follower
    outputs: list[object]
    spec: TreeSpec
    is_late: bool

    def due(self, reading: _Reading, arguments: Arguments) -> Due | None:
        """The comparison that is left for a reading."""
        return Due(reading, arguments, self.outputs) if self.is_late else None


@dataclass(frozen=True)
class Due:
    """A comparison that is left until a map was made: its own forward pass computes what is compared.

    Args:
        reading: the graph whose canonical form has not been compared with the model yet.
        arguments: the model's arguments.
        outputs: what the model computed from them.
    """

    reading: _Reading
    arguments: Arguments
    outputs: list[object]

    @property
    def expected(self) -> Tensor | None:
        """The model's output, if it is one tensor."""
        tensors = [each for each in self.outputs if isinstance(each, Tensor)]
        return tensors[0] if len(tensors) == 1 else None

    def covers(self, plan: Plan) -> bool:
        """Whether a plan explains the only output of the canonical form, and no value inside."""
        canonical = self.reading.canonical
        if self.expected is None or any(map(draws, canonical.module.graph.nodes)):
            return False
        return any(each is plan.explained for each in canonical.results())

    def holds(self, output: Tensor | None = None) -> bool:
        """Whether the canonical form computes what the model computed.

        Args:
            output: what the canonical form computes, if that is known.
        """
        expected = self.expected
        if output is not None and expected is not None:
            with torch.no_grad():
                if close(expected, output, REORDERED):
                    return True
        captured, canonical = self.reading.captured.module, self.reading.canonical.module
        return reproduces(canonical, self.arguments, self.outputs, REORDERED) or same_in_double(
            captured, canonical, self.arguments
        )


def _readings_of(
    captured: Captured, state: Signature, known: _Reading | None = None
) -> Iterator[_Reading]:
    """The readings of a capture to try: with all folds, then without those into dense layers.

    ``known`` is one that held for an equal capture; it takes the place of its like and of those before.
    """
    if known is not None:
        yield known
    for fold_dense in (True, False):
        if known is None or known.fold_dense > fold_dense:
            canonical = canonize(captured, fold_dense=fold_dense)
            yield _Reading(captured, canonical, state, fold_dense)


def _recording(captured: Captured, arguments: Arguments, state: Signature) -> Any:
    """What two recordings share if they are the same graph; None if that cannot be told."""
    if captured.way != "record":
        return None
    try:
        return as_text(captured), arguments.shapes, state
    except NotText:
        return None


class Explainer:
    """Makes programs for a model and keeps them. Safe to use from several threads."""

    def __init__(self, model: nn.Module, options: Options) -> None:
        if not isinstance(model, nn.Module):
            raise OptionError(f"the model must be a torch.nn.Module, got {type(model).__name__}")
        if options.optimizations.compiled:
            check_compiler()
        self.model, self.options = model, options
        self._state = ModelState(model)
        self._readings: Recent[Any, list[_Reading]] = Recent(KEPT)
        self._branching: Recent[Any, bool] = Recent(KEPT)
        self._recorded: dict[Any, _Reading] = {}
        """The last recording. If the next one is the same graph, its programs hold for that too."""
        self.hooks: OrderedDict[int, Hook] = OrderedDict()
        """The user's relevance hooks, in the order of registration."""
        self._lock = threading.RLock()
        self._kept = (
            None if options.cache is None else KeptCaptures(Path(options.cache).expanduser())
        )

    def __getstate__(self) -> tuple[Any, ...]:
        """The state of a copy, without readings: they are made for one model, not for its copy."""
        return self.model, self.options, self.hooks

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        model, options, hooks = state
        self.__dict__ |= vars(Explainer(model, options))
        self.hooks = hooks

    def with_options(self, changes: Changes) -> Explainer:
        """An explainer with other options, which starts with the readings of this one.

        Another way of capture has no readings yet.
        """
        other = Explainer(self.model, replace(self.options, **changes))
        with self._lock:
            other.hooks = self.hooks.copy()
            if other.options.capture != self.options.capture:
                return other
            other._state, other._branching = self._state, self._branching.copy()
            other._readings = self._readings.copy(
                lambda readings: [
                    replace(reading, programs=_recent_views(), together=_recent_views())
                    for reading in readings
                ]
            )
        return other

    def compile(self) -> None:
        """Compile every program at its next call, also existing ones.

        Raises:
            OptionError: if there is no C++ compiler.
        """
        check_compiler()
        with self._lock:
            optimizations = replace(self.options.optimizations, compiled=True)
            self.options = replace(self.options, optimize=optimizations)
            for readings in self._readings.values():
                for reading in readings:
                    reading.programs.clear()
            self._recorded.clear()

    def refresh(self) -> None:
        """Forget all readings of the model, and everything made from them."""
        with self._lock:
            self._readings.clear()
            self._branching.clear()
            self._recorded.clear()

    def program(
        self,
        arguments: Arguments,
        attributed: int,
        view: View,
        report: Callable[[str], None] | None = None,
    ) -> Program:
        """The program for these arguments; it is made if it does not exist yet.

        Args:
            arguments: the model's arguments; the capture is verified on them.
            attributed: how many of the tensors, from the first, are explained.
            view: the explained output or layer, and the explained inputs.
            report: gets a line about each step that takes time.

        Raises:
            InputError: if an argument is a meta or a nested tensor.
        """
        self._check(arguments)
        with self._lock:
            reading, _ = self._reading(arguments, attributed, report)
            return self._program(reading, attributed, view)

    def program_and_due(
        self,
        arguments: Arguments,
        attributed: int,
        view: View,
        report: Callable[[str], None] | None = None,
    ) -> tuple[Program, Due | None]:
        """As :meth:`program`, for a caller that makes a map next: the last comparison may be left to it.

        Returns:
            The program; and what :meth:`confirms` has to be asked about after its run.
        """
        self._check(arguments)
        with self._lock:
            reading, due = self._reading(arguments, attributed, report, late=True)
            try:
                program = self._program(reading, attributed, view)
            except Exception:  # whatever a wrong form runs into
                if due is None or self.confirms(due):
                    raise
                return self.program(arguments, attributed, view, report), None
            if due is not None and not due.covers(program.plan):
                if not self.confirms(due):
                    return self.program(arguments, attributed, view, report), None
                due = None
            return program, due

    def confirms(self, due: Due, output: Tensor | None = None) -> bool:
        """Whether the canonical form computes what the model computed; if so, the shapes are remembered.

        Args:
            due: what is to be compared.
            output: the output of the run of the program; None if it failed.
        """
        holds = due.holds(output)
        if holds:
            with self._lock:
                due.reading.verified.put(due.arguments.shapes, True)
        return holds

    @staticmethod
    def _check(arguments: Arguments) -> None:
        for tensor in arguments.tensors:
            if tensor.is_meta or tensor.is_nested:
                kind = "meta" if tensor.is_meta else "nested"
                raise InputError(f"an argument is a {kind} tensor: pass a dense one with values")

    def unverified_program(self) -> Program:
        """The program without example arguments, if symbolic tracing can read the model.

        Raises:
            CaptureError: if the model cannot be read without example inputs.
        """
        with self._lock:
            state = self._state.signature()
            for readings in self._readings.values():
                for reading in readings:
                    if reading.state == state and reading.programs:
                        attributed, *_ = next(iter(reading.programs))
                        return self._program(reading, attributed, View())
            arguments = self._expected_arguments()
            way = self.options.capture
            if way in ("export", "record"):
                raise CaptureError(f"capture={way!r} needs example inputs: pass them to plan()")
            try:
                captured = read(self.model, arguments, way)
            except CaptureError as error:
                raise CaptureError(f"{error}\nPass example inputs: plan(x).") from error
            reading = _Reading(captured, canonize(captured), state)
            self._readings.get(arguments.structure, list).append(reading)
            return self._program(reading, len(captured.placeholders()), View())

    def _expected_arguments(self) -> Arguments:
        """A tensor for each required argument of the model's forward."""
        parameters = inspect.signature(self.model.forward).parameters.values()
        required = [
            p
            for p in parameters
            if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        sample = Arguments.of(
            tuple(torch.empty(0, device="cpu") for _ in range(max(1, len(required))))
        )
        return Arguments((), sample.constants, sample.spec)

    def _reading(
        self,
        arguments: Arguments,
        attributed: int,
        report: Callable[[str], None] | None,
        *,
        late: bool = False,
    ) -> tuple[_Reading, Due | None]:
        """A reading for these arguments.

        Args:
            arguments: as in :meth:`program`; the next two too.
            attributed: how many of the tensors are explained.
            report: gets a line about each step that takes time.
            late: whether the comparison of the canonical form may be left to the caller.

        Returns:
            The reading, and the comparison that is left.
        """
        structure, shapes = arguments.structure, arguments.shapes
        state = self._state.signature()
        known = self._readings.get(structure, list)
        known[:] = [reading for reading in known if reading.state == state][-KEPT:]
        is_certain = state.is_complete and structure.is_complete and not has_global_hooks()
        for reading in known:
            trusts = is_certain and not reading.is_assumed
            if self.options.verify == "auto" and not trusts:
                continue
            if self.options.verify != "always" and shapes in reading.verified:
                reading.verified.put(shapes, True)
                return reading, None
        follower = Follower(attributed)
        own = _Own(follower, *run_followed(self.model, arguments, follower), late)
        for reading in known:
            if self._verified(reading, arguments, own):
                return reading, own.due(reading, arguments)
        began = time.perf_counter()
        key = None
        if self._kept is not None and is_certain:
            key = lasting_key(self.model, arguments, self.options.capture)
        if self._kept is not None and key is not None:
            for captured in self._kept.found(key, arguments, self._state.tensors, own.spec):
                kept = self._kept_reading(captured, arguments, own, state)
                if kept is not None:
                    if report is not None:
                        report(f"found in the cache in {time.perf_counter() - began:.2f} s")
                    known.append(kept)
                    return kept, own.due(kept, arguments)
        way = "record" if structure in self._branching else self.options.capture
        ways = ("auto", "record") if way == "auto" else (way,)
        for each in ways:
            graph = Follower(attributed)
            captured = read(self.model, arguments, each, own.outputs, graph)
            if report is not None:
                report(f"read by {captured.way} capture in {time.perf_counter() - began:.2f} s")
            recording = _recording(captured, arguments, state)
            same = self._recorded.get(recording)
            for reading in _readings_of(captured, state, same):
                reading.is_assumed = captured.is_assumed
                if self._verified(reading, arguments, own, graph):
                    if captured.way == "record":  # another input may take another branch
                        self._branching.put(structure, True)
                        self._recorded = {recording: reading} if recording else {}
                    else:
                        known.append(reading)
                        if self._kept is not None and key is not None and not captured.is_assumed:
                            self._kept.keep(key, arguments, captured)
                    return reading, own.due(reading, arguments)
            if captured.way == "record":
                break
        raise CaptureError(
            "the canonical graph does not compute what the model computes: this is a bug in lrp_fx: "
            "please report it with the model"
        )

    def _kept_reading(
        self, captured: Captured, arguments: Arguments, own: _Own, state: Signature
    ) -> _Reading | None:
        """The reading of a capture from the cache, if it computes what the model computed."""
        graph = Follower(own.follower.attributed)
        if not reproduces(captured.module, arguments, own.outputs, SAME_KERNELS, graph):
            return None
        for node, tensor in zip(captured.placeholders(), arguments.tensors, strict=True):
            node.meta[EXAMPLE] = tensor.detach().to("meta")
        for reading in _readings_of(captured, state):
            if self._verified(reading, arguments, own, graph):
                return reading
        return None

    def _verified(
        self, reading: _Reading, arguments: Arguments, own: _Own, graph: Follower | None = None
    ) -> bool:
        """Whether the graph and its canonical form compute what the model computed.

        If so, the shapes are remembered; :meth:`confirms` does this if the canonical form comes later.

        Args:
            reading: the graph and its canonical form.
            arguments: the model's arguments.
            own: what the model computed from them.
            graph: has followed a run of the graph that computed the same; None before such a run.
        """
        if graph is None:
            graph = Follower(own.follower.attributed)
            captured = reading.captured.module
            if not reproduces(captured, arguments, own.outputs, SAME_KERNELS, graph):
                return False
        if not own.is_late and not Due(reading, arguments, own.outputs).holds():
            return False
        way, is_new = reading.captured.way, arguments.shapes not in reading.verified
        if is_new and way != "record":
            traced = way == "symbolic"
            same = leaves_same_trail(self.model, arguments, own.follower, graph, is_traced=traced)
            if not same and reading.verified and not reading.is_assumed:
                return False  # it holds for other shapes, but here the model takes another branch
            reading.is_assumed |= not same
        if not own.is_late:
            reading.verified.put(arguments.shapes, True)
        reading.candidates = candidates(own.outputs)
        return True

    def _program(self, reading: _Reading, attributed: int, view: View) -> Program:
        key, hooks = (attributed, view, reading.candidates), tuple(self.hooks.values())
        if hooks != reading.hooks:
            reading.programs.clear()
            reading.hooks = hooks
        program = reading.programs.get(key, lambda: self._build(reading, attributed, view))
        if self.options.verify == "always":
            program.refresh()
        return program

    def _build(self, reading: _Reading, attributed: int, view: View) -> Program:
        captured = self._canonical(reading, attributed, view)
        attention = has_attention(captured.module.graph)
        composite, reason = self.options.resolved(attention=attention), ""
        if self.options.composite is None:
            reason = f"the default for models {'with' if attention else 'without'} attention"
        plan = plan_of_view(
            captured,
            self.model,
            composite,
            view,
            inputs=captured.placeholders()[:attributed],
            candidates=reading.candidates,
            output=self.options.output,
            unknown=self.options.unknown,
            hooks=tuple(self.hooks.values()),
            reason=reason,
        )
        optimizations = self.options.optimizations
        lrp = rewrite(
            captured,
            plan,
            start=self.options.start,
            bias=composite.bias,
            engine=self.options.propagation,
            audited=view.audited,
            optimize=optimizations.as_written() if view.audited else optimizations,
        )
        compiles = optimizations.compiled and not view.audited
        function = compiled(lrp.module) if compiles else None
        return Program(
            self._state,
            lrp,
            plan,
            function,
            stacks=optimizations.stacked,
            check_finite=self.options.check_finite,
        )

    def _canonical(self, reading: _Reading, attributed: int, view: View) -> Captured:
        """The canonical form for a view; values that the view asks for are not folded away.

        Inputs that are not explained are constants, also as factors of products.
        """
        asks = view.explained is not None or view.layers or view.masked
        if not asks and not has_given_factors(reading.captured.module.graph, attributed):
            return reading.canonical
        return canonize(
            reading.captured,
            fold_dense=reading.fold_dense,
            asked=lambda captured: asked(captured, self.model, view),
            explained=attributed,
        )

    def together(self, arguments: Arguments, attributed: int, view: View) -> list[list[int]]:
        """The indices of a view's layers, grouped by layers that can share one canonical graph.

        What one layer needs in the graph must not change the relevance of another.
        """
        with self._lock:
            reading, _ = self._reading(arguments, attributed, None)
            return reading.together.get(view, lambda: self._together(reading, view))

    def _together(self, reading: _Reading, view: View) -> list[list[int]]:
        assert view.layers is not None
        forms: dict[frozenset[str], list[int]] = {}

        def sort(captured: Captured) -> tuple[fx.Node, ...]:
            for place, layer in enumerate(view.layers or ()):
                nodes = asked(captured, self.model, replace(view, layers=(layer,)))
                forms.setdefault(frozenset(node.name for node in nodes), []).append(place)
            return ()

        canonize(reading.captured, asked=sort)
        return list(forms.values())
