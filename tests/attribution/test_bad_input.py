"""What cannot be explained is refused in words on which one can act, and nothing is changed by it."""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LayerLRPFx, LRPFx, NeuronLRPFx
from lrp_fx.errors import CaptureError, InputError, LRPError, OptionError, TargetError

LONGEST = 1500
"""Characters of a message: more is no message but a dump."""


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


IMAGE = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
ROW = torch.linspace(-1, 1, 8).reshape(2, 4)


def spoiled(value: float) -> Tensor:
    image = IMAGE.clone()
    image[1, 2, 3, 4:7] = value
    return image


def assert_actionable(error: LRPError, words: str) -> None:
    """It says ``words``, no more than fits a screen, and hides nothing it was caused by."""
    text = str(error)
    assert re.search(words, text, re.DOTALL), text
    assert len(text) < LONGEST
    assert isinstance(error, LRPError)


# Inputs

INPUTS: dict[str, tuple[Any, str]] = {
    "channels": (IMAGE[:, :1], r"model itself fails on inputs of \(2, 1, 8, 8\) .*3 channels"),
    "no batch": (IMAGE[0], r"model itself fails on inputs of \(3, 8, 8\)"),
    "dimensions": (IMAGE[0, 0], r"model itself fails on inputs of \(8, 8\)"),
    "double": (IMAGE.double(), r"fails on inputs of \(2, 3, 8, 8\) torch.float64"),
    "nan": (spoiled(float("nan")), "the input holds 3 NaN or infinite values"),
    "inf": (spoiled(float("inf")), "the input holds 3 NaN or infinite values"),
    "minus inf": (spoiled(-float("inf")), "the input holds 3 NaN or infinite values"),
    "uint8": ((IMAGE * 100).byte(), r"dtype torch.uint8: .*convert it .*float, normalized"),
    "int64": (
        IMAGE.long(),
        r"inputs of .* torch.int64: .* are torch.float32: are the inputs meant",
    ),
    "uint8 words": ((IMAGE * 100).byte(), r"convert it .*words and categories to int64"),
    "bool": (IMAGE > 0, "dtype torch.bool"),
    "complex": (IMAGE.to(torch.complex64), "dtype torch.complex64"),
    "empty batch": (IMAGE[:0], r"empty batch: shape \(0, 3, 8, 8\)"),
    "number": (torch.tensor(1.0), "no dimensions"),
    "sparse": (IMAGE.to_sparse(), "sparse_coo tensor: pass a dense one"),
    "meta": (IMAGE.to("meta"), "meta tensor: pass a dense one with values"),
    "list": ([IMAGE], "must be a tensor, got list"),
    "words": (IMAGE.numpy().astype(str), "must hold real numbers"),
    "none": (None, "must be a tensor, got NoneType"),
    "string": ("cat.jpg", "must be a tensor, got str"),
    "nothing": ((), "no inputs: pass a tensor or a tuple of tensors"),
    "too many": ((IMAGE, IMAGE), r"fails on inputs of \(2, 3, 8, 8\) .*positional argument"),
    "not all": ((IMAGE, None), "input 1 must be a tensor, got NoneType"),
    "nan in one": ((IMAGE, spoiled(float("nan"))), "input 1 holds 3 NaN"),
    "batch sizes": ((IMAGE, IMAGE[:1]), "have different batch sizes: 2 and 1"),
}


def state_of(model: nn.Module) -> Any:
    """Everything that an explanation might have changed."""
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    modules = [
        (name, module.training, sorted(vars(module)), len(module._forward_hooks))
        for name, module in model.named_modules()
    ]
    return modules, tensors, [id(p) for p in model.parameters()]


def same_state(one: Any, other: Any) -> bool:
    equal = all(torch.equal(one[1][name], other[1][name]) for name in one[1])
    return one[0] == other[0] and one[2] == other[2] and one[1].keys() == other[1].keys() and equal


@pytest.mark.parametrize(("inputs", "words"), INPUTS.values(), ids=INPUTS.keys())
def test_wrong_inputs(inputs: Any, words: str) -> None:
    """Told before anything is computed where possible, else with the model's own words."""
    model = cnn().train()
    before = state_of(model)
    makers: list[Callable[[], Any]] = [
        lambda: LRPFx(model).attribute(inputs, 1),
        lambda: LayerLRPFx(model, "2").attribute(inputs, 1),
        lambda: NeuronLRPFx(model, "5").attribute(inputs, 1),
    ]
    for make in makers:
        with pytest.raises(InputError) as caught:
            make()
        assert_actionable(caught.value, words)
    assert same_state(before, state_of(model))


def test_a_wrong_call_does_not_spoil_the_next() -> None:
    """Nor does a right one make a wrong one pass."""
    lrp = LRPFx(cnn())
    for _ in range(2):
        with pytest.raises(InputError, match="3 channels"):
            lrp.attribute(IMAGE[:, :1], 1)
        right = lrp.attribute(IMAGE, 1)
        with pytest.raises(TargetError):
            lrp.attribute(IMAGE, 5)
        assert torch.equal(lrp.attribute(IMAGE, 1), right)


def test_what_the_model_raised_is_the_cause() -> None:
    """The user's own traceback stays at hand."""

    class Refuses(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("my own failure")

    with pytest.raises(
        InputError, match=r"fails on inputs of \(2, 4\).*KeyError: 'my own failure'"
    ) as e:
        LRPFx(Refuses()).attribute(ROW)
    assert isinstance(e.value.__cause__, KeyError)
    frames = traceback.extract_tb(e.value.__cause__.__traceback__)
    assert frames[-1].filename == __file__
    with pytest.raises(CaptureError, match="my own failure"):
        LRPFx(Refuses()).plan()


def test_additional_arguments_that_the_model_does_not_take() -> None:
    with pytest.raises(InputError, match="positional arguments"):
        LRPFx(cnn()).attribute(IMAGE, 1, (1, 2))


# Outputs


class Returns(nn.Module):
    """A linear layer and what a function makes of its output and of the input."""

    def __init__(self, make: Callable[[Tensor, Tensor], Any], outputs: int = 3) -> None:
        super().__init__()
        self.linear, self.make = nn.Linear(4, outputs), make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.linear(x), x)


class Named(NamedTuple):
    logits: Tensor
    hidden: Tensor


@dataclass
class Record:
    loss: Tensor | None
    logits: Tensor
    others: Any = None


class Cache:
    """An object that nobody looks into, as language models return one."""


CHOICES: dict[str, tuple[Callable[[Tensor, Tensor], Any], Any]] = {
    "dict": (lambda y, x: {"box": -y, "logits": y}, "logits"),
    "tuple": (lambda y, x: (-y, y), 1),
    "from behind": (lambda y, x: (-y, y), -1),
    "list": (lambda y, x: [-y, y], 1),
    "named tuple": (lambda y, x: Named(-y, y), 1),
    "named tuple by name": (lambda y, x: Named(-y, y), "hidden"),
    "dict by index": (lambda y, x: {"box": -y, "logits": y}, 1),
    "dict of numbers": (lambda y, x: {1: y, 0: -y}, 1),
    "dataclass": (lambda y, x: Record(y.sum(), -y, y), "others"),
    "dataclass by index": (lambda y, x: Record(y.sum(), y, -y), 1),
    "nested": (lambda y, x: {"heads": [-y, {"logits": y}]}, ("heads", 1, "logits")),
    "nested dataclass": (lambda y, x: Record(None, -y, Record(None, y)), ("others", "logits")),
    "number beside": (lambda y, x: {"n": 3, "logits": y}, None),
    "tuple of one": (lambda y, x: (y,), None),
}


@pytest.mark.parametrize(("make", "output"), CHOICES.values(), ids=CHOICES.keys())
def test_output_among_several(make: Any, output: Any) -> None:
    """By key or index; not needed where there is only one tensor."""
    model = Returns(make)
    lrp = LRPFx(model, output=output)
    assert torch.equal(lrp.attribute(ROW, 1), LRPFx(model.linear).attribute(ROW, 1))
    notes = [note for note in lrp.plan(ROW).notes if note.startswith("output:")]
    assert notes == ([] if output is None else [f"output: {output!r}"])


DEFAULTS: dict[str, tuple[Callable[[Tensor, Tensor], Any], str]] = {
    "tuple": (lambda y, x: (y, -y), "0"),
    "integers first": (lambda y, x: (y.argmax(1, keepdim=True), y, -y), "1"),
    "numbers first": (lambda y, x: [3, y.sum(), y.sum(1), y, -y], "3"),
    "dict": (lambda y, x: {"scores": y, "boxes": -y}, "'scores'"),
    "named tuple": (lambda y, x: Named(y.sum(), y), "'hidden'"),
    "dataclass": (lambda y, x: Record(y.sum(), y, -y), "'logits'"),
    "nested": (lambda y, x: {"aux": (y.sum(1), [None, y]), "main": -y}, "'aux', 1, 1"),
    "object beside": (lambda y, x: (Cache(), y, -y), "1"),
}


@pytest.mark.parametrize(("make", "place"), DEFAULTS.values(), ids=DEFAULTS.keys())
@pytest.mark.parametrize("capture", ["symbolic", "export", "record"])
def test_output_chosen_by_default(make: Any, place: str, capture: str) -> None:
    """The first floating tensor of two dimensions or more, and the plan says so."""
    model = Returns(make)
    lrp = LRPFx(model, capture=capture)
    torch.testing.assert_close(lrp.attribute(ROW, 1), LRPFx(model.linear).attribute(ROW, 1))
    note = f"output: {place}, the first floating tensor of two dimensions or more"
    assert note in lrp.plan(ROW).notes


def test_the_default_output_needs_a_run() -> None:
    """Without inputs nothing is known of the tensors' shapes; afterwards it is."""
    lrp = LRPFx(Returns(lambda y, x: {"scores": y, "boxes": -y}))
    with pytest.raises(CaptureError) as caught:
        lrp.plan()
    assert_actionable(caught.value, r"2 tensors.*shapes: pass example inputs, plan\(x\)")
    lrp.attribute(ROW, 1)
    assert "output: 'scores'" in str(lrp.plan())
    assert "output: 'boxes'" in str(LRPFx(lrp.forward_func, output="boxes").plan())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda y, x: {"loss": y.sum(), "score": y.sum(1)}, "'loss', 'score'"),
        (lambda y, x: (y.argmax(1, keepdim=True), y.sum(1)), "indices 0 to 1"),
        (lambda y, x: Named(y.sum(1), y.sum()), "'logits', 'hidden'"),
    ],
    ids=["dict", "tuple", "named tuple"],
)
def test_no_output_suits(make: Any, words: str) -> None:
    """Several tensors, and none of them looks like scores."""
    words = rf"2 tensors \((keys )?{words}\), none of them floating .*say which one .*output=\.\.\."
    with pytest.raises(OptionError) as caught:
        LRPFx(Returns(make)).attribute(ROW, 1)
    assert_actionable(caught.value, words)


@pytest.mark.parametrize(
    ("make", "output", "words"),
    [
        (lambda y, x: {"logits": y}, "logit", "has no 'logit'; it has keys 'logits'"),
        (lambda y, x: (y, -y), 2, "has no 2; it has indices 0 to 1"),
        (lambda y, x: (y, -y), "logits", "has no 'logits'; it has indices 0 to 1"),
        (lambda y, x: y, 0, "has no 0; it has one tensor"),
        (lambda y, x: {"n": 3, "logits": y}, "n", "'n' is not a tensor but int"),
        (lambda y, x: {"heads": (y, -y)}, "heads", "'heads' is not a tensor but tuple"),
        (lambda y, x: {"heads": (y, -y)}, ("heads", 2), "has no 2; it has indices 0 to 1"),
        (lambda y, x: Record(None, y), "logit", "has no 'logit'; it has keys 'loss', 'logits'"),
    ],
    ids=[
        *("key", "index", "key of a tuple", "index of a tensor", "number"),
        *("a tuple", "nested index", "field"),
    ],
)
def test_output_that_is_not_there(make: Any, output: Any, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        LRPFx(Returns(make), output=output).attribute(ROW, 1)
    assert_actionable(caught.value, words)


NO_RELEVANCE: dict[str, tuple[Callable[[Tensor, Tensor], Any], str]] = {
    "constant": (lambda y, x: torch.ones(2, 3), "does not depend on the explained inputs"),
    "shape only": (lambda y, x: torch.ones_like(y), "does not depend on the explained inputs"),
    "nothing": (lambda y, x: None, "returns no tensor but None"),
    "number": (lambda y, x: 3.0, "returns no tensor but 3.0"),
    "empty": (lambda y, x: {}, "returns no tensor"),
    "one for the batch": (lambda y, x: y.sum(), "one number for the whole batch"),
    "mean over the batch": (lambda y, x: y.mean(0), r"shape \(3,\) .*(first|batch)"),
}


@pytest.mark.parametrize(("make", "words"), NO_RELEVANCE.values(), ids=NO_RELEVANCE.keys())
@pytest.mark.parametrize("target", [None, 0])
def test_output_that_cannot_be_explained(make: Any, words: str, target: Any) -> None:
    with pytest.raises((InputError, TargetError)) as caught:
        LRPFx(Returns(make)).attribute(ROW, target)
    if isinstance(caught.value, TargetError):  # a target for an output without classes
        words = "the output's first one is the batch"
    assert_actionable(caught.value, words)


def test_output_without_a_batch_dimension() -> None:
    """With one sample as with several: nothing says which dimension is whose."""
    model = Returns(lambda y, x: y[0])
    with pytest.raises(InputError, match=r"shape \(3,\) for a batch of 2: its first dimension"):
        LRPFx(model).attribute(ROW)
    with pytest.raises(TargetError, match="first one is the batch"):
        LRPFx(model).attribute(ROW[:1], 1)


def test_output_that_is_still_to_come() -> None:
    """Captum's models with a ``Future``: an error of ours, though its LRP does not take them either."""
    basic_models = pytest.importorskip("captum.testing.helpers.basic_models")  # not in captum 0.8
    with pytest.raises(CaptureError, match="returns more than tensors and plain values"):
        LRPFx(basic_models.BasicModel_MultiLayer_with_Future()).attribute(ROW[:, :3], 1)


def test_output_of_integers() -> None:
    with pytest.raises(InputError, match=r"'argmax' .*positions, which carry no relevance"):
        LRPFx(Returns(lambda y, x: y.argmax(1))).attribute(ROW)


def test_input_that_the_output_does_not_read() -> None:
    """One of several: it has no relevance, which is the truth."""

    class Ignores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.linear(x)

    x, y = LRPFx(Ignores()).attribute((ROW, ROW), 1)
    assert float(x.abs().max()) > 0
    assert torch.equal(y, torch.zeros_like(ROW))


# Models


class FunctionalDropout(nn.Module):
    """Forgets ``training=self.training``."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 50)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.linear(x))


def test_random_functional_dropout() -> None:
    """The error names it, its line, and the remedy."""
    for _ in range(3):  # whatever the dice
        with pytest.raises(CaptureError) as caught:
            LRPFx(FunctionalDropout()).attribute(ROW, 1)
        assert_actionable(
            caught.value,
            r"(random|active) in eval mode.*test_bad_input\.py:\d+.*training=self\.training",
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda y, x: y + torch.randn(50),
        lambda y, x: y * torch.rand_like(y),
        lambda y, x: torch.bernoulli(y.sigmoid()) * y,
        lambda y, x: F.rrelu(y, training=True),
    ],
    ids=["randn", "rand_like", "bernoulli", "rrelu"],
)
def test_random_models(make: Any) -> None:
    with pytest.raises(CaptureError, match=r"(random|random numbers) in eval mode"):
        LRPFx(Returns(make, 50)).attribute(ROW, 1)


def test_batch_norm_that_mixes_samples() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(CaptureError, match=r"batch norm in module '1' has no running statistics"):
        LRPFx(model).attribute(ROW, 1)


def test_lazy_modules_are_not_filled() -> None:
    """Running even a copy would give the user's parameters their values."""
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(InputError, match=r"'0.weight' has no values yet .*run the model once"):
        LRPFx(model).attribute(ROW, 1)
    assert isinstance(model[0], nn.LazyLinear)
    assert model[0].has_uninitialized_params()
    model(ROW)
    assert LRPFx(model).attribute(ROW, 1).shape == ROW.shape


def test_scripted_model() -> None:
    """It has no Python to read: what it executes is recorded, and a plan without inputs says why not."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that scripting is deprecated
        scripted = torch.jit.script(model)
    x, head = ROW.double(), nn.Linear(3, 2).double()
    for mine, plain in (
        (scripted, model),
        (nn.Sequential(scripted, head), nn.Sequential(model, head)),
    ):
        torch.testing.assert_close(LRPFx(mine).attribute(x, 1), LRPFx(plain).attribute(x, 1))
    with pytest.raises(CaptureError) as caught:
        LRPFx(scripted).plan()
    assert_actionable(caught.value, "scripted module .*pass the model from before torch.jit")


def test_graph_module_is_a_model_like_any_other() -> None:
    """Feature extractors of torchvision are such."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    traced = torch.fx.symbolic_trace(model)
    assert torch.equal(LRPFx(traced).attribute(ROW, 1), LRPFx(model).attribute(ROW, 1))


@pytest.mark.parametrize("model", [lambda x: x, None, "resnet18", nn.Linear, [nn.Linear(4, 3)]])
def test_things_that_are_no_models(model: Any) -> None:
    with pytest.raises(OptionError, match=r"the model must be a torch\.nn\.Module, got \w+"):
        LRPFx(model)
    with pytest.raises(OptionError, match=r"the model must be a torch\.nn\.Module, got \w+"):
        LayerLRPFx(model, "0")
    with pytest.raises(OptionError, match=r"the model must be a torch\.nn\.Module, got \w+"):
        NeuronLRPFx(model, "0")


@pytest.mark.parametrize("model", [nn.Module(), nn.ModuleList([nn.Linear(4, 3)])], ids=repr)
def test_modules_without_a_forward(model: nn.Module) -> None:
    with pytest.raises(InputError, match='missing the required "forward"'):
        LRPFx(model).attribute(ROW, 1)


def test_weights_that_are_not_finite() -> None:
    """The layer whose values are not finite is named."""
    model = cnn()
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match=r"own forward pass yields NaN or infinity in .*'0'\)"):
        LRPFx(model).attribute(IMAGE, 1)


# Train mode


def in_train_mode() -> nn.Sequential:
    model = cnn()
    model(IMAGE * 3)
    return model.train()


@pytest.mark.parametrize("capture", ["symbolic", "export"])
def test_model_in_train_mode_is_explained_as_in_eval_mode(capture: str) -> None:
    """And stays in train mode, its running statistics as they were."""
    model = in_train_mode()
    before = state_of(model)
    mine = LRPFx(model, capture=capture).attribute(IMAGE, 1)
    assert same_state(before, state_of(model))
    assert torch.equal(mine, LRPFx(model, capture=capture).attribute(IMAGE, 1))
    model.eval()
    assert torch.equal(mine, LRPFx(model, capture=capture).attribute(IMAGE, 1))


def test_switching_between_train_and_eval_changes_nothing() -> None:
    model = in_train_mode()
    lrp = LRPFx(model)
    first = lrp.attribute(IMAGE, 1)
    model.eval()
    assert torch.equal(lrp.attribute(IMAGE, 1), first)
    model[1].train()
    assert torch.equal(lrp.attribute(IMAGE, 1), first)
    assert [module.training for module in model] == [False, True, *[False] * 5]


def test_training_goes_on_between_explanations() -> None:
    """An optimizer made before steps the same parameters, and the next map is of the new ones."""
    model = in_train_mode()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    lrp = LRPFx(model)
    before = lrp.attribute(IMAGE, 1)
    model(IMAGE).square().sum().backward()
    optimizer.step()
    after = lrp.attribute(IMAGE, 1)
    assert not torch.equal(before, after)
    assert torch.equal(after, LRPFx(model).attribute(IMAGE, 1))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_are_refused() -> None:
    with pytest.raises(InputError, match="is a nested tensor: pass a dense one"):
        LRPFx(nn.Linear(4, 2)).attribute(torch.nested.nested_tensor([torch.rand(4)]), 0)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_arguments_without_plain_values_are_refused() -> None:
    """In a plan and beside the inputs too, where no value is explained."""
    model, x = nn.Linear(4, 2), torch.rand(2, 4)
    with pytest.raises(InputError, match="is a meta tensor: pass a dense one"):
        LRPFx(model).plan(x.to("meta"))
    nested = torch.nested.nested_tensor([torch.rand(4)])
    with pytest.raises(InputError, match="is a nested tensor: pass a dense one"):
        LRPFx(model).attribute(x, 0, additional_forward_args=(nested,))


def test_models_without_values_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)).eval()
    model[1].running_mean = model[1].running_mean.to("meta")  # type: ignore[union-attr, operator, assignment]
    with pytest.raises(InputError, match=r"'1\.running_mean' has no values"):
        LRPFx(model).attribute(torch.rand(2, 4), 0)
