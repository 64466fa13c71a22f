"""Text pipelines: tokens with their relevance, by a tokenizer and a network that are made here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import Explanation, LRPFx
from lrp_fx.adapters import explain_text
from lrp_fx.errors import InputError, TargetError

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "wonderful", "dull", "film", "<b>", "play"]


@pytest.fixture(scope="module")
def pipeline() -> Any:
    """A text classification pipeline with random weights."""
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", model_max_length=8
    )
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        id2label={0: "bad", 1: "good", 2: "so so"},
        label2id={"bad": 0, "good": 1, "so so": 2},
    )
    model = transformers.BertForSequenceClassification(config).eval()
    return transformers.TextClassificationPipeline(model=model, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def lrp(pipeline: Any) -> LRPFx:
    """The attribution of its model, which is read once."""
    return LRPFx(pipeline.model)


def test_a_text_to_its_tokens(pipeline: Any, lrp: LRPFx) -> None:
    found = explain_text(pipeline, "a wonderful film <b>")
    assert isinstance(found, Explanation)
    assert found.words == ("[CLS]", "a", "wonderful", "film", "<b>", "[SEP]")
    assert found.names == ("bad", "good", "so so")
    assert found.target_name == pipeline("a wonderful film <b>")[0]["label"]
    encoding = pipeline.tokenizer("a wonderful film <b>", return_tensors="pt")
    expected = lrp.attribute(encoding, found.target)["input_ids"]
    assert torch.equal(found.relevance, expected)


def test_other_labels_and_one_attribution_for_many_texts(pipeline: Any, lrp: LRPFx) -> None:
    found = explain_text(pipeline, "a dull play", "good", lrp=lrp)
    assert found.target_name == "good"
    assert torch.equal(found.relevance, explain_text(pipeline, "a dull play", 1, lrp=lrp).relevance)


def test_pairs_and_long_texts(pipeline: Any, lrp: LRPFx) -> None:
    pair = explain_text(pipeline, ("a film", "a play"), lrp=lrp)
    assert pair.words == ("[CLS]", "a", "film", "[SEP]", "a", "play", "[SEP]")
    assert len(explain_text(pipeline, "a dull film " * 20, lrp=lrp).words) == 8


def test_what_cannot_be_explained(pipeline: Any) -> None:
    wrong: Any
    for wrong in (5, ["a", "film"], ("a", "b", "c"), None):
        with pytest.raises(InputError, match="a text is a str"):
            explain_text(pipeline, wrong)
    with pytest.raises(TargetError, match="no label 'great': there are bad, good, so so"):
        explain_text(pipeline, "a film", "great")
    with pytest.raises(InputError, match="must explain the model of the pipeline"):
        explain_text(pipeline, "a film", lrp=LRPFx(nn.Linear(2, 2)))
    for wrong in (pipeline.model, "text-classification"):
        with pytest.raises(InputError, match="needs a pipeline with a model and its tokenizer"):
            explain_text(wrong, "a film")


def test_any_model_with_its_tokenizer() -> None:
    """No pipeline is needed, nor a configuration with labels."""

    class Letters:
        def __call__(self, *texts: str, return_tensors: str, truncation: bool) -> dict[str, Tensor]:
            return {"input_ids": torch.tensor([[ord(letter) - 97 for letter in texts[0]]])}

        def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
            return [chr(97 + index) for index in ids]

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table, self.head = nn.Embedding(26, 8), nn.Linear(8, 3)

        def forward(self, input_ids: Tensor) -> Tensor:
            return self.head(self.table(input_ids).mean(1))

    class Pair:
        model, tokenizer = Mean(), Letters()

    found = explain_text(Pair(), "abba", 2)
    assert found.words == ("a", "b", "b", "a")
    assert found.summary.startswith("class 2")


def test_an_image_pipelines_processor_makes_inputs_by_name() -> None:
    """The recipe of the page for images: the processor's output is an encoding."""
    from PIL import Image

    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=32, patch_size=8,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(config).eval()
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    encoding = processor(Image.new("RGB", (40, 30), "orange"), return_tensors="pt")
    relevance = LRPFx(model).attribute(encoding, target=1)
    assert relevance["pixel_values"].shape == (1, 3, 32, 32)
