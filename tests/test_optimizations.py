"""Every optimization can be switched off, and changes nothing but rounding.

The networks here are in float32 too, since layouts and kernels differ there only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lrp_fx import LayerLRPFx, LRPFx, Optimizations, composites, relevance_filter, rules
from lrp_fx.errors import OptionError, TargetError
from lrp_fx.graph import in_place_form
from lrp_fx.graph.private_torch import has_compiler
from lrp_fx.optimize import NOTHING
from lrp_fx.optimize import onednn as products
from lrp_fx.optimize.in_place import PROMOTING
from lrp_fx.optimize.residuals import recovered
from lrp_fx.relevance import ACTIVATIONS
from lrp_fx.relevance.linear.steps import Share
from lrp_fx.run import compiling

FLOAT64 = 1e-11
"""Of max |R|: sums of some hundred terms in another order (1e-16 each), through ten layers."""
FLOAT32 = 2e-4
"""The same in float32 (6e-8 each), where ε rules divide by sums that cancelled to a hundredth."""
SWITCHES = [field.name for field in fields(Optimizations) if field.default is True]


class Residual(nn.Module):
    """Skips, both poolings, an unused branch output, ReLU as module, function and in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False)
        self.down = nn.Conv2d(8, 6, 1, stride=2)
        self.head = nn.Linear(6 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        y = torch.relu_(self.conv(x) + x)
        y = nn.functional.max_pool2d(y, 3, 2, 1) + nn.functional.avg_pool2d(x, 2)
        y = self.down(y).relu()
        return self.head(nn.functional.adaptive_avg_pool2d(y, 4).flatten(1))


class Signed(nn.Module):
    """A linear bottleneck with ReLU6, a gate, and a concatenation: inputs of either sign."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Conv2d(3, 12, 1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.gate = nn.Linear(12, 12)
        self.project = nn.Conv2d(12, 4, 1)
        self.head = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu6(self.depthwise(nn.functional.silu(self.expand(x))))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3))))[:, :, None, None]
        y = torch.cat([self.project(y), x], 1)
        return self.head(torch.relu(y).mean((2, 3)))


class Transposed(nn.Module):
    """Up and down again, with a transposed convolution of groups."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 4, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1, groups=2)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.up(torch.relu(self.down(x)))).amax((2, 3)))


MODELS: list[Callable[[], nn.Module]] = [Residual, Signed, Transposed]
COMPOSITES: dict[str, Any] = {
    "zero": "zero",
    "epsilon": composites.Epsilon(0.01),
    "z_plus": "z_plus",
    "flat": "epsilon_plus_flat",
    "alpha_beta": "epsilon_alpha2_beta1",
    "gamma": composites.EpsilonGammaBox(-3.0, 3.0),
    "w_square": composites.Uniform(rules.WSquare()),
    "blog": composites.compat.blog(),
    "half": composites.Composite([(composites.operation("addition"), rules.Half())], name="half"),
}


def model_of(make: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        model.train()(torch.randn(8, 3, 8, 8))
    return model.eval().to(dtype)


def images(dtype: torch.dtype, count: int = 2) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.fixture(autouse=True)
def _small_products_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that these small networks, too, run by the kernels that are for large products."""
    monkeypatch.setattr(products, "LITTLE_WORK", 0)


def assert_same(mine: Tensor, plain: Tensor) -> None:
    tolerance = FLOAT64 if plain.dtype == torch.float64 else FLOAT32
    assert float((mine - plain).abs().max()) <= tolerance * float(plain.abs().max())


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_optimized_equals_plain(
    make: Callable[[], nn.Module], composite: str, dtype: torch.dtype
) -> None:
    """All of them together, for both engines, on every rule."""
    model, x, rule = model_of(make, dtype), images(dtype), COMPOSITES[composite]
    strict = dict.fromkeys(["strict"], False) if composite == "half" else {}
    if strict and make is not Residual:
        pytest.skip("no addition")
    plain = LRPFx(model, rule, optimize=False).attribute(x, 1)
    assert float(plain.abs().max()) > 0
    assert_same(LRPFx(model, rule).attribute(x, 1), plain)
    assert_same(LRPFx(model, rule, propagation="gradient").attribute(x, 1), plain)


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("make", MODELS)
def test_each_alone_equals_plain(make: Callable[[], nn.Module], switch: str) -> None:
    """So that one does not hide the fault of another."""
    model, x = model_of(make, torch.float32), images(torch.float32)
    alone = Optimizations(**{name: name == switch for name in SWITCHES})
    for composite in ("epsilon", "epsilon_plus"):
        plain = LRPFx(model, composite, optimize=NOTHING).attribute(x, 1)
        assert_same(LRPFx(model, composite, optimize=alone).attribute(x, 1), plain)


@pytest.mark.parametrize("make", MODELS)
def test_neither_inputs_nor_parameters_nor_layers_are_overwritten(
    make: Callable[[], nn.Module],
) -> None:
    """What is overwritten is nobody's but the pass's own; relevance of layers is given out."""
    model, x = model_of(make, torch.float32), images(torch.float32)
    before = x.clone()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    lrp = LRPFx(model, "epsilon_alpha2_beta1")
    first = lrp.attribute(x, 1)
    kept = first.clone()
    layers = [n.name for n in lrp.graph.nodes if n.op == "call_module" and "origin" in n.meta]
    names = [n.removesuffix("_relevance") for n in layers if n.endswith("_relevance")]
    several = LayerLRPFx(model, names, "epsilon_alpha2_beta1").attribute(x, 1)
    plain = LayerLRPFx(model, names, "epsilon_alpha2_beta1", optimize=False).attribute(x, 1)
    for mine, expected in zip(several, plain, strict=True):
        assert_same(mine, expected)
    assert torch.equal(lrp.attribute(x, 1), kept)
    assert torch.equal(first, kept)
    assert torch.equal(x, before)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_hooks_may_keep_what_they_saw() -> None:
    """A tensor that a hook was given keeps its values."""
    model, x = model_of(Residual, torch.float32), images(torch.float32)
    lrp, seen = LRPFx(model, "epsilon"), []
    handle = lrp.register_relevance_hook("*", lambda r, step: seen.append((r, r.clone())))
    lrp.attribute(x, 1)
    handle.remove()
    assert seen
    assert all(torch.equal(kept, copy) for kept, copy in seen)


def test_many_targets_share_what_is_not_overwritten() -> None:
    model, x = model_of(Residual, torch.float32), images(torch.float32)
    lrp = LRPFx(model, "epsilon_plus")
    together = lrp.attribute_many(x, range(5))
    for target in range(5):
        assert torch.equal(together[target], lrp.attribute(x, target))


# What stands in for what


def stood_in(model: nn.Module, composite: Any, **options: Any) -> set[str]:
    """The linear nodes whose denominator is known not to be negative: a ReLU stands in for it."""
    lrp = LRPFx(model, composite, **options)
    modules = lrp._program().lrp.module.named_modules()
    return {
        name.removeprefix("relevance.")
        for name, module in modules
        if isinstance(module, Share) and module.formula.nonnegative_output
    }


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU(), nn.Flatten()),
        nn.Linear(32, 2),
    )


def test_a_relu_stands_in_behind_rules_that_multiply_by_the_input() -> None:
    assert stood_in(chain(), "epsilon") == {"_0_conv2d", "_2_conv2d"}
    assert stood_in(chain(), "epsilon", optimize=False) == set()


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (rules.Flat(), {}),
        (rules.WSquare(), {}),
        (rules.Epsilon(), {"bias": "distribute"}),
    ],
)
def test_no_relu_stands_in_where_relevance_may_come_to_zeros(rule: Any, options: Any) -> None:
    """Behind Flat and its like a dead unit gets relevance, which the true z has to divide."""
    mine = composites.Composite(
        [("2", rule), ("5", rule), ("0", rules.Epsilon(0.01))], bias=options.get("bias", "absorb")
    )
    assert "_0_conv2d" not in stood_in(chain(), mine)
    x = torch.randn(2, 1, 8, 8)
    assert_same(
        LRPFx(chain(), mine).attribute(x, 1), LRPFx(chain(), mine, optimize=False).attribute(x, 1)
    )


def test_no_relu_stands_in_behind_a_hook() -> None:
    """A hook may put relevance anywhere."""
    model, x = chain(), torch.randn(2, 1, 8, 8)
    results = []
    for optimize in (True, False):
        lrp = LRPFx(model, composites.Epsilon(0.01), optimize=optimize)
        lrp.register_relevance_hook("3", lambda r, step: torch.ones_like(r))
        results.append(lrp.attribute(x, 1))
    assert_same(*results)


def test_no_relu_stands_in_for_what_others_read() -> None:
    """A skip that starts in front of the ReLU reads the negative values too."""

    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            z = self.first(x)
            return self.second(torch.relu(z) + z)

    torch.manual_seed(0)
    assert stood_in(Skip(), "epsilon") == set()


@pytest.mark.parametrize("start", ["one_hot", "softmax"])
def test_no_relu_at_the_output_stands_in_unless_the_start_vanishes_with_it(start: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    assert stood_in(model, "epsilon", start=start) == set()
    assert stood_in(model, "epsilon", start="logit") == {"_0_linear"}


def test_activations_overwrite_only_what_they_alone_read() -> None:
    """Under z⁺ nobody reads a convolution's output but its ReLU; under ε with SiLU the rule does."""

    def in_place(model: nn.Module, composite: str) -> int:
        graph: fx.Graph = LRPFx(model, composite).graph
        return sum(str(node.target).rstrip().endswith("_") for node in graph.nodes)

    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.SiLU(), nn.Conv2d(2, 2, 3))
    assert in_place(model, "z_plus") == 1
    assert in_place(model, "epsilon") == 0


COUNTS: dict[str, Callable[[Tensor], Tensor]] = {
    "a clamp": lambda count: count.clamp(min=1e-9),
    "a clamp at both ends": lambda count: count.clamp(0.5, 3.5),
    "a tensor as bound": lambda count: torch.clamp(count, min=torch.tensor(0.5)),
    "sigmoid": lambda count: count.sigmoid(),
    "tanh": lambda count: count.tanh(),
}


@pytest.mark.parametrize("name", COUNTS)
def test_no_activation_overwrites_a_value_of_another_dtype(name: str) -> None:
    """A count of words is an integer, and its clamp or its tanh is not."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

        def forward(self, words: Tensor) -> Tensor:
            count = (words != 0).sum(1, keepdim=True)
            return self.head(self.table(words).sum(1) / COUNTS[name](count))

    model, words = Counting().eval(), torch.tensor([[1, 5, 5], [0, 8, 2]])
    maps = [LRPFx(model, optimize=each).attribute(words, target=1) for each in (True, False)]
    torch.testing.assert_close(maps[0], maps[1])


ARGUMENTS: dict[str, tuple[float, ...]] = {
    "hardtanh": (0.5, 1.5),
    "threshold": (0.5, 0.5),
    "leaky_relu": (0.5,),
    **dict.fromkeys(["clamp", "clamp_min", "clamp_max"], (0.5,)),
}


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if in_place_form(n) is not None])
def test_activations_that_overwrite_keep_the_dtype(name: str) -> None:
    count = torch.tensor([1, 2])
    try:
        found = getattr(torch.ops.aten, name)(count, *ARGUMENTS.get(name, ())).dtype
    except (NotImplementedError, RuntimeError):  # there is none for integers
        found = count.dtype
    assert (found != count.dtype) == (name in PROMOTING)


def test_convolutions_of_float32_run_channels_last_on_cpu() -> None:
    """And what comes out is contiguous all the same."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("no oneDNN")
    layouts = []

    def look(r: Tensor, step: Any) -> None:
        layouts.append(r.is_contiguous(memory_format=torch.channels_last))

    lrp = LRPFx(model_of(Residual, torch.float32), "epsilon_plus")
    lrp.register_relevance_hook("conv", look)
    assert lrp.attribute(images(torch.float32), 1).is_contiguous()
    assert layouts == [True]


# Kernels


class Pointwise(nn.Module):
    """Large enough for other kernels than torch's: 1×1 convolutions and a dense layer on pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 32, 1), nn.Conv2d(32, 16, 1, bias=False)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(x.flatten(2).mT).amax(1)


class Called(TorchDispatchMode):
    """Counts the calls of operations."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


needs_onednn = pytest.mark.skipif(products._ONEDNN is None, reason="torch was built without oneDNN")


@needs_onednn
@pytest.mark.parametrize(("rule", "calls"), [("epsilon", 6), ("z_plus", 11)])
def test_dense_layers_and_pointwise_convolutions_run_in_onednn(rule: str, calls: int) -> None:
    """Forward, denominator and adjoint of each; under ε the output is the denominator, and z⁺ of the
    first layer has two of each, since the image has both signs."""
    torch.manual_seed(0)
    model, x = Pointwise(), torch.randn(2, 8, 32, 32)
    results = []
    for kernels, expected in ((True, calls), (False, 0)):
        lrp = LRPFx(model, rule, optimize=Optimizations(kernels=kernels))
        lrp.attribute(x, 1)
        with Called() as called:
            results.append(lrp.attribute(x, 1))
        assert called.counts["_linear_pointwise"] == expected
    assert_same(*results)


@needs_onednn
def test_other_kernels_are_left_where_they_have_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast, for derivatives, with oneDNN switched off, in double precision, for little work."""
    torch.manual_seed(0)
    x, w = torch.randn(64, 32), torch.randn(16, 32)
    with torch.no_grad():
        assert products.takes_onednn(x, w)
        assert not products.takes_onednn(x.double(), w.double())
        assert not products.takes_onednn(x[:1], w)
        with torch.autocast("cpu"):
            assert not products.takes_onednn(x, w)
        with monkeypatch.context() as patched:
            patched.setattr(torch.backends.mkldnn, "enabled", False)
            assert not products.takes_onednn(x, w)
    assert not products.takes_onednn(x, w)


# The filter


def slow_filter(relevance: Tensor, top_k: float) -> Tensor:
    """Sorts each sample and keeps the first k values: exact by its form."""
    result = torch.zeros_like(relevance)
    for sample, kept in zip(relevance, result, strict=True):
        k = max(1, int(top_k * sample.numel()))
        order = sample.flatten().sort(descending=True, stable=True).indices[:k]
        flat = torch.zeros(sample.numel(), dtype=sample.dtype)
        flat[order] = sample.flatten()[order]
        kept.copy_(flat.reshape(sample.shape))
    return result


LARGE = (3, 16, 24, 24)
"""More values per sample than the filter leaves to ``topk``."""


@pytest.mark.parametrize("top_k", [1e-6, 0.05, 0.5, 0.999])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_filter_equals_sorting(top_k: float, layout: Any, dtype: torch.dtype) -> None:
    r = torch.randn(LARGE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    if dtype != torch.bfloat16:  # which has too few values to be without ties
        assert torch.equal(
            relevance_filter(r.to(dtype).to(memory_format=layout), top_k),
            slow_filter(r.to(dtype), top_k),
        )
    kept = relevance_filter(r.to(dtype).to(memory_format=layout), top_k)
    assert (kept.flatten(1) != 0).sum(1).tolist() == [max(1, int(top_k * r[0].numel()))] * 3


@pytest.mark.parametrize("values", [(0.0, 1.0), (-1.0, 2.0), (-3.0, -1.0), (0.0, -1.0), (2.0, 2.0)])
def test_filter_keeps_exactly_k_of_equal_values(values: tuple[float, float]) -> None:
    """Half the entries have one value and half the other, so that the threshold falls among equals."""
    low, high = values
    r = torch.full(LARGE, low)
    r[:, ::2] = high
    for top_k in (0.3, 0.5, 0.8):
        k = int(top_k * r[0].numel())
        kept = relevance_filter(r, top_k)
        assert torch.equal(kept.flatten(1).sum(1), slow_filter(r, top_k).flatten(1).sum(1))
        assert int((kept[0] != 0).sum()) <= k
        assert set(kept.unique().tolist()) <= {low, high, 0.0}


def test_filter_leaves_its_argument_alone_and_takes_any_strides() -> None:
    r = torch.randn(LARGE)[:, :, ::2, 1:].transpose(2, 3).expand(3, -1, -1, -1)
    before = r.clone()
    assert torch.equal(relevance_filter(r, 0.1), slow_filter(r, 0.1))
    assert torch.equal(r, before)


def test_filtered_run_equals_plain() -> None:
    """In the memory of the relevance or in new memory, through a whole network."""
    model, x = model_of(Residual, torch.float32), torch.randn(2, 3, 48, 48)
    results = [
        LRPFx(model, "epsilon_plus", top_k=0.1, optimize=optimize).attribute(x, 1)
        for optimize in (True, Optimizations(channels_last=False, in_place=False), False)
    ]
    assert_same(results[0], results[2])
    assert_same(results[1], results[2])


# Recomputing, compiling, precision


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("composite", ["epsilon", "epsilon_plus"])
def test_recomputed_equals_kept(make: Callable[[], nn.Module], composite: str) -> None:
    """The same operations on the same values: not a bit differs."""
    model, x = model_of(make, torch.float32), images(torch.float32)
    kept = LRPFx(model, composite).attribute(x, 1)
    lrp = LRPFx(model, composite, optimize=Optimizations(recompute=True))
    assert torch.equal(lrp.attribute(x, 1), kept)
    assert torch.equal(lrp.attribute_many(x, [1])[0], kept)


def test_recomputing_keeps_what_crosses_cuts_only() -> None:
    """Of sixteen equal layers, the relevance pass reads at most a few values of the forward pass."""
    layers = [layer for _ in range(16) for layer in (nn.Conv2d(2, 2, 3, padding=1), nn.Tanh())]
    model, x = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 2)), torch.randn(1, 2, 4, 4)

    def kept(*, recompute: bool) -> int:
        lrp = LRPFx(model, "epsilon", optimize=Optimizations(recompute=recompute))
        lrp.attribute(x, 1)
        nodes = list(lrp.graph.nodes)
        start = next(i for i, node in enumerate(nodes) if node.name == "start")
        before = [n for n in nodes[:start] if n.op == "call_function" and n.target is not getattr]
        after = set(nodes[start:])
        return sum(not after.isdisjoint(node.users) for node in before)

    assert kept(recompute=False) >= 32
    assert (
        kept(recompute=True) <= 14
    )  # five cuts, and the last of six segments, which is still there


def test_recomputing_an_activation_that_overwrites() -> None:
    """SiLU in place twice on one value would be wrong; the copy has an operand of its own."""
    model = nn.Sequential(
        *(layer for _ in range(8) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.SiLU())),
        *(nn.Flatten(), nn.Linear(192, 2)),
    )
    x = images(torch.float32)
    results = [
        LRPFx(model, "z_plus", optimize=Optimizations(recompute=recompute)).attribute(x, 1)
        for recompute in (False, True)
    ]
    assert torch.equal(*results)


PRECISE = {torch.bfloat16: 0.05, torch.float64: 1e-3}
"""Of max |R|: bfloat16 has 8 bits, which ten layers of z⁺ add up; float64 undoes float32's rounding."""


@pytest.mark.parametrize("precision", PRECISE)
@pytest.mark.parametrize("make", MODELS)
def test_precision_of_the_relevance_pass(
    make: Callable[[], nn.Module], precision: torch.dtype
) -> None:
    model, x = model_of(make, torch.float32), images(torch.float32)
    exact = LRPFx(model.double(), "epsilon_plus").attribute(x.double(), 1)
    optimize = Optimizations(precision=precision)
    mine = LRPFx(model.float(), "epsilon_plus", optimize=optimize).attribute(x, 1)
    assert mine.dtype == torch.float32
    assert float((mine - exact).abs().max()) <= PRECISE[precision] * float(exact.abs().max())


def test_the_relevance_pass_runs_in_the_precision() -> None:
    model, x = model_of(Residual, torch.float32), images(torch.float32)
    lrp, dtypes = (
        LRPFx(model, "epsilon_plus", optimize=Optimizations(precision=torch.bfloat16)),
        set(),
    )
    lrp.register_relevance_hook("conv", lambda r, step: dtypes.add(r.dtype))
    lrp.attribute(x, 1)
    assert dtypes == {torch.bfloat16}


@pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")
def test_compiled_equals_eager() -> None:
    """One graph without breaks, for any target; what is kept of parameters is not compiled in."""
    torch._dynamo.reset()
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )
    x, lrp = images(torch.float32), LRPFx(model, "epsilon_plus")
    eager = lrp.attribute_many(x, range(3))
    compiled = LRPFx(model, "epsilon_plus").compile()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for target in range(3):
        assert_same(compiled.attribute(x, target), eager[target])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1
    assert not torch._dynamo.utils.counters["graph_break"]
    with torch.no_grad():
        model[0].weight.mul_(-1)
    assert_same(compiled.attribute(x, 1), lrp.attribute(x, 1))
    with pytest.raises(TargetError, match="out of range"):
        compiled.attribute(x, 7)


def test_compile_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "has_compiler", lambda: False)
    with pytest.raises(OptionError, match="needs a C\\+\\+ compiler, and none was found"):
        LRPFx(chain()).compile()
    with pytest.raises(OptionError, match="needs a C\\+\\+ compiler, and none was found"):
        LRPFx(chain(), optimize=Optimizations(compiled=True))


def test_a_residual_addition_overwrites_what_nobody_else_keeps() -> None:
    """Under z⁺ the branch's output is recovered from the sum; under ε its own rule keeps it anyway."""

    def recoveries(composite: str) -> int:
        graph: fx.Graph = LRPFx(model_of(Residual, torch.float32), composite).graph
        return sum(node.target is recovered for node in graph.nodes)

    assert recoveries("z_plus") == 1
    assert recoveries("epsilon") == 0


def test_a_summand_that_was_broadcast_is_kept() -> None:
    """It has no room for the sum."""

    class Broadcast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pooled = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 8)

        def forward(self, x: Tensor) -> Tensor:
            return (self.pooled(x) + torch.relu(self.conv(x))).relu().sum((2, 3))

    torch.manual_seed(0)
    model, x = Broadcast(), images(torch.float32)
    assert_same(
        LRPFx(model, "z_plus").attribute(x, 1),
        LRPFx(model, "z_plus", optimize=False).attribute(x, 1),
    )
