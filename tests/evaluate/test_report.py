"""A whole evaluation: its checks, its statistics, and what is written."""

from __future__ import annotations

import csv
import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest
import torch
from captum.attr import Saliency
from torch import Tensor

from lrp_fx import LRPFx
from lrp_fx.errors import InputError, OptionError, RunError, TargetError
from lrp_fx.evaluate import (
    SRG,
    Blur,
    Bootstrap,
    Explainer,
    MaxSensitivity,
    Mean,
    Patches,
    Report,
    Sparseness,
    evaluate,
    explain_with,
)
from lrp_fx.evaluate.metric import relevance_of
from tests.evaluate.helpers import images, small_network

TARGETS = torch.tensor([0, 3, 1])
BY_RELEVANCE = {"metrics": [Sparseness()]}


@dataclass(frozen=True)
class Given:
    """Scores that are given."""

    scores: tuple[float, ...] = (1.0, 2.0, 6.0)
    name: str = "given"
    higher_is_better: bool = False

    def __call__(self, forward, explain, inputs: Tensor, targets: Tensor) -> Tensor:
        return explain(inputs, targets).flatten(1)[:, 0].double() * torch.tensor(self.scores)


def once(x: Tensor, targets: Tensor) -> Tensor:
    return torch.ones_like(x)


def twice(x: Tensor, targets: Tensor) -> Tensor:
    return 2 * torch.ones_like(x)


def only_three(x: Tensor, targets: Tensor) -> Tensor:
    """A method that fails for inputs that it has not seen."""
    return x / (1 if torch.equal(x, images()) else 1 // 0)


def only_one(x: Tensor) -> Tensor:
    """A model that fails for larger batches."""
    return small_network()(x) / (1 if len(x) == 1 else 1 // 0)


class Broken:
    """An imputer that fails."""

    def __call__(self, x: Tensor, masks: Tensor) -> Tensor:
        raise KeyError("broken")


def report(**settings) -> Report:
    methods = {"once": once, "twice": twice}
    return evaluate(small_network(), methods, [Given()], images(), TARGETS, **settings)


def test_means_and_paired_differences() -> None:
    made = report()
    one, two = (made.table()[name, "given"] for name in ("once", "twice"))
    assert (one.mean, two.mean, one.count) == (3, 6, 3)
    assert one.standard_error == pytest.approx(torch.tensor([1.0, 2, 6]).std().item() / 3**0.5)
    assert 1 <= one.low < one.mean < one.high <= 6
    difference = made.differences("once")
    assert list(difference.cells) == [("twice", "given")]
    assert difference["twice", "given"] == made.bootstrap.estimate(torch.tensor([1.0, 2, 6]))
    with pytest.raises(OptionError, match="reference"):
        made.differences("thrice")


def test_bootstrap_is_that_of_the_twin() -> None:
    """Percentiles of the means of samples drawn with replacement, for any seed nearly the same."""
    scores = torch.randn(40, dtype=torch.float64)
    found = Bootstrap(resamples=4000).estimate(scores)
    means = sorted(float(scores[torch.randint(40, (40,))].mean()) for _ in range(4000))
    spread = float(scores.std()) / 40**0.5
    assert found.low == pytest.approx(means[100], abs=0.15 * spread)
    assert found.high == pytest.approx(means[3900], abs=0.15 * spread)
    assert Bootstrap(seed=1).estimate(scores) != Bootstrap().estimate(scores)
    assert Bootstrap().estimate(scores) == Bootstrap().estimate(scores)
    same = Bootstrap().estimate(torch.full((5,), 0.5))
    assert (same.low, same.mean, same.high) == (0.5, 0.5, 0.5)
    assert Bootstrap().estimate(torch.tensor([2.0])).text() == "2.000"


def test_every_output_states_the_settings(tmp_path: Path) -> None:
    model, x = small_network(), images()
    metrics = [SRG(regions=Patches(3), imputer=each, steps=3, seed=7) for each in (Blur(2), Mean())]
    made = evaluate(
        model, {"lrp": Explainer(LRPFx, model)}, metrics, x, TARGETS, samples=["a", "b", "c"]
    )
    markdown = made.table().to_markdown()
    for text in (str(made.table()), markdown, "\n".join(made.notes())):
        for part in ("seed=7", "Blur(sigma=2)", "Mean()", "2000 bootstrap", "seed 0"):
            assert part in text
    assert "↑" in str(made.table())
    made.to_csv(tmp_path / "scores.csv")
    for write in (made.to_csv, made.to_parquet):
        with pytest.raises(OptionError, match="path must be a file, got 3"):
            write(3)  # type: ignore[arg-type]
    with open(tmp_path / "scores.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["sample"] for row in rows] == ["a", "b", "c"] * 2
    assert rows[3]["settings"] == repr(metrics[1])
    found = [float(row["score"]) for row in rows[:3]]
    assert found == made.scores["lrp", metrics[0].name].tolist()
    assert float(rows[0]["seconds_per_explanation"]) > 0
    figure = made.figure()
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        f"{metric.name} ↑" for metric in metrics
    ]
    assert "Blur(sigma=2)" in figure.get_supxlabel()
    one = evaluate(model, {"lrp": explain_with(LRPFx(model))}, metrics[:1], x, TARGETS)
    assert "One imputer only" in str(one.table())
    assert "One imputer only" not in markdown


def test_parquet_or_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(OptionError, match="pip install pyarrow"):
            report().to_parquet(tmp_path / "scores.parquet")
    parquet = pytest.importorskip("pyarrow.parquet")
    report().to_parquet(tmp_path / "scores.parquet")
    table = parquet.read_table(tmp_path / "scores.parquet")
    assert table["score"].to_pylist() == [1, 2, 6, 2, 4, 12]
    assert table.schema.metadata[b"bootstrap"] == repr(Bootstrap()).encode()


def test_maps_are_computed_once(tmp_path: Path) -> None:
    """All metrics share the maps of the inputs; one more batch is there to measure the time."""
    sizes = []

    def explain(x: Tensor, targets: Tensor) -> Tensor:
        sizes.append(len(x))
        return x

    steps = []
    evaluate(
        small_network(),
        {"counted": explain},
        [SRG(regions=Patches(3), imputer=Mean()), Sparseness()],
        images(),
        TARGETS,
        batch_size=2,
        progress=lambda *step: steps.append(step),
    )
    assert sizes == [2, 1, 2]
    assert [(done, total) for done, total, _ in steps] == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_captum_methods_and_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """Captum's warnings about gradients do not appear (warnings are errors here)."""
    model = small_network()
    made = evaluate(
        model,
        {"saliency": explain_with(Saliency(model))},
        [Sparseness()],
        images(),
        TARGETS,
        progress=True,
    )
    x = images().requires_grad_()
    expected = Saliency(model).attribute(x, target=TARGETS)
    assert torch.equal(explain_with(Saliency(model))(images(), TARGETS), expected)
    signed = Saliency(model).attribute(x, target=TARGETS, abs=False)
    assert torch.equal(explain_with(Saliency(model), abs=False)(images(), TARGETS), signed)
    assert made.scores["saliency", "sparseness"].shape == (3,)


@pytest.mark.parametrize(
    ("change", "error", "part"),
    [
        ({"methods": {}}, OptionError, "at least one"),
        ({"metrics": [Given(), Given()]}, OptionError, "'given'"),
        ({"methods": {"x": 3}}, OptionError, "callable"),
        ({"methods": [once]}, OptionError, "methods must be a dict"),
        ({"metrics": Given()}, OptionError, "metrics must be a list"),
        ({"metrics": [len]}, OptionError, "have a name"),
        ({"metrics": [Sparseness]}, OptionError, "have a name"),
        ({"forward": 3}, OptionError, "forward must be callable"),
        ({"targets": torch.tensor([0.0, 1.0, 2.0])}, TargetError, "integers"),
        ({"targets": ["a", "b", "c"]}, TargetError, "integers"),
        ({"targets": torch.tensor([0, 1])}, TargetError, "integers"),
        ({"targets": torch.tensor([0, 1, 4])}, TargetError, "between 0 and 3"),
        ({"inputs": torch.tensor(1.0)}, InputError, "at least one sample"),
        ({"forward": small_network().train()}, InputError, r"model.eval\(\)"),
        ({"inputs": images().long()}, InputError, "the model failed with RuntimeError"),
        ({"samples": ["a"]}, OptionError, "3 samples"),
        ({"samples": "abc"}, OptionError, "3 samples"),
        ({"samples": 3}, OptionError, "3 samples"),
        ({"samples": [1, 2, 3]}, OptionError, "3 samples"),
        ({"bootstrap": 500}, OptionError, "bootstrap must be a Bootstrap"),
        ({"progress": "bar"}, OptionError, "progress must be"),
        ({"methods": {1: once}}, OptionError, "name of a method"),
        ({"methods": {"x": lambda x: x}}, InputError, "method 'x': it failed with TypeError"),
        ({**BY_RELEVANCE, "methods": {"x": lambda x, t: x.to("meta")}}, InputError, "without data"),
        ({**BY_RELEVANCE, "methods": {"x": lambda x, t: x.to_sparse()}}, InputError, "sparse_coo"),
        ({"methods": {"x": only_three}, "metrics": [MaxSensitivity()]}, InputError, "'x'.*Zero"),
        ({"forward": only_one, "metrics": [SRG(regions=Patches(4))]}, InputError, "SRG.*Zero"),
        ({"metrics": [SRG(imputer=Broken(), regions=Patches(4))]}, InputError, "SRG.*broken"),
        ({"metrics": [Given((1.0, float("nan"), 2.0))]}, OptionError, "method 'once'"),
        ({"metrics": [SRG(regions=Patches(20))]}, InputError, "SRG.*'once'.*20 × 20"),
    ],
)
def test_mistakes_are_one_sentence(change, error, part: str) -> None:
    arguments = {
        "forward": small_network(),
        "methods": {"once": once},
        "metrics": [Given()],
        "inputs": images(),
        "targets": TARGETS,
        **change,
    }
    with pytest.raises(error, match=part):
        evaluate(**arguments)


def test_a_method_reads_the_weights_of_its_model_anew() -> None:
    model, x = small_network(), images()
    explain = Explainer(LRPFx, model)
    before = explain(x, TARGETS)
    other = small_network()
    with torch.no_grad():
        other[5].weight.mul_(-1)
    assert not torch.equal(explain.on(other)(x, TARGETS), before)
    assert torch.equal(explain(x, TARGETS), before)


def test_a_method_and_a_model_may_write_to_their_inputs() -> None:
    """Neither changes what later methods and metrics see, nor what the user passed."""

    def model(x: Tensor) -> Tensor:
        logits = x.flatten(1)[:, :4].clone()
        x.zero_()
        return logits

    def wild(x: Tensor, targets: Tensor) -> Tensor:
        x.zero_()
        targets.zero_()
        return torch.ones_like(x)

    def same(x: Tensor, targets: Tensor) -> Tensor:
        return x * targets[:, None, None, None]

    @dataclass(frozen=True)
    class Spoiling(Given):
        def __call__(self, forward, explain, inputs: Tensor, targets: Tensor) -> Tensor:
            forward(inputs.clone())
            explain(inputs, targets).zero_()
            explain(inputs.double(), targets)
            inputs.zero_()
            return torch.zeros(3)

    x, targets = images(), TARGETS.clone()
    metrics = [Spoiling(name="spoiling"), SRG(regions=Patches(2), imputer=Mean()), Given()]
    made = evaluate(model, {"wild": wild, "same": same}, metrics, x, targets)
    assert torch.equal(x, images())
    assert torch.equal(targets, TARGETS)
    expected = (same(x, targets).flatten(1)[:, 0] * torch.tensor(Given().scores)).double()
    torch.testing.assert_close(made.scores["same", "given"], expected)
    relevance_of(wild, x, targets)
    assert torch.equal(x, images())


def test_a_part_of_the_model_in_train_mode_is_an_error() -> None:
    model = small_network()
    model[1].train()
    with pytest.raises(InputError, match="a part of it is in train mode"):
        evaluate(model, {"once": once}, [Given()], images(), TARGETS)


@pytest.mark.parametrize(
    "targets", [TARGETS.tolist(), TARGETS.numpy(), TARGETS.int()], ids=["list", "NumPy", "int32"]
)
def test_targets_of_other_kinds(targets) -> None:
    made = evaluate(small_network(), {"once": once}, [Given()], images(), targets)
    assert made.scores["once", "given"].tolist() == [1, 2, 6]


@pytest.mark.parametrize("kind", [list, numpy.array], ids=str)
def test_scores_of_other_kinds(kind) -> None:
    @dataclass(frozen=True)
    class Other(Given):
        def __call__(self, *arguments) -> object:
            return kind([1.0, 2.0, 6.0])

    made = evaluate(small_network(), {"once": once}, [Other()], images(), TARGETS)
    assert made.scores["once", "given"].tolist() == [1, 2, 6]


def test_shapes_of_relevance() -> None:
    """A missing dimension is told from the shape only where the shape tells it."""

    def shape(wanted: tuple[int, ...], found: tuple[int, ...]) -> tuple[int, ...]:
        return relevance_of(lambda x, t: torch.ones(found), torch.ones(wanted), TARGETS).shape

    assert shape((3, 2, 4, 5), (3, 1, 4, 5)) == shape((3, 2, 4, 5), (3, 4, 5)) == (3, 1, 4, 5)
    assert shape((3, 4, 5), (3, 4)) == shape((3, 4, 5), (3, 4, 1)) == (3, 4, 1)
    assert shape((3, 4, 4), (3, 1, 4)) == (3, 1, 4)
    for wanted, found in (((3, 5), (3, 1)), ((3, 4, 5), (3, 5)), ((3, 2, 4, 5), (3, 2))):
        with pytest.raises(InputError, match="relevance of shape"):
            shape(wanted, found)
    with pytest.raises(InputError, match="either dimension"):
        shape((3, 4, 4), (3, 4))
    with pytest.raises(InputError, match="complex"):
        relevance_of(lambda x, t: x * 1j, images(), TARGETS)


def test_estimates_of_lists() -> None:
    tensor = torch.tensor([1.0, 2.0, 6.0])
    assert Bootstrap().estimate([1, 2, 6]) == Bootstrap().estimate(tensor)
    assert Bootstrap().difference([2, 3, 7], [1, 1, 1]) == Bootstrap().estimate([1, 2, 6])
    for scores in ([], [[1.0]], ["a"], [1.0, float("nan")]):
        with pytest.raises(InputError, match="scores"):
            Bootstrap().estimate(scores)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_full_disk_leaves_the_old_scores(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"scores.{ending}"
    path.write_text("old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="the disk is full"):
        getattr(report(), f"to_{ending}")(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]
