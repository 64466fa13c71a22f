"""NumPy arrays and encodings as inputs: the same numbers as tensors, in the form of the inputs."""

from __future__ import annotations

from collections import UserDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lrp_fx import (
    ConceptLRPFx,
    LayerLRPFx,
    LRPFx,
    NeuronLRPFx,
    References,
    against,
    bilrp,
)
from lrp_fx.errors import InputError, OptionError, TargetError
from tests.helpers.models import TwoInputs


def classifier(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    return network.eval().to(dtype)


IMAGES = np.random.default_rng(0).normal(size=(3, 3, 6, 6))
LABELS = np.array([4, 0, 2])


class Words(nn.Module):
    """A text model that takes its arguments by name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(20, 8)
        self.kinds = nn.Embedding(2, 8)
        self.head = nn.Linear(8, 3)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        h = self.table(input_ids)
        if token_type_ids is not None:
            h = h + self.kinds(token_type_ids)
        if attention_mask is not None:
            h = h * attention_mask[:, :, None].to(h.dtype)
        return self.head(h.sum(1))


IDS = torch.tensor([[3, 4, 5, 0], [7, 8, 9, 10]])
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ">f8"])
def test_arrays_go_to_the_models_dtype_and_come_back_in_their_own(dtype: Any) -> None:
    x = IMAGES.astype(dtype)
    lrp = LRPFx(classifier())
    found, delta = lrp.attribute(x, LABELS, return_convergence_delta=True)
    tensor = torch.from_numpy(x.astype(np.float32))
    expected, rest = lrp.attribute(tensor, LABELS.tolist(), return_convergence_delta=True)
    assert isinstance(found, np.ndarray)
    assert isinstance(delta, np.ndarray)
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found, expected.numpy().astype(dtype))
    np.testing.assert_array_equal(delta, rest.numpy())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_models_of_other_dtypes(dtype: torch.dtype) -> None:
    lrp = LRPFx(classifier(dtype))
    found, delta = lrp.attribute(IMAGES, 1, return_convergence_delta=True)
    expected = lrp.attribute(torch.from_numpy(IMAGES).to(dtype), 1)
    assert found.dtype == IMAGES.dtype
    assert isinstance(delta, np.ndarray)
    np.testing.assert_array_equal(found, expected.double().numpy())


def test_any_memory_layout() -> None:
    """Views with negative strides and read-only arrays, which torch does not take."""
    lrp = LRPFx(classifier())
    read_only = IMAGES.copy()
    read_only.flags.writeable = False
    expected = lrp.attribute(np.ascontiguousarray(IMAGES[:, :, ::-1]), 1)
    np.testing.assert_array_equal(lrp.attribute(IMAGES[:, :, ::-1], 1), expected)
    np.testing.assert_array_equal(lrp.attribute(read_only, 1), lrp.attribute(IMAGES, 1))


def test_every_method_takes_and_returns_arrays(tmp_path: Path) -> None:
    model, tensor = classifier(), torch.from_numpy(IMAGES).float()
    lrp, crp = LRPFx(model), ConceptLRPFx(model)

    def same(found: Any, expected: Any) -> None:
        if isinstance(expected, (tuple, list)):
            assert type(found) is type(expected)
            for pair in zip(found, expected, strict=True):
                same(*pair)
            return
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found.astype(np.float32), expected.detach().numpy())

    def pool(maps: Tensor) -> Tensor:
        return maps.sum((2, 3))

    for call in (
        lambda x: lrp.attribute_many(x, np.array([0, 4])),
        lambda x: lrp.attribute_many(x, np.array([[0, 1, 2], [2, 3, 4]])),
        lambda x: lrp.explained_output(x),
        lambda x: LayerLRPFx(model, "0").attribute(x, LABELS, return_convergence_delta=True),
        lambda x: LayerLRPFx(model, ["0", "1"]).attribute(x, 1, return_convergence_delta=True),
        lambda x: NeuronLRPFx(model, "0").attribute(x, (1, 2, 3)),
        lambda x: crp.attribute_conditions(x, [{"0": [1]}, {"0": [2]}], 1),
        lambda x: crp.channel_relevance(x, ["0"], 1),
        lambda x: bilrp(lrp, x[:1], x[1:2], pool=pool),
        lambda x: LRPFx(model, start=against(1, 2)).attribute(x),
    ):
        same(call(IMAGES), call(tensor))
    assert str(lrp.audit(IMAGES, LABELS)) == str(lrp.audit(tensor, LABELS))
    assert str(lrp.plan(IMAGES)) == str(lrp.plan(tensor))
    graphs = [crp.attribution_graph(each[:1], 1, ["0"]) for each in (IMAGES, tensor)]
    assert graphs[0] == graphs[1]
    found = []
    for name, each in (("arrays", IMAGES), ("tensors", tensor)):
        references = References(crp, ["0"], tmp_path / name, count=2)
        references.update([(each, LABELS)])
        found.append(references.top("0", 1))
    assert found[0] == found[1]


def test_tuples_keep_the_kind_of_each_entry() -> None:
    model = TwoInputs().eval()
    first, second = np.random.default_rng(1).normal(size=(2, 3, 7, 7)), torch.rand(2, 5)
    both = LRPFx(model).attribute((first, second), 0)  # type: ignore[type-var]
    assert isinstance(both[0], np.ndarray)
    assert isinstance(both[1], Tensor)
    tensors = LRPFx(model).attribute((torch.from_numpy(first).float(), second), 0)
    np.testing.assert_array_equal(both[0], tensors[0].numpy())
    assert torch.equal(both[1], tensors[1])


def test_additional_arrays_follow_the_inputs() -> None:
    lrp = LRPFx(Words())
    expected = lrp.attribute(IDS, 1, {"attention_mask": MASK})
    found = lrp.attribute(IDS.numpy(), 1, {"attention_mask": MASK.numpy()})
    np.testing.assert_array_equal(found, expected.numpy())
    np.testing.assert_array_equal(lrp.attribute(IDS.numpy(), 1, MASK.numpy()), expected.numpy())


@pytest.mark.parametrize("target", [LABELS, LABELS.astype(np.uint8), LABELS.astype(">i8")])
def test_labels_of_numpy(target: Any) -> None:
    lrp, x = LRPFx(classifier()), torch.from_numpy(IMAGES).float()
    expected = lrp.attribute(x, LABELS.tolist())
    assert torch.equal(lrp.attribute(x, target), expected)
    assert torch.equal(lrp.attribute(x, list(target)), expected)
    one = lrp.attribute(x[:1], int(LABELS[0]))
    for single in (target[0], target[:1], np.array(LABELS[0])):
        assert torch.equal(lrp.attribute(x[:1], single), one)


@pytest.mark.parametrize("target", [LABELS.astype(float), LABELS > 1, np.array(["a", "b", "c"])])
def test_what_is_no_label(target: Any) -> None:
    with pytest.raises(TargetError, match="integers"):
        LRPFx(classifier()).attribute(IMAGES, target)


@pytest.mark.parametrize("kind", [dict, UserDict])
@pytest.mark.parametrize("numpy", [False, True])
def test_an_encoding_goes_to_the_model_by_name(kind: Any, numpy: bool) -> None:
    """Token ids are explained; masks and types of tokens are not."""
    lrp = LRPFx(Words())
    rest = {"attention_mask": MASK, "token_type_ids": torch.zeros_like(IDS)}
    expected, delta = lrp.attribute(IDS, 1, rest, return_convergence_delta=True)
    entries = {"attention_mask": MASK, "input_ids": IDS, "token_type_ids": torch.zeros_like(IDS)}
    encoding = kind({name: each.numpy() if numpy else each for name, each in entries.items()})
    found, left = lrp.attribute(encoding, 1, return_convergence_delta=True)
    assert list(found) == ["input_ids"]
    assert isinstance(left, np.ndarray if numpy else Tensor)
    assert torch.equal(torch.as_tensor(found["input_ids"]), expected)
    assert torch.equal(torch.as_tensor(left), delta)
    assert torch.equal(
        torch.as_tensor(lrp.explained_output(encoding)), lrp.explained_output(IDS, rest)
    )
    assert str(lrp.plan(encoding)).count("linear") == str(lrp.plan()).count("linear")
    many = lrp.attribute_many(encoding, [0, 1])
    assert torch.equal(torch.as_tensor(many["input_ids"])[1], expected)
    ids_and_mask = kind({"input_ids": encoding["input_ids"]})
    again = lrp.attribute(ids_and_mask, 1, {name: rest[name] for name in rest})
    assert torch.equal(torch.as_tensor(again["input_ids"]), expected)


def test_a_real_encoding() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=20,
    )
    model = transformers.BertForSequenceClassification(config).eval()
    encoding = transformers.BatchEncoding({"input_ids": IDS, "attention_mask": MASK})
    lrp = LRPFx(model)
    found = lrp.attribute(encoding, target=1)
    assert torch.equal(found["input_ids"], lrp.attribute(IDS, 1, {"attention_mask": MASK}))
    layer = LayerLRPFx(model, "bert.encoder.layer.0").attribute(encoding, 1)
    assert isinstance(layer, Tensor)
    assert layer.shape == (2, 4, 16)


def test_what_an_encoding_explains() -> None:
    class Both(nn.Module):
        main_input_name = "words"

        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)

        def forward(self, pixels: Tensor, words: Tensor, image_mask: Tensor) -> Tensor:
            return self.head(pixels * image_mask + self.table(words).sum(1))

    pixels, mask = torch.rand(2, 8), torch.ones(2, 8)
    found = LRPFx(Both()).attribute({"image_mask": mask, "pixels": pixels, "words": IDS}, 0)
    assert set(found) == {"pixels", "words"}
    assert found["pixels"].shape == pixels.shape
    assert found["words"].shape == IDS.shape


WRONG: dict[str, tuple[Any, Any, str]] = {
    "lists": ({"input_ids": IDS.tolist()}, None, "return_tensors='pt'"),
    "no names": ({0: IDS}, None, "needs names"),
    "twice": ({"input_ids": IDS, "attention_mask": MASK}, {"attention_mask": MASK}, "passed twice"),
    "by place": ({"input_ids": IDS}, MASK, "additional arguments by name"),
    "a mask alone": ({"attention_mask": MASK}, None, "is to be explained"),
    "nothing": ({}, None, "is to be explained"),
    "complex": (IDS.numpy() + 1j, None, "real numbers"),
    "objects": (np.array([[None, 1]]), None, "real numbers"),
    "NaN": (
        {"input_ids": IDS, "pixel_values": np.full((2, 3), np.nan)},
        None,
        "'pixel_values' holds",
    ),
    "too large": (np.full((1, 4), 1e300), None, "infinite"),
    "bool": (MASK.numpy() > 0, None, "torch.bool"),
    "another name": ({"ids": IDS}, None, "ids"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_taken(name: str) -> None:
    inputs, additional, words = WRONG[name]
    with pytest.raises(InputError, match=words):
        LRPFx(Words()).attribute(inputs, 1, additional)


def test_arrays_have_no_graph() -> None:
    with pytest.raises(OptionError, match="create_graph needs tensors"):
        LRPFx(classifier()).attribute(IMAGES, 1, create_graph=True)


def test_masked_entries_are_not_taken_as_numbers() -> None:
    """What lies under a mask is no evidence, and a model cannot leave it out."""
    lrp = LRPFx(classifier())
    for additional in (None, IMAGES):
        with pytest.raises(InputError, match=r"masked entries.*filled"):
            lrp.attribute(np.ma.masked_greater(IMAGES, 0), 1, additional_forward_args=additional)
    bare = np.ma.masked_array(IMAGES)
    np.testing.assert_array_equal(lrp.attribute(bare, 1), lrp.attribute(IMAGES, 1))


def test_relevance_that_the_dtype_cannot_hold_is_no_infinity() -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, 1e4)
    with pytest.raises(InputError, match="too large for float16"):
        LRPFx(model).attribute(np.full((1, 2), 100, np.float16), 0)


class Labelled(Words):
    """It takes labels, as models of transformers do, whatever their dtype."""

    def forward(self, input_ids: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(input_ids) + 0 * labels


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_labels_are_not_explained(dtype: torch.dtype) -> None:
    """They are no evidence, and relevance for them would be a second map that nobody asked for."""
    labels = torch.ones(2, 3, dtype=dtype)
    found = LRPFx(Labelled()).attribute({"labels": labels, "input_ids": IDS}, 1)
    assert set(found) == {"input_ids"}


@pytest.mark.parametrize("call", ["attribute", "explained_output", "attribute_many"])
def test_what_the_model_refuses_is_its_error_at_every_call(call: str) -> None:
    """Also where the graph is known already and runs alone: words that its table does not have."""
    lrp = LRPFx(Words())
    lrp.attribute(IDS, 1)
    more = {"attribute": (1,), "explained_output": (), "attribute_many": ([0, 1],)}[call]
    for words in (IDS + 50, {"input_ids": IDS - 9}):
        with pytest.raises(InputError, match="the model itself fails"):
            getattr(lrp, call)(words, *more)
