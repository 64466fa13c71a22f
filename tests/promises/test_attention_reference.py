"""AttnLRP and CP-LRP on whole transformers against input × gradient with parts held constant.

``held.py`` derives the relevance without the library, from the models' own code. All ε are zero
(``compat.attnlrp``), so the two are equal but for rounding, also where units nearly cancel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from lrp_fx import Composite, LayerLRPFx, LRPFx
from lrp_fx.composites import compat
from tests.helpers.closeness import assert_close
from tests.helpers.held import relevance_by_hand
from tests.helpers.numbers import numbers
from tests.helpers.transformers import cp_lrp, swin, vision_transformer

AMPLIFIED = 1e-7
"""Of max |R|: without ε, units that nearly cancel amplify the rounding of another order."""

TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "vocab_size": 50,
    "num_labels": 4,
}
ONE_LAYER = {**TEXT, "num_hidden_layers": 1}
"""What BERT, which has two, shows of a row of layers needs no showing again."""
GROUPED = {**ONE_LAYER, "num_key_value_heads": 2, "head_dim": 4, "use_cache": False}


@dataclass(frozen=True)
class Text:
    """A model of Hugging Face from a small random configuration."""

    config: str
    options: dict[str, Any]
    auto: str = "AutoModelForCausalLM"

    def make(self, attention: str) -> nn.Module:
        transformers = pytest.importorskip("transformers")
        config = getattr(transformers, self.config)(**self.options, attn_implementation=attention)
        torch.manual_seed(0)
        model: nn.Module = getattr(transformers, self.auto).from_config(config)
        for parameter in model.parameters():  # the initial 0.02 hides all but the residual stream
            nn.init.normal_(parameter, std=0.3)
        return model.double().eval()


CLASSIFIER = "AutoModelForSequenceClassification"
TEXTS = {
    "BERT": Text("BertConfig", TEXT, CLASSIFIER),
    "RoBERTa": Text("RobertaConfig", ONE_LAYER, CLASSIFIER),
    "GPT-2": Text(
        "GPT2Config",
        {
            **{"n_embd": 16, "n_layer": 1, "n_head": 4, "vocab_size": 50, "use_cache": False},
            "activation_function": "gelu",
        },
    ),
    "Llama": Text("LlamaConfig", GROUPED),
    "Mistral": Text("MistralConfig", GROUPED),
    "Qwen3": Text("Qwen3Config", GROUPED),
}


ALIKE = {"Mistral", "Qwen3"}
"""Built as Llama is: with grouped queries and rotated positions."""


def _marked(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name


def last_logits(result: Any) -> Tensor:
    logits: Tensor = result.logits
    return logits if logits.dim() == 2 else logits[:, -1]


class LastLogits(nn.Module):
    """The logits of the last token."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return last_logits(self.model(tokens))


METHODS: dict[str, Callable[[], Composite]] = {"attnlrp": compat.attnlrp, "cp_lrp": cp_lrp}
TOKENS = torch.randint(3, 50, (2, 6), generator=torch.Generator().manual_seed(1))


@cache
def read_text(name: str, attention: str) -> tuple[nn.Module, LRPFx, LayerLRPFx]:
    """A text model, and attributions to its tokens and embedding that have read it."""
    model = TEXTS[name].make(attention)
    embedding = next(p for p, m in model.named_modules() if isinstance(m, nn.Embedding))
    last = LastLogits(model)
    lrp = LRPFx(last, compat.attnlrp())
    at_embedding = LayerLRPFx(last, f"model.{embedding}", compat.attnlrp())
    for each in (lrp, at_embedding):
        each.attribute(TOKENS, 2)
    return model, lrp, at_embedding


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [_marked(name) for name in TEXTS])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_text_models(name: str, method: str, attention: str) -> None:
    """Token relevance at the embedding's output, (N, T, D) and summed up to (N, T)."""
    model, lrp, at_embedding = read_text(name, attention)
    expected = relevance_by_hand(
        model, TOKENS, 2, last_logits, constant_attention=method == "cp_lrp"
    )
    mine = lrp.with_composite(METHODS[method]()).attribute(TOKENS, 2)
    # models that compute their norms in float32 whatever they are given round there
    tolerance = 1e-3 if name in ("Llama", "Mistral", "Qwen3") else AMPLIFIED
    by_token = expected.sum(-1)
    assert mine.shape == TOKENS.shape
    assert (mine - by_token).abs().max() <= tolerance * expected.abs().sum(-1).max()
    features = at_embedding.with_composite(METHODS[method]()).attribute(TOKENS, 2)
    assert_close(features, expected, tolerance)


def convnext() -> nn.Module:
    settings = [CNBlockConfig(8, 16, 2), CNBlockConfig(16, None, 1)]
    return ConvNeXt(settings, num_classes=5, stochastic_depth_prob=0, layer_scale=0.5)


@cache
def read_image_model(
    make: Callable[[], nn.Module], side: int, capture: str
) -> tuple[nn.Module, LRPFx]:
    """An image model, and an attribution that has read it."""
    torch.manual_seed(0)
    model = make().double().eval()
    for parameter in model.parameters():
        if parameter.dim() < 2 or not parameter.any():
            nn.init.normal_(parameter, mean=0.5, std=0.3)
    lrp = LRPFx(model, compat.attnlrp(), capture=capture)  # type: ignore[arg-type]
    lrp.attribute(numbers(2, 3, side, side), 2)
    return model, lrp


@pytest.mark.parametrize("capture", ["auto", "export"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("make", "side"), [(vision_transformer, 16), (swin, 32), (convnext, 32)])
def test_image_models(make: Callable[[], nn.Module], side: int, method: str, capture: str) -> None:
    """Patches, windows with a shift and a relative bias, layer scale; and both captures."""
    model, lrp = read_image_model(make, side, capture)
    x = numbers(2, 3, side, side)
    expected = relevance_by_hand(
        model, x, 2, lambda logits: logits, constant_attention=method == "cp_lrp"
    )
    assert_close(lrp.with_composite(METHODS[method]()).attribute(x, 2), expected, AMPLIFIED)
