"""The filter keeps a part of each sample's relevance, however a model lays out its batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from lrp_fx import LayerLRPFx, LRPFx, NeuronLRPFx, Optimizations, relevance_filter
from lrp_fx.concepts.concept import ConceptLRPFx
from lrp_fx.errors import OptionError
from lrp_fx.plan.view import View
from lrp_fx.relevance.edges.top_k import TopK, TopKFilter
from tests.helpers.closeness import assert_close
from tests.helpers.counting import called

TOP_K = 0.1


class Attention(nn.Module):
    """(N, T, 6) to three classes by one block, with an optional mask (T, T)."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.embed, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.embed(x)
        x = x if self.batch_first else x.transpose(0, 1)
        x = x + self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]
        return self.head(x.mean(1 if self.batch_first else 0))


class Windows(nn.Module):
    """(N, 3, 8, 8) to three classes; attention within windows (N · 4, 16, …)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 1)
        self.qkv, self.out, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        q, k, v = self.qkv(x).chunk(3, -1)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v))
        return self.head(x.reshape(n, -1, c).mean(1))


class TimeFirst(nn.Module):
    """(N, T, 5) to three classes by an LSTM that has time in front."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.between, self.head = nn.LSTM(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        nn.init.ones_(self.head.bias)  # positive logits: of negative ones the filter leaves nothing

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.lstm(x.transpose(0, 1))
        return self.head(self.between(x).relu().mean(0))


class Branching(nn.Module):
    """Python branches on a value, and sizes are read as numbers: recorded, for one shape alone."""

    def __init__(self, hides: bool) -> None:
        super().__init__()
        self.hides, self.a, self.b = hides, nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            x = -x
        n, t = int(x.shape[0]), int(x.shape[1])
        if self.hides:
            return self.b(self.a(x.transpose(0, 1).contiguous()).relu()).reshape(t, n, 3).sum(0)
        return self.b(self.a(x).reshape(n, t, 8).sum(1))


def vision_transformer() -> nn.Module:
    from torchvision.models import VisionTransformer

    model = VisionTransformer(8, 4, 1, 2, 8, 12, num_classes=3)
    nn.init.normal_(model.heads.head.weight)  # torchvision has zeros there
    return model


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )


def sequences(samples: int, steps: int, features: int = 6) -> Tensor:
    return torch.randn(samples, steps, features, dtype=torch.float64)


def images(samples: int) -> Tensor:
    return torch.randn(samples, 3, 8, 8, dtype=torch.float64)


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], bool]] = {
    "attention": (lambda: Attention(True), lambda: sequences(3, 5), True),
    "attention, T = N": (lambda: Attention(True), lambda: sequences(4, 4), True),
    "attention, time first": (lambda: Attention(False), lambda: sequences(3, 5), True),
    "attention, time first, T = N": (lambda: Attention(False), lambda: sequences(3, 3), True),
    "vision transformer": (vision_transformer, lambda: images(3), True),
    "vision transformer, T = N": (vision_transformer, lambda: images(5), True),
    "windows": (Windows, lambda: images(3), True),
    "LSTM": (TimeFirst, lambda: sequences(3, 4, 5), True),
    "LSTM, T = N": (TimeFirst, lambda: sequences(3, 3, 5), True),
    "branching": (lambda: Branching(True), lambda: sequences(3, 3), True),
    "branching, batch first": (lambda: Branching(False), lambda: sequences(3, 4), True),
    "CNN": (cnn, lambda: images(3), False),
}
"""Each with whether the batch is not, or not known to be, in front of all filtered values."""


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, bool]:
    model, inputs, hides = CASES[request.param]
    return model().double().eval(), inputs(), hides


def hides_batch(lrp: LRPFx, *inputs: Tensor) -> bool:
    program, tensors = lrp._prepared(inputs[0], tuple(inputs[1:]), View())
    return program.hides_batch(tensors)


@pytest.mark.parametrize("start", ["logit", "one_hot"])
def test_a_batch_is_its_samples(case: tuple[nn.Module, Tensor, bool], start: Any) -> None:
    model, x, hides = case
    lrp = LRPFx(model, top_k=TOP_K, start=start)
    assert hides_batch(lrp, x) == hides
    targets = model(x).argmax(1).tolist()
    mine, delta = lrp.attribute(x, targets, return_convergence_delta=True)
    singles = [lrp.attribute(x[i : i + 1], t) for i, t in enumerate(targets)]
    assert_close(mine, torch.cat(singles))
    assert delta.shape == x.shape[:1]


@pytest.mark.parametrize(
    "options",
    [{"optimize": False}, {"optimize": Optimizations(recompute=True)}],
    ids=["plain", "recomputed"],
)
def test_with_other_options(case: tuple[nn.Module, Tensor, bool], options: Any) -> None:
    model, x, _ = case
    mine = LRPFx(model, top_k=TOP_K, start="one_hot", **options).attribute(x, 1)
    lrp = LRPFx(model, top_k=TOP_K, start="one_hot")
    assert_close(mine, torch.cat([lrp.attribute(x[i : i + 1], 1) for i in range(len(x))]))


def test_many_targets(case: tuple[nn.Module, Tensor, bool]) -> None:
    model, x, _ = case
    lrp = LRPFx(model, top_k=TOP_K, start="one_hot")
    expected = torch.stack([lrp.attribute(x, target) for target in range(3)])
    assert_close(lrp.attribute_many(x, range(3)), expected)
    one = lrp.attribute_many(x[1:2], range(3))
    assert_close(one, expected[:, 1:2])


def test_in_a_loss(case: tuple[nn.Module, Tensor, bool]) -> None:
    """Relevance and its derivatives are those of the samples; the mean's loss would mix them."""
    model, x, _ = case
    lrp = LRPFx(model, top_k=TOP_K, start="one_hot")

    def gradient(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        mine = lrp.attribute(x, 1, create_graph=True)
        assert_close(mine.detach(), lrp.attribute(x.detach(), 1))
        return torch.autograd.grad(mine.square().sum(), x)[0]

    assert_close(gradient(x), torch.cat([gradient(x[i : i + 1]) for i in range(len(x))]))


def test_ledgers(case: tuple[nn.Module, Tensor, bool]) -> None:
    model, x, _ = case
    lrp = LRPFx(model, top_k=TOP_K)
    whole = lrp.audit(x, 1)
    assert whole.closes()
    explained = lrp.attribute(x, 1).flatten(1).sum(1)
    torch.testing.assert_close(torch.tensor(whole.relevance).to(explained), explained)
    for sample in range(len(x)):
        alone, mine = lrp.audit(x[sample : sample + 1], 1), whole.of_sample(sample)
        assert [e.node for e in alone.entries] == [e.node for e in mine.entries]
        for one, other in zip(alone.entries, mine.entries, strict=True):
            close = pytest.approx(other.magnitude_out, abs=1e-10 * sum(map(abs, whole.start)))
            assert one.magnitude_out == close, one.node


def test_layers_neurons_and_concepts() -> None:
    model, x = Attention(False).double().eval(), sequences(3, 3)
    options: dict[str, Any] = {"top_k": TOP_K, "start": "one_hot"}
    layer = LayerLRPFx(model, "embed", **options)
    neuron = NeuronLRPFx(model, "head", **options)
    concepts = ConceptLRPFx(model, channel_dim=-1, **options)
    conditions = [{"embed": range(6)}, {"embed": range(6, 8)}]

    def explained(x: Tensor) -> list[Tensor]:
        return [
            layer.attribute(x, 1),
            neuron.attribute(x, 1),
            *concepts.attribute_conditions(x, conditions, 1),
            *concepts.channel_relevance(x, ["embed"], 1),
        ]

    singles = zip(*(explained(x[i : i + 1]) for i in range(3)), strict=True)
    for mine, expected in zip(explained(x), map(torch.cat, singles), strict=True):
        assert_close(mine, expected)


def test_relevance_of_a_layer_that_hides_the_batch() -> None:
    """The layer's relevance comes in the layer's layout, (T, N, 6)."""
    model, x = TimeFirst().double().eval(), sequences(3, 3, 5)
    lrp = LayerLRPFx(model, "between", top_k=TOP_K, start="one_hot")
    singles = [lrp.attribute(x[i : i + 1], 1) for i in range(3)]
    assert_close(lrp.attribute(x, 1), torch.cat(singles, 1))


@pytest.mark.parametrize("steps", [5, 3], ids=["T > N", "T = N"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_arguments_without_a_batch(batch_first: bool, steps: int) -> None:
    """A mask (T, T) is that of every sample, also where T = N."""
    model, x = Attention(batch_first).double().eval(), sequences(3, steps)
    mask = torch.full((steps, steps), float("-inf")).double().triu(1)
    lrp = LRPFx(model, top_k=TOP_K, start="one_hot")
    assert hides_batch(lrp, x, mask)
    singles = [lrp.attribute(x[i : i + 1], 1, mask) for i in range(3)]
    assert_close(lrp.attribute(x, 1, mask), torch.cat(singles))


def test_tokens_and_several_inputs() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.block = nn.Embedding(9, 6), Attention(False)

        def forward(self, tokens: Tensor, x: Tensor) -> Tensor:
            return self.block(torch.cat([self.embedding(tokens), x], 1))

    model, tokens, x = Model().double().eval(), torch.randint(9, (3, 2)), sequences(3, 1)
    lrp = LRPFx(model, top_k=0.3, start="one_hot")
    singles = [lrp.attribute((tokens[i : i + 1], x[i : i + 1]), 1) for i in range(3)]
    mine = lrp.attribute((tokens, x), 1)
    for each, expected in zip(mine, map(torch.cat, zip(*singles, strict=True)), strict=True):
        assert_close(each, expected)


@pytest.mark.parametrize("has_batch", [True, False])
def test_arguments_as_long_as_the_batch(has_batch: bool) -> None:
    """A linear model with the batch in front is recognised beside either kind."""

    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor, weights: Tensor) -> Tensor:
            w = weights.unsqueeze(-1) if has_batch else weights.sum(0).unsqueeze(-1)
            return self.b((self.a(x).relu() * w).sum(1))

    model, x, weights = Weighted().double(), sequences(4, 4), torch.rand(4, 4).double()
    lrp = LRPFx(model, top_k=TOP_K, start="one_hot")
    assert not hides_batch(lrp, x, weights)
    own = [weights[i : i + 1] if has_batch else weights for i in range(4)]
    singles = [lrp.attribute(x[i : i + 1], 1, own[i]) for i in range(4)]
    assert_close(lrp.attribute(x, 1, weights), torch.cat(singles))


@pytest.mark.parametrize("samples", [1, 3, 5])
def test_so_much_of_each_sample_is_kept(samples: int) -> None:
    """k counts the values of a sample, not those of a time step, for one sample too."""
    model, x = TimeFirst().double().eval(), sequences(samples, 5, 5)
    arrived = LayerLRPFx(model, "between", start="one_hot").attribute(x, 1)
    expected = relevance_filter(arrived.transpose(0, 1), 0.2).transpose(0, 1)
    assert not torch.equal(expected, relevance_filter(arrived, 0.2))
    seen: list[Tensor] = []
    lrp = LRPFx(model, filters=[("between", 0.2)], start="one_hot")
    lrp.register_relevance_hook("between", lambda r, _: seen.append(r.clone()))
    lrp.attribute(x, 1)
    assert len(seen) == samples  # one pass for each
    assert_close(sum(seen, start=torch.zeros_like(arrived)), expected)


def test_a_cnn_takes_one_pass() -> None:
    """No operation more for four samples than for two, and none for the layout after the first call."""
    lrp = LRPFx(cnn().double(), top_k=TOP_K, start="one_hot", optimize=False)
    calls: list[int] = []
    lrp.register_relevance_hook(nn.Conv2d, lambda r, _: calls.append(len(r)))
    counts = []
    for samples in (2, 4):
        x = images(samples)
        counts.append(called(lambda x=x: lrp.attribute(x, 1))["convolution"])
    assert counts[0] == counts[1] > 0
    assert calls == [2, 2, 4, 4]


def test_without_filters_the_layout_does_not_matter() -> None:
    lrp = LRPFx(Attention(False).double().eval())
    calls: list[int] = []
    lrp.register_relevance_hook("head", lambda r, _: calls.append(len(r)))
    lrp.attribute(sequences(3, 5), 1)
    assert calls == [3]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(-3, 3), min_size=24, max_size=24), st.sampled_from([0.01, 0.2, 0.5, 0.9])
)
def test_one_sample_alone(values: list[int], top_k: float) -> None:
    """As among its own values: their zeros come before negative ones, those of others do not count."""
    sample = torch.tensor(values, dtype=torch.float64) + torch.linspace(0, 0.1, 24).double()
    sample[torch.tensor(values) == 0] = 0
    expected = relevance_filter(sample[None], top_k)[0].reshape(4, 6)
    batch = torch.zeros(4, 3, 6).double()
    batch[:, 1] = sample.reshape(4, 6)
    mine = TopKFilter(TopK(top_k))(batch, torch.Size([3, 24]), alone=True)
    assert torch.equal(mine[:, 1], expected)
    assert not mine[:, [0, 2]].any()


def test_exporting_a_hidden_batch() -> None:
    """One sample can be exported; a batch whose samples would be mixed cannot."""
    x = sequences(3, 5)
    lrp = LRPFx(Attention(False).double().eval(), top_k=TOP_K, start="one_hot")
    for inputs, dynamic in ((x, True), (x, False), (x[:1], True)):
        with pytest.raises(OptionError, match="hides the batch"):
            lrp.export(inputs, dynamic_batch=dynamic)
    program = lrp.export(x[:1], dynamic_batch=False)
    _, relevance = program.module()(x[:1], torch.tensor([1]))
    assert_close(relevance, lrp.attribute(x[:1], 1))


def test_a_negative_logit_may_leave_nothing() -> None:
    """The largest signed values are then zeros; a start of one has some to keep."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    nn.init.constant_(model[2].bias, -10.0)
    x = torch.rand(2, 4).double()
    assert not LRPFx(model, top_k=0.5).attribute(x, 1).any()
    assert LRPFx(model, top_k=0.5, start="one_hot").attribute(x, 1).any()
