"""From a model and options to programs: reads the model, keeps what it read, plans, rewrites."""

from __future__ import annotations

import inspect
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.rnn import PackedSequence

from lrp_fx.analysis import has_attention
from lrp_fx.canonize import canonize
from lrp_fx.canonize.forward import may_vanish
from lrp_fx.canonize.products import has_given_factors
from lrp_fx.capture import (
    REORDERED,
    Arguments,
    Captured,
    ModelState,
    Signature,
    Way,
    read,
    reproduces,
    run_model,
)
from lrp_fx.capture.observers import has_global_hooks
from lrp_fx.capture.reading import same_in_double
from lrp_fx.capture.running import SAME_KERNELS
from lrp_fx.checks import all_finite
from lrp_fx.composites import Composite
from lrp_fx.errors import CaptureError, InputError, OptionError
from lrp_fx.hooks import Hook, MaskRelevance
from lrp_fx.layers import Layer, find_layer, layer_name
from lrp_fx.optimize import NOTHING, check_compiler, compiled
from lrp_fx.options import Options
from lrp_fx.outputs import candidates, explained_result
from lrp_fx.plan import Plan, make_plan
from lrp_fx.probabilities import explained_output
from lrp_fx.program import Program
from lrp_fx.rewrite import rewrite

KEPT = 16
"""So many readings are kept: of different values of non-tensor arguments, and of each of these of
different shapes, where a capture holds for one only. Each has modified weights of its own."""
SHOWN = 8
"""So many samples are named in a message."""
VIEWS = 8
"""So many programs are kept of each reading: for layers, conditions, the ledger. Each has modified
weights of its own too, and who goes through all layers of a model makes as many as there are."""


@dataclass(frozen=True)
class View:
    """What of the model is explained, and where.

    Args:
        explained: the layer whose value is explained, None for the model's output.
        explained_input: the layer's input instead of its output.
        layers: the layers whose relevance is wanted, None for the model's inputs.
        layers_input: their inputs instead of their outputs.
        audited: for the ledger, which also wants to see what goes nowhere.
        masked: layers whose relevance each run masks by channels.
        through: masked layers also keep relevance from going round them.
        channel_dim: the dimension of these channels.
    """

    explained: Layer | None = None
    explained_input: bool = False
    layers: tuple[Layer, ...] | None = None
    layers_input: bool = False
    audited: bool = False
    masked: tuple[Layer, ...] = ()
    through: bool = False
    channel_dim: int = 1


@dataclass
class _Reading:
    """One capture of the model and what was made of it; it holds while the model is in ``state``."""

    captured: Captured
    canonical: Captured
    state: Signature
    fold_dense: bool = True
    verified: set[Any] = field(default_factory=set)
    candidates: tuple[bool, ...] | None = None
    """Which outputs could be explained unasked, as the last verification showed."""
    programs: dict[tuple[int, View, Any], Program] = field(default_factory=dict)
    together: dict[View, list[list[int]]] = field(default_factory=dict)
    """Of views of several layers the places of those that one canonical form serves."""
    hooks: tuple[Hook, ...] = ()


class Explainer:
    """Makes programs for a model and keeps them; safe to use from several threads."""

    def __init__(self, model: nn.Module, options: Options) -> None:
        if not isinstance(model, nn.Module):
            raise OptionError(f"the model must be a torch.nn.Module, got {type(model).__name__}")
        self.model, self.options = model, options
        self._state = ModelState(model)
        self._readings: dict[Any, list[_Reading]] = {}
        self._branching: set[Any] = set()
        self.hooks: OrderedDict[int, Hook] = OrderedDict()
        """The user's relevance hooks, in the order of their registration."""
        self.compiles = False
        """Whether programs are compiled."""
        self._lock = threading.RLock()

    def __getstate__(self) -> tuple[Any, ...]:
        """A copy begins without readings: what was made for one model is not for its copy."""
        return self.model, self.options, self.hooks, self.compiles

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        model, options, hooks, compiles = state
        self.__dict__ |= vars(Explainer(model, options))
        self.hooks, self.compiles = hooks, compiles

    def with_composite(self, composite: Composite | str | None) -> Explainer:
        """An explainer for another composite; it begins with what this one has read of the model."""
        other = Explainer(self.model, replace(self.options, composite=composite))
        with self._lock:
            other._state, other._branching = self._state, set(self._branching)
            other._readings = {
                structure: [replace(reading, programs={}, together={}) for reading in readings]
                for structure, readings in self._readings.items()
            }
            other.hooks, other.compiles = self.hooks.copy(), self.compiles
        return other

    def compile(self) -> None:
        """Compile every program, those that are there already too, at its next call.

        Raises:
            OptionError: if there is no compiler.
        """
        check_compiler()
        with self._lock:
            self.compiles = True
            for readings in self._readings.values():
                for reading in readings:
                    reading.programs.clear()

    def refresh(self) -> None:
        """Forget all readings of the model, and all that was made of them."""
        with self._lock:
            self._readings.clear()
            self._branching.clear()

    def program(
        self,
        arguments: Arguments,
        attributed: int,
        view: View,
        report: Callable[[str], None] | None = None,
    ) -> Program:
        """The program for these arguments, made if it is not there yet.

        Args:
            arguments: the model's arguments; the capture is verified on them.
            attributed: how many of the tensors, from the first, are explained.
            view: what is explained, and where.
            report: gets a line about each step that takes time.
        """
        with self._lock:
            reading = self._reading(arguments, report)
            return self._program(reading, attributed, view)

    def unverified_program(self) -> Program:
        """The program for arguments that nobody has seen yet, where symbolic tracing suffices.

        Raises:
            CaptureError: when inputs are needed to read the model.
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
            self._readings.setdefault(arguments.structure, []).append(reading)
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

    def _reading(self, arguments: Arguments, report: Callable[[str], None] | None) -> _Reading:
        structure, shapes = arguments.structure, arguments.shapes
        state = self._state.signature()
        known = [r for r in self._readings.pop(structure, []) if r.state == state][-KEPT:]
        self._readings[structure] = known  # behind the others: the first one is the longest unused
        while len(self._readings) > KEPT:
            del self._readings[next(iter(self._readings))]
        is_certain = state.is_complete and structure.is_complete and not has_global_hooks()
        for reading in known:
            trusts = is_certain and not reading.captured.is_assumed
            if self.options.verify == "auto" and not trusts:
                continue
            if self.options.verify != "always" and shapes in reading.verified:
                return reading
        own = run_model(self.model, arguments)
        for reading in known:
            if _verified(reading, arguments, own):
                return reading
        began = time.perf_counter()
        way = "record" if structure in self._branching else self.options.capture
        ways = ("auto", "record") if way == "auto" else (way,)
        for each in ways:
            captured = read(self.model, arguments, each, own)
            if report is not None:
                report(f"read by {captured.way} capture in {time.perf_counter() - began:.2f} s")
            for fold_dense in (True, False):
                canonical = canonize(captured, fold_dense=fold_dense)
                reading = _Reading(captured, canonical, state, fold_dense)
                if _verified(reading, arguments, own):
                    if captured.way == "record":  # the next input may take another branch
                        self._branching.add(structure)
                    else:
                        known.append(reading)
                    return reading
            if captured.way == "record":
                break
        raise CaptureError(
            "the canonical graph does not compute what the model computes: this is a fault of lrp_fx, "
            "please report it with the model"
        )

    def _program(self, reading: _Reading, attributed: int, view: View) -> Program:
        key, hooks = (attributed, view, reading.candidates), tuple(self.hooks.values())
        if hooks != reading.hooks:
            reading.programs.clear()
            reading.hooks = hooks
        program = reading.programs.pop(key, None) or self._build(reading, attributed, view)
        if self.options.verify == "always":
            program.refresh()
        reading.programs[key] = program  # behind the others: the first one is the longest unused
        while len(reading.programs) > VIEWS:
            del reading.programs[next(iter(reading.programs))]
        return program

    def _build(self, reading: _Reading, attributed: int, view: View) -> Program:
        captured = self._canonical(reading, attributed, view)
        composite = self.options.resolved(attention=has_attention(captured.module.graph))
        plan = self._plan(captured, reading.candidates, attributed, view, composite)
        lrp = rewrite(
            captured,
            plan,
            start=self.options.start,
            bias=composite.bias,
            engine=self.options.propagation,
            audited=view.audited,
            optimize=NOTHING if view.audited else self.options.optimizations,
            memory=self.options.memory,
            precision=self.options.precision,
        )
        compiles = self.compiles and not view.audited
        function = compiled(lrp.module) if compiles else None
        stacks = self.options.optimizations.stacked
        return Program(self._state, lrp, plan, function, stacks=stacks)

    def _canonical(self, reading: _Reading, attributed: int, view: View) -> Captured:
        """The canonical form for a view, in which the values that it asks for are there.

        What is given beside the explained inputs is a constant, also as a factor.
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

    def together(self, arguments: Arguments, view: View) -> list[list[int]]:
        """The places of a view's layers, those together that one canonical form serves.

        What one layer asks for must not change what the others get.
        """
        with self._lock:
            reading = self._reading(arguments, None)
            if view not in reading.together:
                if len(reading.together) == VIEWS:
                    reading.together.clear()
                reading.together[view] = self._together(reading, view)
            return reading.together[view]

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

    def _plan(
        self,
        captured: Captured,
        candidates: tuple[bool, ...] | None,
        attributed: int,
        view: View,
        composite: Composite,
    ) -> Plan:
        inputs = captured.placeholders()[:attributed]
        notes = [_capture_note(captured.way), f"composite: {composite.name}"]
        if view.explained is None:
            result, chosen = explained_result(captured, self.options.output, candidates)
            explained, note = explained_output(result)
            notes += [chosen] if chosen else []
        else:
            nodes = find_layer(captured, self.model, view.explained, of_input=view.explained_input)
            if len(nodes) != 1:
                verb = "reads" if view.explained_input else "returns"
                names = ", ".join(map(str, nodes))
                raise InputError(f"the layer {verb} {len(nodes)} tensors: name one of {names}")
            (explained,), note = nodes, f"explained: {nodes[0].name}"
        groups: list[tuple[fx.Node, ...]] = [tuple(inputs)]
        if view.layers is not None:
            groups = [
                find_layer(
                    captured, self.model, layer, before=explained, of_input=view.layers_input
                )
                for layer in view.layers
            ]
        masks: dict[fx.Node, MaskRelevance] = {}
        for layer in view.masked:
            name = layer_name(self.model, layer)
            nodes = find_layer(captured, self.model, layer, before=explained)
            if len(nodes) != 1:
                raise InputError(f"'{name}' returns {len(nodes)} tensors: name the node of one")
            if nodes[0] in masks:
                raise InputError(
                    f"'{name}' and '{masks[nodes[0]].layer}' are one node, '{nodes[0].name}': name one"
                )
            masks[nodes[0]] = MaskRelevance(name, view.channel_dim)
        plan = make_plan(
            captured,
            self.model,
            composite,
            inputs=inputs,
            explained=explained,
            groups=groups,
            unknown=self.options.unknown,
            notes=[*notes, note],
            hooks=tuple(self.hooks.values()),
        )
        return replace(plan, masks=masks, through=view.through)


def _verified(reading: _Reading, arguments: Arguments, own: list[object]) -> bool:
    """Whether the graph and its canonical form compute ``own``; remembered for these shapes."""
    captured, canonical = reading.captured.module, reading.canonical.module
    holds = reproduces(captured, arguments, own, SAME_KERNELS) and (
        reproduces(canonical, arguments, own, REORDERED)
        or same_in_double(captured, canonical, arguments)
    )
    if holds:
        reading.verified.add(arguments.shapes)
        reading.candidates = candidates(own)
    return holds


def asked(captured: Captured, model: nn.Module, view: View) -> set[fx.Node]:
    """The nodes whose values nothing that is folded may take the place of.

    A neuron is a value: that of its layer must be there, whether a norm or a scale reads it or made it.
    Of a layer whose relevance is wanted it must be there where a norm, a scale, a shift or a pad makes
    it. Where a norm reads it,
    the layer and the norm are one linear operation, and its relevance is that of both.

    Args:
        captured: a graph before any norm was folded.
        model: the user's model.
        view: what is explained, and where.
    """
    paths = {path for path, _ in model.named_modules(remove_duplicate=False)}

    def found(layer: Layer, of_input: bool) -> tuple[fx.Node, ...]:
        if isinstance(layer, str) and layer.partition("#")[0] not in paths:
            return ()  # a node as the plan shows it, with its norm
        try:
            return find_layer(captured, model, layer, of_input=of_input)
        except InputError:  # it is raised again where the layer is looked for
            return ()

    values = set() if view.explained is None else set(found(view.explained, view.explained_input))
    for layer in view.layers or ():
        values |= set(filter(may_vanish, found(layer, view.layers_input)))
    for layer in view.masked:
        values |= set(filter(may_vanish, found(layer, False)))
    return values


def _capture_note(way: Way) -> str:
    if way == "record":
        return (
            "capture: record; the plan holds for this input alone, another may take another branch"
        )
    return f"capture: {way}"


def check_inputs(inputs: tuple[Any, ...]) -> None:
    """Refuse inputs that cannot be explained.

    Raises:
        InputError: for anything but floating point tensors with one common, non-empty batch
            dimension and finite values.
    """
    if isinstance(inputs, PackedSequence):
        raise InputError(
            "the input is a PackedSequence, which no graph can hold: its sizes are values. Pass the "
            "padded tensor to a model that takes it, one length at a time where padding must not count"
        )
    if not inputs:
        raise InputError("there are no inputs: pass a tensor or a tuple of tensors")
    for position, value in enumerate(inputs):
        name = f"input {position}" if len(inputs) > 1 else "the input"
        if not isinstance(value, Tensor):
            raise InputError(
                f"{name} must be a tensor, got {type(value).__name__}: several inputs are a tuple of "
                "tensors, what gets no relevance is an additional argument"
            )
        if not value.is_floating_point() and value.dtype not in (torch.int32, torch.int64):
            raise not_tokens(name, value)
        if value.layout != torch.strided or value.is_meta or value.is_nested:
            layout = "nested" if value.is_nested else str(value.layout).removeprefix("torch.")
            kind = "meta" if value.is_meta else layout
            raise InputError(f"{name} is a {kind} tensor: pass a dense one with values")
        if value.dim() == 0:
            raise InputError(
                f"{name} has no dimensions: the first one is the batch, x[None] adds it"
            )
        if value.shape[0] == 0:
            raise InputError(f"{name} has an empty batch: shape {tuple(value.shape)}")
        if value.shape[0] != inputs[0].shape[0]:
            raise InputError(
                f"the inputs differ in their batch size: {inputs[0].shape[0]} and {value.shape[0]}; what "
                "is not explained, such as offsets, goes into additional_forward_args"
            )
        if not all_finite(value):
            raise _not_finite(name, value)


def _not_finite(name: str, value: Tensor) -> InputError:
    """The error for an input with NaN or infinity: how many, in which samples, and where the first is."""
    places = (~torch.isfinite(value)).nonzero()
    samples = sorted(set(places[:, 0].tolist()))
    listed = ", ".join(map(str, samples[:SHOWN])) + (" …" if len(samples) > SHOWN else "")
    of = f"sample {listed}" if len(samples) == 1 else f"samples {listed}"
    return InputError(
        f"{name} holds {len(places)} NaN or infinite values, in {of}; the first is at "
        f"{tuple(places[0].tolist())}"
    )


def not_tokens(name: str, value: Tensor) -> InputError:
    """The error for an input that is no floating point number and that no relevance can reach."""
    return InputError(
        f"{name} has dtype {value.dtype}: relevance is for floating point inputs, and for integers that "
        "choose rows of a table (nn.Embedding, table[i], one_hot) or become numbers, not for masks and "
        "places; pass it as an additional argument, or convert it as the model expects (for images: "
        "float, normalized)"
    )


__all__ = ["Explainer", "View", "check_inputs", "not_tokens"]
