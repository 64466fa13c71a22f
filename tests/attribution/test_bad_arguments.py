"""Whatever is passed anywhere: a result, or an error that the library documents, never another one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from torch import Tensor, nn

from lrp_fx import (
    Composite,
    ConceptLRPFx,
    LayerLRPFx,
    LRPFx,
    NeuronLRPFx,
    Optimizations,
    References,
    Stabilizer,
    against,
    against_all,
    bilrp,
    composites,
    operations,
    relevance_filter,
    rules,
)
from lrp_fx.errors import CompositeError, InputError, LRPError, OptionError, UnexpectedError

SHAPES = st.lists(st.integers(0, 4), max_size=5)
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-9, 9),
    st.floats(),
    st.text(max_size=3),
    st.binary(max_size=2),
    st.lists(st.integers(-9, 9), max_size=3),
    st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
    st.lists(st.tuples(st.integers(-9, 9)), max_size=3),
    st.lists(st.lists(st.integers(-3, 3), max_size=2), max_size=3),
    st.lists(st.none(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(0, 3), max_size=2),
    st.sampled_from([float, nn.ReLU(), nn.Linear, torch.float32, "0", "2", "4", "y", {1, 2}, 1j]),
    st.sampled_from([slice(0, 2), slice(2, 0), slice("a"), slice(0, 9, 0), range(3)]),
    st.sampled_from([lambda *a: None, lambda *a: a[0], lambda *a: a[0].sum()]),
    SHAPES.map(torch.zeros),
    SHAPES.map(lambda shape: torch.zeros(shape).long()),
    SHAPES.map(lambda shape: torch.zeros(shape) > 0),
    st.sampled_from([float("nan"), float("inf"), 1e38]).map(lambda v: torch.full((2, 3, 5, 5), v)),
)
CONDITIONS = st.lists(
    st.dictionaries(st.sampled_from(["0", "1", "2", "y", "no", 3, None]), VALUES, max_size=3),
    max_size=2,
)
X = torch.linspace(-1, 1, 150).reshape(2, 3, 5, 5)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3))


MODEL = model()
LRP, LAYER, NEURON, CRP = (
    LRPFx(MODEL),
    LayerLRPFx(MODEL, "0"),
    NeuronLRPFx(MODEL, "0"),
    ConceptLRPFx(MODEL),
)
"""Each for all its calls: what failed in one is forgotten in the next."""
LEDGER = LRP.audit(X, 1)


def explained(composite: Composite | None = None, **options: Any) -> Tensor:
    if not options:
        return LRP.with_composite(composite).attribute(X, 1)  # type: ignore[no-any-return]
    target = None if "start" in options else 1
    return LRPFx(MODEL, composite, **options).attribute(X, target)  # type: ignore[no-any-return]


def hooked(pattern: Any, function: Any) -> Any:
    lrp = LRPFx(MODEL)
    lrp.register_relevance_hook(pattern, function)
    return lrp.attribute(X, 1)


def first(rule: rules.Rule) -> Tensor:
    return explained(Composite([("0", rule)]))


CALLS: dict[str, Callable[[Any], Any]] = {
    "model": lambda v: LRPFx(v).attribute(X, 1),
    "composite": lambda v: LRPFx(MODEL, v).attribute(X, 1),
    **{
        option: lambda v, option=option: explained(**{option: v})  # type: ignore[misc]
        for option in (
            *("top_k", "filters", "propagation", "start", "bias", "capture", "unknown"),
            *("output", "optimize", "verify"),
        )
    },
    "the matcher of a filter": lambda v: explained(filters=[(v, 0.1)]),
    "the fraction of a filter": lambda v: explained(filters=[("0", v)]),
    "inputs": lambda v: LRP.attribute(v, 1),
    "target": lambda v: LRP.attribute(X, v),
    "additional": lambda v: LRP.attribute(X, 1, v),
    "inputs of many": lambda v: LRP.attribute_many(v, [1]),
    "many targets": lambda v: LRP.attribute_many(X, v),
    "one of many targets": lambda v: LRP.attribute_many(X, [1, v]),
    "inputs of the ledger": lambda v: LRP.audit(v, 1),
    "target of the ledger": lambda v: LRP.audit(X, v),
    "sample of the ledger": lambda v: LRP.audit(X, 1).of_sample(v),
    "layer": lambda v: LayerLRPFx(MODEL, v).attribute(X, 1),
    "one of several layers": lambda v: LayerLRPFx(MODEL, ["0", v]).attribute(X, 1),
    "inputs of a layer": lambda v: LAYER.attribute(v, 1),
    "layer of a neuron": lambda v: NeuronLRPFx(MODEL, v).attribute(X, 1),
    "neuron": lambda v: NEURON.attribute(X, v),
    "pattern of a hook": lambda v: hooked(v, lambda r, step: None),
    "hook": lambda v: hooked("0", v if not callable(v) else lambda r, step: v),
    "conditions": lambda v: CRP.attribute_conditions(X, v, 1),
    "channels of a condition": lambda v: CRP.attribute_conditions(X, [{"0": v}], 1),
    "classes of a condition": lambda v: CRP.attribute_conditions(X, [{"y": v}]),
    "target of conditions": lambda v: CRP.attribute_conditions(X, [{"0": [0]}], v),
    "channel_dim": lambda v: ConceptLRPFx(MODEL, channel_dim=v).channel_relevance(X, ["0"], 1),
    "layers of channels": lambda v: CRP.channel_relevance(X, v, 1),
    "inputs of channels": lambda v: CRP.channel_relevance(v, ["0"], 1),
    "input of a graph": lambda v: CRP.attribution_graph(v, 1, ["1", "0"]),
    "target of a graph": lambda v: CRP.attribution_graph(X[:1], v, ["1", "0"]),
    "layers of a graph": lambda v: CRP.attribution_graph(X[:1], 1, v),
    "width of a graph": lambda v: CRP.attribution_graph(X[:1], 1, ["1", "0"], width=v),
    "both of bilrp": lambda v: bilrp(LRP, v, v),
    "second of bilrp": lambda v: bilrp(LRP, X, v),
    "bilrp of": lambda v: bilrp(v, X, X),
    "pool of bilrp": lambda v: bilrp(LRP, X, X, pool=v if not callable(v) else lambda r: v),
    "against": lambda v: explained(start=against(v, 1)),
    "the other of against": lambda v: explained(start=against(1, v)),
    "against_all": lambda v: explained(start=against_all(v)),
    "explained output": lambda v: LRP.explained_output(v),
    "plan": lambda v: LRP.plan(v),
    "relevance_filter": lambda v: relevance_filter(v, 0.5),
    "top_k of relevance_filter": lambda v: relevance_filter(X, v),
    "assignments": lambda v: Composite(v),
    "matcher": lambda v: Composite([(v, rules.ZPlus())]),
    "rule": lambda v: Composite([("0", v)]),
    "filters of a composite": lambda v: Composite([], filters=v),
    "bias of a composite": lambda v: Composite([], bias=v),
    "stabilizer": lambda v: Stabilizer(v),
    "epsilon": lambda v: first(rules.Epsilon(v)),
    "gamma": lambda v: first(rules.Gamma(v)),
    "generalized gamma": lambda v: first(rules.GeneralizedGamma(v)),
    "alpha": lambda v: first(rules.AlphaBeta(v, 1)),
    "beta": lambda v: first(rules.AlphaBeta(2, v)),
    "box": lambda v: first(rules.ZBox(v, 1.0)),
    "by_name": lambda v: composites.by_name(v),
    **{
        flag: lambda v, flag=flag: LRP.attribute(X, 1, **{flag: v})  # type: ignore[misc]
        for flag in ("return_convergence_delta", "create_graph")
    },
    "create_graph of many": lambda v: LRP.attribute_many(X, [1], create_graph=v),
    "input of a layer": lambda v: LAYER.attribute(X, 1, attribute_to_layer_input=v),
    "input of a neuron": lambda v: NEURON.attribute(X, (0, 1, 1), attribute_to_neuron_input=v),
    "options of a layer": lambda v: LayerLRPFx(MODEL, "0", "epsilon", top_k=v).attribute(X, 1),
    "exclude_parallel": lambda v: CRP.attribute_conditions(X, [{"0": [0]}], 1, exclude_parallel=v),
    "path of an export": lambda v: LRP.export(X, path=v if v is not None else 0),
    "format of an export": lambda v: LRP.export(X, format=v),
    "dynamic_batch": lambda v: LRP.export(X, dynamic_batch=0 if isinstance(v, bool) else v),
    "inputs of an export": lambda v: LRP.export(v),
    "tolerance": lambda v: LEDGER.closes(v),
    "threshold": lambda v: LEDGER.explosions(v),
    "relevance of the delta": lambda v: LRP.compute_convergence_delta(v, X),
    "output of the delta": lambda v: LRP.compute_convergence_delta(X, v),
    "optimizations": lambda v: explained(optimize=Optimizations(in_place=v)),
    "recompute": lambda v: explained(optimize=Optimizations(recompute=v)),
    "precision": lambda v: explained(optimize=Optimizations(precision=v)),
    "compiled": lambda v: Optimizations(compiled=v),
    "preset with ε": lambda v: explained(composites.Epsilon(v)),
    "preset with γ": lambda v: explained(composites.EpsilonGammaBox(-1.0, 1.0, gamma=v)),
    "preset with bounds": lambda v: explained(composites.EpsilonGammaBox(v, 1.0)),
    "preset with one rule": lambda v: explained(composites.Uniform(v)),
    "first": lambda v: Composite([(composites.first(v), rules.ZPlus())]),
    "operation": lambda v: Composite([(composites.operation(v), rules.ZPlus())]),
    "strict": lambda v: explained(Composite([], strict=v)),
    "name of a composite": lambda v: explained(Composite([], name=v)),
    "compat.zennit": lambda v: composites.compat.zennit(v),
    "compat.captum": lambda v: composites.compat.captum(v),
    "compat.blog": lambda v: composites.compat.blog(v),
}


def ends_well(call: Callable[[], Any]) -> None:
    """In a result or in an error that is meant for the user; not in one that asks for a report."""
    try:
        call()
    except UnexpectedError:
        raise
    except LRPError:
        return


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore")  # of torch, about broadcasting and the like
def test_random_arguments_end_in_documented_errors(name: str) -> None:
    values = VALUES | CONDITIONS if name == "conditions" else VALUES
    checked = settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        database=None,
    )

    @checked
    @given(value=values)
    def check(value: Any) -> None:
        ends_well(lambda: CALLS[name](value))

    check()


REFERENCES: dict[str, Callable[[Any, Path], Any]] = {
    "concepts": lambda v, path: References(v, ["0"], path),
    "layers": lambda v, path: References(CRP, v, path).update([(X, 1)]),
    "path": lambda v, path: References(CRP, ["0"], path if isinstance(v, (str, bytes)) else v),
    "count": lambda v, path: References(CRP, ["0"], path, count=v).update([(X, 1)]),
    "normalize": lambda v, path: References(CRP, ["0"], path, normalize=v).update([(X, 1)]),
    "batches": lambda v, path: References(CRP, ["0"], path).update(v),
    "inputs": lambda v, path: References(CRP, ["0"], path).update([(v, 1)]),
    "target": lambda v, path: References(CRP, ["0"], path).update([(X, v)]),
    "layer": lambda v, path: filled(path).top(v, 0),
    "channel": lambda v, path: filled(path).top("0", v),
}


def filled(path: Path) -> References:
    references = References(CRP, ["0"], path)
    references.update([(X, 1)])
    return references


@pytest.mark.parametrize("name", REFERENCES)
def test_random_arguments_of_references(name: str, tmp_path: Path) -> None:
    @settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(value=VALUES)
    def check(value: Any) -> None:
        path = tmp_path / "state.pt"
        path.unlink(missing_ok=True)
        ends_well(lambda: REFERENCES[name](value, path))

    check()


@pytest.mark.parametrize("content", [b"", b"\x0e", {}, None, {"settings": {}}, torch.zeros(2)])
def test_a_file_that_holds_no_references_is_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(OptionError, match=r"state\.pt' holds no references"):
        References(CRP, ["0"], path)


BAD = st.one_of(
    st.none(),
    st.integers(-9, 9),
    st.text(max_size=3),
    st.floats(),
    st.lists(st.integers(-9, 9), max_size=3),
    st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
    st.lists(st.tuples(st.integers(-9, 9)), max_size=3),
    st.builds(lambda shape: torch.zeros(shape), st.lists(st.integers(0, 4), max_size=5)),
    st.builds(lambda shape: torch.zeros(shape).long(), st.lists(st.integers(0, 4), max_size=5)),
    st.builds(lambda v: torch.full((2, 3, 5, 5), v), st.sampled_from([float("nan"), float("inf")])),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(x=BAD, target=BAD, top_k=BAD, additional=BAD)
@pytest.mark.filterwarnings("ignore:Using a target size:UserWarning")
def test_random_bad_input_ends_in_a_documented_error(
    x: Any, target: Any, top_k: Any, additional: Any
) -> None:
    """Whatever goes in: a result of the input's shape, or an error of this library."""
    for inputs, chosen in ((x, 1), (X, target)):
        with contextlib.suppress(LRPError):
            assert LRP.attribute(inputs, chosen).shape == inputs.shape
    with contextlib.suppress(LRPError):
        assert LRPFx(MODEL, top_k=top_k).attribute(X, 1).shape == X.shape
    with contextlib.suppress(LRPError):
        LRP.attribute(X, 1, additional)


def test_folders_that_do_not_exist_are_named_before_the_work(tmp_path: Path) -> None:
    missing, lrp = tmp_path / "missing", LRPFx(model())
    with pytest.raises(OptionError, match=r"path must lie in a folder that exists, .*missing"):
        lrp.export(X, path=missing / "x.pt2")
    (tmp_path / "folder.pt2").mkdir()
    with pytest.raises(OptionError, match=r"path must be a file, .*folder.pt2' is a folder"):
        lrp.export(X, path=tmp_path / "folder.pt2")
    with pytest.raises(OptionError, match="path must lie in a folder that exists"):
        References(ConceptLRPFx(model()), ["0"], missing / "state.pt")


def test_a_text_file_holds_no_references(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_text("i am a text")
    with pytest.raises(OptionError, match=r"state\.pt' holds no references: choose") as caught:
        References(ConceptLRPFx(model()), ["0"], tmp_path / "state.pt")
    assert "Error(" not in str(caught.value)


WRONG: dict[str, tuple[Callable[[], Any], type[LRPError], str]] = {
    "type": (lambda: composites.module_type(5), CompositeError, "takes classes .* got 5"),  # type: ignore[arg-type]
    "path": (lambda: composites.path(5), CompositeError, "takes strings, got 5"),  # type: ignore[arg-type]
    "operation": (lambda: composites.operation(5), CompositeError, "takes strings, got 5"),  # type: ignore[arg-type]
    "passing": (lambda: operations.passing(5), OptionError, "is a string, got 5"),  # type: ignore[arg-type]
    "name": (lambda: operations.passing("nosuchop"), OptionError, "no operation 'nosuchop'"),
    "gamma": (lambda: rules.Gamma(-1), OptionError, "gamma must be .* got -1"),
    "infinite": (lambda: rules.GeneralizedGamma(float("inf")), OptionError, "gamma must be .* inf"),
    "nan": (lambda: rules.Gamma(float("nan")), OptionError, "gamma must be .* got nan"),
    "float8": (
        lambda: LRPFx(model()).attribute(X.to(torch.float8_e4m3fn), 1),
        InputError,
        "dtype torch.float8_e4m3fn: convert it to one of float64, float32, bfloat16, float16",
    ),
    "call": (
        lambda: LayerLRPFx(model(), "0#2").attribute(X, 1),
        InputError,
        "has no call #2 among its 1: name one of 0#0",
    ),
}


@pytest.mark.parametrize(("call", "kind", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_values_are_named_where_they_are_given(
    call: Callable[[], Any], kind: type[LRPError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        call()
