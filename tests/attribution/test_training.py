"""Relevance in a loss: ``create_graph=True`` against finite differences, and training with it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import Composite, ConceptLRPFx, LayerLRPFx, LRPFx, NeuronLRPFx, composites, rules
from lrp_fx.composites import operation
from lrp_fx.errors import InputError, NonFiniteError, OptionError, TargetError
from lrp_fx.rules import Stabilizer
from tests.helpers.closeness import SAME_SUMS, assert_close, distance
from tests.helpers.models import NETWORKS
from tests.helpers.modes import engines
from tests.helpers.numbers import numbers

STEP = 1e-6
"""Of central differences in float64, which err by STEP² of curvature and 1e-16 / STEP of rounding."""
DIFFERENCES = 1e-6
"""Relative: what both errors come to where denominators are no smaller than the ε of these tests."""
ENGINES = 1e-9
"""Of the largest derivative: the same sums in another order, divided by the same denominators."""
EPS = 0.1
"""Sizable, so that the relevance is smooth on the scale of STEP."""


class Net(nn.Module):
    """Folded batch norm, a leftover one, both poolings, a skip connection, a computed weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.branch = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.a, self.b = (nn.Parameter(torch.randn(*s) / 2) for s in ((5, 3), (3, 12)))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.norm((x + self.branch(x)).relu())
        x = F.avg_pool2d(x, 2).flatten(1)
        return self.head(F.linear(x, self.a @ self.b).relu())


class Attention(nn.Module):
    """An encoder layer with a mask of −∞, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, activation="gelu")
        self.head = nn.Linear(4, 2)
        self.register_buffer("mask", torch.ones(3, 3, dtype=torch.bool).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x, src_mask=self.mask).mean(1))


def net() -> nn.Module:
    torch.manual_seed(0)
    model = Net()
    model(torch.randn(8, 2, 8, 8))
    return model.double().eval()


def attention() -> nn.Module:
    torch.manual_seed(0)
    return Attention().double().eval()


def sizable(composite: Composite, eps: float = EPS) -> Composite:
    """The composite with that ε wherever it leaves the default one."""
    stabilizer = Stabilizer(eps)
    lines = [
        (operation("addition", "average pooling"), rules.Proportional(stabilizer)),
        (operation("normalization"), rules.Epsilon(eps)),
    ]
    return Composite([*lines, *composite.assignments], strict=False)


Z = Stabilizer(EPS)
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Composite]] = {
    "zero": (net, (2, 2, 8, 8), composites.Zero()),
    "epsilon": (net, (2, 2, 8, 8), sizable(composites.Epsilon(EPS))),
    "z_plus": (net, (2, 2, 8, 8), sizable(composites.ZPlus())),
    "epsilon_gamma_box": (
        net,
        (2, 2, 8, 8),
        sizable(composites.EpsilonGammaBox(-4.0, 4.0, eps=EPS)),
    ),
    "alpha-beta": (
        net,
        (2, 2, 8, 8),
        sizable(composites.Uniform(rules.AlphaBeta(2, 1, stabilizer=Z))),
    ),
    "w_square": (net, (2, 2, 8, 8), sizable(composites.Uniform(rules.WSquare()))),
    "attn_lrp": (attention, (2, 3, 4), sizable(composites.AttnLRP(dense=rules.Epsilon(EPS)))),
    "cp_lrp": (attention, (2, 3, 4), sizable(composites.CPLRP(dense=rules.Epsilon(EPS)))),
}


def loss_of(lrp: LRPFx, x: Tensor, **options: Any) -> Tensor:
    """A fixed weighted sum of the relevance, of which every entry counts."""
    relevance = lrp.attribute(x, 1, **options)
    return (numbers(*relevance.shape, seed=9) * relevance).sum()


def gradient(loss: Tensor, parameters: Iterable[Tensor]) -> list[Tensor]:
    """Of each parameter, zeros for one without influence."""
    parameters = list(parameters)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def difference(value: Callable[[], Tensor], parameter: Tensor, direction: Tensor) -> float:
    """The central difference quotient of ``value()`` along a direction of one tensor."""
    original, ends = parameter.detach().clone(), []
    for sign in (1, -1):
        with torch.no_grad():
            parameter.copy_(original + sign * STEP * direction)
        ends.append(float(value().detach()))
    with torch.no_grad():
        parameter.copy_(original)
    return (ends[0] - ends[1]) / (2 * STEP)


@engines
@pytest.mark.parametrize("case", CASES)
def test_the_derivative_of_the_relevance_is_that_of_finite_differences(
    case: str, engine: Any
) -> None:
    """For each parameter and the input, in a random direction; the differences use no autograd."""
    make, shape, composite = CASES[case]
    model, x = make(), numbers(*shape).requires_grad_()
    lrp = LRPFx(model, composite, propagation=engine)
    lrp.attribute(x, 1)  # so that modified weights are kept, which must not be used
    variables = {"input": x, **dict(model.named_parameters())}
    analytic = gradient(loss_of(lrp, x, create_graph=True), variables.values())
    directions = {n: numbers(*v.shape, seed=i) for i, (n, v) in enumerate(variables.items())}
    slopes = {
        name: float((directions[name] * found).sum())
        for name, found in zip(variables, analytic, strict=True)
    }
    scale = max(map(abs, slopes.values()))
    for name, variable in variables.items():
        numeric = difference(lambda: loss_of(lrp, x), variable, directions[name])
        assert abs(numeric - slopes[name]) <= DIFFERENCES * scale, (name, numeric, slopes[name])


@engines
@pytest.mark.parametrize("case", ["epsilon", "z_plus", "attn_lrp"])
def test_second_derivatives(case: str, engine: Any) -> None:
    """The derivative is differentiable in its turn, as a loss with a Hessian of it needs."""
    make, shape, composite = CASES[case]
    model, x = make(), numbers(*shape)
    lrp, parameters = LRPFx(model, composite, propagation=engine), list(model.parameters())
    along = [numbers(*p.shape, seed=i) for i, p in enumerate(parameters)]

    def slope() -> Tensor:
        loss = loss_of(lrp, x, create_graph=True)
        found = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
        return sum(
            ((d * g).sum() for d, g in zip(along, found, strict=True) if g is not None),
            start=torch.zeros((), dtype=x.dtype),
        )

    curvature = gradient(slope(), parameters)
    other = [numbers(*p.shape, seed=50 + i) for i, p in enumerate(parameters)]
    slopes = [float((d * g).sum()) for d, g in zip(other, curvature, strict=True)]
    scale = max(map(abs, slopes))
    for parameter, direction, mine in zip(parameters, other, slopes, strict=True):
        assert abs(difference(slope, parameter, direction) - mine) <= DIFFERENCES * scale


@pytest.mark.parametrize("name", NETWORKS)
def test_every_operation_of_the_odd_networks_can_be_trained_through(name: str) -> None:
    """Both engines have one derivative, along a random direction it is that of finite differences."""
    network = NETWORKS[name]
    model, inputs = network.model(), network.inputs()
    composite = sizable(composites.Epsilon(EPS))
    parameters, found = list(model.parameters()), []

    def loss(lrp: LRPFx, **options: Any) -> Tensor:
        relevance = lrp.attribute(inputs, 1, **options)
        return sum(
            ((numbers(*r.shape, seed=9) * r).sum() for r in relevance),
            start=torch.zeros((), dtype=torch.float64),
        )

    for engine in ("direct", "gradient"):
        lrp = LRPFx(model, composite, propagation=engine, output=network.output)
        found.append(gradient(loss(lrp, create_graph=True), parameters))
    scale = max(float(g.abs().max()) for g in found[0])
    for direct, other in zip(*found, strict=True):
        assert float((direct - other).abs().max()) <= ENGINES * scale
    lrp = LRPFx(model, composite, output=network.output)
    place = max(range(len(parameters)), key=lambda i: float(found[0][i].abs().max()))
    direction = numbers(*parameters[place].shape)
    slope = float((direction * found[0][place]).sum())
    numeric = difference(lambda: loss(lrp), parameters[place], direction)
    assert abs(numeric - slope) <= DIFFERENCES * max(abs(slope), scale)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_models(kind: type[nn.Module]) -> None:
    """The unrolled cells, of two layers and both directions; and both engines alike."""
    torch.manual_seed(0)

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = kind(3, 4, 2, batch_first=True, bidirectional=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.cells(x)[0][:, -1])

    model, x = Recurrent().double(), numbers(2, 3, 3)
    weight = model.cells.weight_ih_l0
    direct, other = (LRPFx(model, propagation=engine) for engine in ("direct", "gradient"))
    (mine,) = gradient(loss_of(direct, x, create_graph=True), [weight])
    (second,) = gradient(loss_of(other, x, create_graph=True), [weight])
    assert distance(second, mine) <= ENGINES
    direction = numbers(*weight.shape)
    numeric = difference(lambda: loss_of(direct, x), weight, direction)
    assert numeric == pytest.approx(float((direction * mine).sum()), rel=1e-4)  # ε is 1e-6 here


# What it leaves alone


@engines
def test_it_changes_no_value_and_no_later_one(engine: Any) -> None:
    """Before it and after it the relevance is the same, bit for bit; with a graph, to rounding."""
    model, x = net(), numbers(2, 2, 8, 8)
    for composite in ("zero", "epsilon_plus", "epsilon_alpha2_beta1_flat"):
        lrp = LRPFx(model, composite, propagation=engine)
        first = lrp.attribute(x, 1, create_graph=True)
        before = lrp.attribute(x, 1)
        with_graph, delta = lrp.attribute(x, 1, return_convergence_delta=True, create_graph=True)
        assert first.requires_grad
        assert with_graph.requires_grad
        assert delta.requires_grad
        assert torch.equal(with_graph, first)
        assert torch.equal(lrp.attribute(x, 1), before)
        assert_close(with_graph, before, SAME_SUMS)
        assert not before.requires_grad


def test_what_is_kept_is_neither_used_nor_changed() -> None:
    """Folded and modified weights of other calls stay the same tensors, even out of date."""
    model, x = net(), numbers(2, 2, 8, 8)
    lrp = LRPFx(model, "z_plus")
    lrp.attribute(x, 1)
    module = lrp.graph.owning_module
    assert module is not None
    kept = {name: (id(t), t.clone()) for name, t in module.named_buffers()}
    assert any(name.endswith("_plus") for name in kept)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    relevance = lrp.attribute(x, 1, create_graph=True)
    for name, tensor in module.named_buffers():
        assert id(tensor) == kept[name][0]
        assert torch.equal(tensor, kept[name][1])
    assert_close(relevance, LRPFx(model, "z_plus").attribute(x, 1), SAME_SUMS)
    assert torch.equal(lrp.attribute(x, 1), LRPFx(model, "z_plus").attribute(x, 1))


def test_threads_with_and_without_a_graph() -> None:
    """On one object; the derivatives, too, are those of a thread alone."""
    model, x = net(), numbers(2, 2, 8, 8)
    lrp = LRPFx(model, "z_plus")
    weight = model.stem[0].weight
    expected = lrp.attribute(x, 1)
    (slope,) = gradient(loss_of(lrp, x, create_graph=True), [weight])
    failures: list[str] = []

    def plain() -> None:
        for _ in range(5):
            lrp.refresh()
            relevance = lrp.attribute(x, 1)
            if relevance.requires_grad or not torch.equal(relevance, expected):
                failures.append("plain")

    def differentiable() -> None:
        for _ in range(15):
            (found,) = gradient(loss_of(lrp, x, create_graph=True), [weight])
            if not torch.equal(found, slope):
                failures.append("differentiable")

    threads = [threading.Thread(target=job) for job in (plain, differentiable) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_gradients_are_filled_where_they_mean_something() -> None:
    """Parameters that the relevance depends on, and nothing else: not buffers, inputs or frozen ones."""
    model, x = net(), numbers(2, 2, 8, 8)
    model.branch.requires_grad_(False)
    unused = nn.Parameter(torch.ones(2))
    model.register_parameter("unused", unused)
    loss_of(LRPFx(model, "epsilon_plus"), x, create_graph=True).backward()
    assert unused.grad is None
    assert x.grad is None
    assert all(p.grad is None for p in model.branch.parameters())
    assert all(buffer.grad is None for buffer in model.buffers())
    for name in ("stem.0.weight", "stem.1.weight", "stem.1.bias", "norm.weight", "a", "b"):
        grad = model.get_parameter(name).grad
        assert grad is not None, name
        assert bool(grad.abs().sum() > 0), name


def test_without_it_there_is_no_graph() -> None:
    """Whatever the inputs and parameters ask for."""
    model, x = net(), numbers(2, 2, 8, 8).requires_grad_()
    for relevance in (
        LRPFx(model).attribute(x, 1),
        LRPFx(model).attribute_many(x, [0, 1]),
        LayerLRPFx(model, "branch").attribute(x, 1),
        NeuronLRPFx(model, "branch").attribute(x, (0, 1, 1)),
    ):
        assert relevance.grad_fn is None
        assert not relevance.requires_grad


# The other attributions


def test_layers_neurons_many_targets_and_concepts() -> None:
    """Each against the derivative of finite differences along one direction."""
    model, x = net(), numbers(2, 2, 8, 8)
    composite = sizable(composites.Epsilon(EPS))
    weight = model.stem[0].weight
    layer, neuron = (
        LayerLRPFx(model, ["branch", "norm"], composite),
        NeuronLRPFx(model, "branch", composite),
    )
    lrp, concepts = LRPFx(model, composite), ConceptLRPFx(model, composite)
    calls: dict[str, Callable[..., Any]] = {
        "layers": lambda **o: torch.cat([r.flatten() for r in layer.attribute(x, 1, **o)]),
        "neuron": lambda **o: neuron.attribute(x, (0, 1, 1), **o),
        "many": lambda **o: lrp.attribute_many(x, [0, 2], **o),
        "conditions": lambda **o: concepts.attribute_conditions(
            x, [{"branch": [0]}, {"branch": [1, 2]}], 1, **o
        ),
        "channels": lambda **o: concepts.channel_relevance(x, ["branch"], 1, **o)[0],
    }
    direction = numbers(*weight.shape)
    for name, call in calls.items():

        def loss(call: Callable[..., Tensor] = call, **options: Any) -> Tensor:
            relevance = call(**options)
            return (numbers(*relevance.shape, seed=9) * relevance).sum()

        (found,) = gradient(loss(create_graph=True), [weight])
        numeric = difference(loss, weight, direction)
        assert numeric == pytest.approx(float((direction * found).sum()), rel=1e-5), name


def test_many_targets_share_one_graph() -> None:
    """Their gradient is the sum of those of single calls."""
    model, x = net(), numbers(2, 2, 8, 8)
    lrp, weight = LRPFx(model, "epsilon_plus"), model.stem[0].weight
    (together,) = gradient(lrp.attribute_many(x, [0, 2], create_graph=True).sum(), [weight])
    single = sum(lrp.attribute(x, t, create_graph=True).sum() for t in (0, 2))
    (apart,) = gradient(single, [weight])
    assert distance(together, apart) <= ENGINES


def test_tokens() -> None:
    """The embedding is trained too: relevance of tokens is that of its output."""

    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 2)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(F.gelu(self.embedding(tokens)).mean(1))

    torch.manual_seed(0)
    model, tokens = Text().double(), torch.tensor([[1, 2, 1], [3, 0, 6]])
    lrp = LRPFx(model, sizable(composites.Epsilon(EPS)))
    loss_of(lrp, tokens, create_graph=True).backward()
    touched = model.embedding.weight.grad.abs().sum(1) > 0
    assert touched.tolist() == [True, True, True, True, False, False, True]


def test_a_callable_start_is_differentiated_too() -> None:
    """The relevance that it returns is a function of the output."""
    model, x = net(), numbers(2, 2, 8, 8)
    composite = sizable(composites.Epsilon(EPS))
    lrp = LRPFx(model, composite, start=lambda y: y.softmax(1))
    built_in = LRPFx(model, composite, start="softmax")
    weight = [model.stem[0].weight]
    ours, expected = (
        gradient(each.attribute(x, create_graph=True).square().sum(), weight)[0]
        for each in (lrp, built_in)
    )
    assert distance(ours, expected) <= ENGINES


def test_filters_and_hooks_let_gradients_through() -> None:
    """What the filter keeps is differentiable; what a hook returns, too."""
    model, x = net(), numbers(2, 2, 8, 8)
    lrp = LRPFx(model, sizable(composites.Epsilon(EPS)), top_k=0.5)
    lrp.register_relevance_hook("branch", lambda relevance, step: relevance * 2)
    weight = model.stem[0].weight
    (found,) = gradient(loss_of(lrp, x, create_graph=True), [weight])
    direction = numbers(*weight.shape)
    numeric = difference(lambda: loss_of(lrp, x), weight, direction)
    assert numeric == pytest.approx(float((direction * found).sum()), rel=1e-5)


def test_a_detach_in_the_models_own_code_stops_nothing() -> None:
    """The value is a function of those parameters all the same, as finite differences would say."""

    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.below, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.below(x)
            return self.head(x.detach().relu())

    torch.manual_seed(0)
    model, x = Detached().double(), numbers(2, 3)
    loss_of(LRPFx(model), x, create_graph=True).backward()
    assert bool(model.below.weight.grad.abs().sum() > 0)


@engines
def test_calls_leave_nothing_behind(engine: Any) -> None:
    """Differentiated or not, a graph goes with the last of its tensors, without the garbage collector."""
    lrp = LRPFx(net(), "epsilon_plus", propagation=engine)

    def tensors() -> int:
        return sum(issubclass(type(each), Tensor) for each in gc.get_objects())

    def call(seed: int) -> None:
        loss = loss_of(lrp, numbers(2, 2, 8, 8, seed=seed), create_graph=True)
        if seed % 2:
            loss.backward()

    for seed in range(4):
        call(seed)
    gc.collect()
    gc.disable()
    try:
        before = tensors()
        for seed in range(20):
            call(seed)
        assert tensors() == before
    finally:
        gc.enable()


# Modes


def test_a_model_in_train_mode_may_run_between_the_call_and_the_step() -> None:
    """Its batch norm writes to the running statistics that the relevance was computed with."""
    model, x = net(), numbers(4, 2, 8, 8)
    expected = gradient(
        loss_of(LRPFx(model, "epsilon_plus"), x, create_graph=True), model.parameters()
    )
    model.train()
    loss = loss_of(LRPFx(model, "epsilon_plus"), x, create_graph=True)
    model(x)
    for mine, other in zip(gradient(loss, model.parameters()), expected, strict=True):
        assert torch.equal(mine, other)
    assert all(module.training for module in model.modules())


def test_it_asks_for_gradients_where_they_are_off() -> None:
    """The option says more than the mode around it."""
    model, x = net(), numbers(2, 2, 8, 8)
    with torch.no_grad():
        relevance = LRPFx(model).attribute(x, 1, create_graph=True)
    assert relevance.requires_grad


@pytest.mark.filterwarnings("ignore:.*lazy:UserWarning")
def test_inference_mode_is_refused() -> None:
    """Also tensors that were made under it, which autograd cannot keep."""
    model, x = net(), numbers(2, 2, 8, 8)
    lrp = LRPFx(model)
    with torch.inference_mode():
        with pytest.raises(OptionError, match="inference_mode"):
            lrp.attribute(x, 1, create_graph=True)
        made, model_made = numbers(2, 2, 8, 8), net()
    with pytest.raises(OptionError, match=r"'input 0' was made under .*clone"):
        lrp.attribute(made, 1, create_graph=True)
    with pytest.raises(OptionError, match=r"'\S+' was made under .*clone"):
        LRPFx(model_made).attribute(x, 1, create_graph=True)


def test_errors_are_those_of_a_plain_call() -> None:
    """With the same words: nothing of the other way to run shows."""
    model, x = net(), numbers(2, 2, 8, 8)
    lrp = LRPFx(model)
    with pytest.raises(TargetError) as plain:
        lrp.attribute(x, 7)
    with pytest.raises(TargetError) as other:
        lrp.attribute(x, 7, create_graph=True)
    assert str(other.value) == str(plain.value)
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="own forward pass yields NaN or infinity") as plain_input:
        lrp.attribute(x, 1)
    with pytest.raises(InputError) as other_input:
        lrp.attribute(x, 1, create_graph=True)
    assert str(other_input.value) == str(plain_input.value)


def test_a_non_finite_relevance_names_its_node() -> None:
    """The finder runs on the live parameters as well."""
    model = nn.Sequential(nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -1.0 + 1e-15]], dtype=torch.float64))
    huge = LRPFx(model, composites.Zero(), start=lambda y: torch.full_like(y, 1e300))
    with pytest.raises(NonFiniteError, match="_0_linear"):
        huge.attribute(torch.ones(1, 2).double(), create_graph=True)


def test_autocast() -> None:
    """The first call, too, which reads the model without gradients, reaches every parameter."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2)), torch.randn(2, 4)
    lrp, found = LRPFx(model, "epsilon"), []
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            relevance = lrp.attribute(x, 1, create_graph=True)
        found.append(torch.autograd.grad(relevance.square().sum(), list(model.parameters())))
    for first, second in zip(*found, strict=True):
        assert torch.equal(first, second)


# Training with it

RIGHT_HALF = (torch.arange(8) >= 4).float().expand(8, 8)


def pictures(count: int, seed: int, *, shortcut: bool) -> tuple[Tensor, Tensor]:
    """Noise, a faint patch on the left whose sign is the class, and a clear one on the right.

    The sign of the clear one is the class too where there is a ``shortcut``, else chance.
    """
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (count,), generator=generator)
    chance = torch.randint(2, (count,), generator=generator)
    x = torch.randn(count, 1, 8, 8, generator=generator)
    left, right = 2 * y - 1, 2 * (y if shortcut else chance) - 1
    x[:, 0, 2:6, 1:3] += 0.8 * left[:, None, None]
    x[:, 0, 2:6, 5:7] += 1.5 * right[:, None, None]
    return x, y


def share_on_the_right(relevance: Tensor) -> Tensor:
    """How much of Σ |R| lies in the right half."""
    return (relevance.abs() * RIGHT_HALF).sum() / relevance.abs().sum()


EVEN = composites.Epsilon(0.01)


def trained(penalty: float, composite: Composite = EVEN) -> nn.Module:
    """A small network after 80 steps on pictures with the shortcut."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(96, 2)),
    )
    lrp = LRPFx(model, composite)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    x, y = pictures(256, 1, shortcut=True)
    for _ in range(80):
        loss = F.cross_entropy(model(x), y)
        if penalty:
            loss = loss + penalty * share_on_the_right(lrp.attribute(x, y, create_graph=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def test_a_penalty_on_relevance_teaches_a_network_to_look_elsewhere() -> None:
    """Right for the right reasons: the shortcut is left alone, and not only in its explanations.

    Without the penalty the network is at chance once the shortcut is gone; with it, it is not.
    """

    def measured(model: nn.Module) -> tuple[float, float, float]:
        x, y = pictures(512, 2, shortcut=False)
        seen, of_seen = pictures(512, 3, shortcut=True)
        relevance = LRPFx(model, EVEN).attribute(x, y)
        right = (model(x).argmax(1) == y).float().mean()
        still = (model(seen).argmax(1) == of_seen).float().mean()
        return float(share_on_the_right(relevance)), float(right), float(still)

    share, right, still = measured(trained(penalty=0))
    assert share > 0.5
    assert right < 0.65
    assert still > 0.95
    share, right, still = measured(trained(penalty=1))
    assert share < 0.2
    assert right > 0.85
    assert still > 0.95


def test_a_rule_of_one_sign_is_cheated() -> None:
    """Why the guide advises against z⁺ here: what it shows goes away, the use of the shortcut stays."""
    model = trained(penalty=1, composite=composites.ZPlus())
    x, y = pictures(512, 2, shortcut=False)
    shown, there = (
        float(share_on_the_right(LRPFx(model, each).attribute(x, y)))
        for each in (composites.ZPlus(), EVEN)
    )
    assert shown < 0.01
    assert there > 0.3
