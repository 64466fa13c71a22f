"""Models whose code asks for shapes are read symbolically, once for all sizes that they allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig

from lrp_fx import LRPFx
from tests.helpers.closeness import distance

transformers = pytest.importorskip("transformers")

SAME = 1e-12
"""Two readings of one model compute the same in float64, up to the rounding of long sums."""
Shape = tuple[int, ...]


class Logits(nn.Module):
    """A network of transformers, from token numbers to a tensor."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.network(input_ids=tokens).logits
        return logits if logits.dim() == 2 else logits[:, -1]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(6, 4, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layer(x)[0].mean(1))
        return logits


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.Sequential(encoder, nn.Linear(8, 3), Mean())


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def _vit() -> nn.Module:
    model = models.VisionTransformer(32, 16, 2, 2, 8, 16, num_classes=3)
    nn.init.normal_(model.heads[0].weight)
    return model


def _swin() -> nn.Module:
    return models.SwinTransformer([4, 4], 8, [2, 2], [1, 2], [4, 4], num_classes=3)


def _convnext() -> nn.Module:
    return models.ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=3)


def _bert() -> Logits:
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    return Logits(transformers.BertForSequenceClassification(config))


def _gpt() -> Logits:
    config = transformers.GPT2Config(vocab_size=20, n_positions=32, n_embd=8, n_layer=2, n_head=2)
    return Logits(transformers.GPT2LMHeadModel(config))


def _llama() -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return Logits(transformers.LlamaForCausalLM(config))


@dataclass(frozen=True)
class Family:
    """A small model of a family, and shapes that one reading has to serve."""

    make: Callable[[], nn.Module]
    shapes: tuple[Shape, ...]
    tokens: bool = False

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return self.make().double().eval()

    def inputs(self, shape: Shape) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        if self.tokens:
            return torch.randint(20, shape, generator=generator)
        return torch.randn(shape, generator=generator, dtype=torch.float64)


SIGNALS: tuple[Shape, ...] = ((1, 7, 6), (3, 5, 6))
TEXTS: tuple[Shape, ...] = ((1, 8), (3, 5), (2, 9))
FAMILIES = {
    "ResNet": Family(
        lambda: models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=3),
        ((1, 3, 32, 32), (2, 3, 48, 40)),
    ),
    "ViT": Family(_vit, ((1, 3, 32, 32), (2, 3, 32, 32))),
    "Swin": Family(_swin, ((1, 3, 32, 32), (2, 3, 32, 32))),
    "ConvNeXt": Family(_convnext, ((1, 3, 32, 32), (2, 3, 48, 40))),
    "encoder": Family(_encoder, ((1, 7, 8), (3, 5, 8))),
    "LSTM": Family(Recurrent, SIGNALS),
    "BERT": Family(_bert, TEXTS, tokens=True),
    "GPT-2": Family(_gpt, TEXTS, tokens=True),
    "Llama": Family(_llama, TEXTS, tokens=True),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_one_symbolic_reading_serves_all_shapes(name: str) -> None:
    family = FAMILIES[name]
    model = family.model()
    lrp = LRPFx(model)
    for shape in family.shapes:
        x = family.inputs(shape)
        found = lrp.attribute(x, target=1)
        assert lrp.plan(x).notes[0] == "capture: symbolic"
        assert torch.isfinite(found).all()
        assert distance(found, LRPFx(model).attribute(x, target=1)) <= SAME
    (readings,) = lrp._explainer._readings.values()
    assert len(readings) == 1
    assert not readings[0].is_assumed


class Masked(Logits):
    """With a mask of the tokens that count."""

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        logits: Tensor = self.network(input_ids=tokens, attention_mask=mask).logits
        return logits if logits.dim() == 2 else logits[:, -1]


@pytest.mark.parametrize("make", [_bert, _gpt])
def test_masks_of_padding_are_read_once(make: Callable[[], Logits]) -> None:
    """The library asks whether any token is padded, unless it is asked by a tracer."""
    torch.manual_seed(0)
    model = Masked(make().network).double().eval()
    lrp = LRPFx(model)
    for shape, padded in (((2, 8), 0), ((2, 8), 3), ((1, 5), 2)):
        tokens, mask = torch.randint(20, shape), torch.ones(shape, dtype=torch.int64)
        mask[0, shape[1] - padded :] = 0
        lrp.attribute(tokens, target=1, additional_forward_args=(mask,))
        found = lrp.explained_output(tokens, additional_forward_args=(mask,))
        torch.testing.assert_close(found, model(tokens, mask).detach())
    (readings,) = lrp._explainer._readings.values()
    assert [reading.captured.way for reading in readings] == ["symbolic"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_map_is_that_of_an_export(name: str) -> None:
    family = FAMILIES[name]
    x = family.inputs(family.shapes[0])
    symbolic, exported = (
        LRPFx(family.model(), capture=way).attribute(x, target=1) for way in ("symbolic", "export")
    )
    assert distance(symbolic, exported) <= SAME


class Follows(nn.Module):
    """A function of a layer's output."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(4, 4), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.layer(x))


def _filled(h: Tensor) -> Tensor:
    mask = h.new_zeros(h.shape[1:])
    mask[0, 1:3] = 2
    mask[1] += 1
    return h * mask


def _summed_into(h: Tensor) -> Tensor:
    total = torch.zeros(h.shape[0], 4, dtype=h.dtype)
    for step in range(h.shape[1]):
        total = total + h[:, step]
    return total


def _accumulated(h: Tensor) -> Tensor:
    total = h.new_zeros(h.shape[0], 4)
    total += h[:, 0]
    total += h[:, 1]
    return total


def _positions(h: Tensor) -> Tensor:
    places = torch.arange(h.shape[1], dtype=h.dtype)
    allowed = torch.ones(h.shape[1], h.shape[1], dtype=torch.bool).tril()
    weights = torch.where(allowed, places, -torch.inf).softmax(-1)
    return weights @ h


def _checked(h: Tensor) -> Tensor:
    torch._assert(h.ndim == 3, f"a batch of signals, got {h.shape}")
    if not isinstance(h, Tensor) or not h.is_floating_point() or len(h.shape) != 3:
        raise ValueError
    n, t, d = h.shape
    return h.view(n * t, d).relu().view(n, -1)


def _halved(h: Tensor) -> Tensor:
    half = h.shape[1] // 2
    parts = h[:, : 2 * half].unflatten(1, (half, 2))
    return parts.amax(2) / (h.shape[1] ** 0.5)


def _branch(h: Tensor) -> Tensor:
    return h.relu() if h.shape[1] > 3 else h.tanh()


def _maximum(h: Tensor) -> Tensor:
    values, _ = h.max(1)
    return values + h.max(dim=1).values


def _known_branch(h: Tensor) -> Tensor:
    mask = torch.ones(h.shape[:2], dtype=torch.bool)
    return h * 2 if mask.all() else h


FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    function.__name__: function
    for function in (
        *(_filled, _summed_into, _accumulated, _positions, _checked, _halved, _branch, _maximum),
        _known_branch,
    )
}
ONE_LENGTH = {"_filled", "_summed_into"}
"""Their graphs hold for any batch, but for one length only."""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_code_that_asks_for_shapes(name: str) -> None:
    """The same values as by the code, for other shapes too, in as few readings as there can be."""
    torch.manual_seed(0)
    model = Follows(FUNCTIONS[name]).double().eval()
    lrp = LRPFx(model, "zero", capture="symbolic", start=lambda y: torch.ones_like(y))
    shapes = [(2, 6, 4), (3, 6, 4), (1, 6, 4), (1, 9, 4)]
    for shape in shapes:
        x = torch.randn(shape, dtype=torch.float64)
        lrp.attribute(x)
        assert torch.equal(lrp.explained_output(x), model(x).detach())
    (readings,) = lrp._explainer._readings.values()
    assert len(readings) == (2 if name in ONE_LENGTH else 1)


def test_a_shape_that_takes_another_branch_is_read_anew() -> None:
    torch.manual_seed(0)
    model = Follows(_branch).double().eval()
    lrp = LRPFx(model, "zero", capture="symbolic", start=lambda y: torch.ones_like(y))
    for length in (6, 2, 5, 3):
        x = torch.randn(2, length, 4, dtype=torch.float64)
        lrp.attribute(x)
        assert torch.equal(lrp.explained_output(x), model(x).detach())
    (readings,) = lrp._explainer._readings.values()
    assert len(readings) == 2
