"""The rule search on models whose best rules are known."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import Composite, LRPFx, search
from lrp_fx.attribution import cache
from lrp_fx.composites import PRESETS, EpsilonPlus, convolution, dense
from lrp_fx.errors import InputError, OptionError, TargetError
from lrp_fx.evaluate import (
    Candidate,
    Explain,
    FailedTrial,
    Forward,
    PointingGame,
    RelevanceShare,
    SearchResult,
    Space,
    Trial,
)
from lrp_fx.evaluate.candidates import Given, Layout, point_of, presets, propose
from lrp_fx.evaluate.cost import relative_cost
from lrp_fx.evaluate.quantus import QuantusMetric
from lrp_fx.evaluate.study import Study
from lrp_fx.evaluate.trials import best_of, front_of
from lrp_fx.rules import (
    FULL,
    ZERO,
    AlphaBeta,
    Branch,
    Epsilon,
    GeneralizedGamma,
    Group,
    LinearRule,
    Part,
    Table,
    ZBox,
    ZPlus,
)
from tests.helpers.numbers import numbers

SAMPLES = 12


def small_cnn() -> nn.Sequential:
    torch.manual_seed(3)
    layers: list[nn.Module] = []
    for inside, outside in ((1, 4), (4, 4), (4, 4), (4, 4), (4, 4)):
        layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(4 * 36, 8), nn.ReLU(), nn.Linear(8, 3)]
    return nn.Sequential(*layers).double().eval()


MODEL, X = small_cnn(), numbers(SAMPLES, 1, 6, 6)
T = MODEL(X).argmax(1)
TRUTH = Composite([(convolution, GeneralizedGamma(0.6)), (dense, Epsilon())])
TRUE = LRPFx(MODEL, TRUTH)
NARROW = Space(
    rules=("gamma",),
    depths=1,
    dense=("epsilon",),
    first=("same",),
    starts=("logit",),
    top_k=(1.0,),
    gamma=(0.1, 2.0),
    eps=(1e-6, 1e-6),
)


@dataclass(frozen=True)
class LikeTruth:
    """The cosine between a map and the map of the rules that count as the truth."""

    name: ClassVar[str] = "likeness"
    higher_is_better: ClassVar[bool] = True
    calls: list[str] = field(default_factory=list, compare=False, repr=False)

    def __call__(
        self, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        self.calls.append("call")
        truth = TRUE.attribute(inputs, targets).flatten(1)
        return torch.cosine_similarity(explain(inputs, targets).flatten(1), truth)


def searched(metric: Any = None, **options: Any) -> SearchResult:
    options = {"trials": 8, "space": NARROW, **options}
    return search(MODEL, X, T, metric or LikeTruth(), **options)


@dataclass(frozen=True)
class Wild(LinearRule):
    def table(self) -> Table:
        return (Group((Branch(FULL, Part(math.inf, 1), ZERO),)),)


@pytest.fixture
def few_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each preset takes time, and what is tested holds for any number."""
    few = {name: PRESETS[name] for name in ("z_plus", "epsilon_plus")}
    monkeypatch.setattr("lrp_fx.evaluate.candidates.PRESETS", few)
    module = sys.modules["lrp_fx.evaluate.search"]
    monkeypatch.setattr(module, "relative_cost", lambda *arguments: 1.0)


@pytest.fixture(scope="module")
def found() -> SearchResult:
    return searched()


def test_the_search_finds_the_rules_and_beats_every_preset(found: SearchResult) -> None:
    """On the held-out samples, paired: γ 0.6 lies far from all presets."""
    assert not found.failed
    assert len(found.trials) == 8 + len(found.held_out.methods) - _proposed(found)
    presets = [name for name in found.held_out.methods if not name.startswith("trial")]
    assert {"epsilon_plus", "z_plus", "epsilon", "zero"} <= set(presets)
    assert found.best.name.startswith("trial")
    assert found.chosen.name.startswith("trial")
    for name in presets:
        assert found.differences().cells[name, "likeness"].mean < 0
    ((_, _), (_, rule), _) = found.best.composite.assignments
    assert isinstance(rule, GeneralizedGamma)
    assert 0.4 < rule.gamma < 0.9


def _proposed(found: SearchResult) -> int:
    return sum(name.startswith("trial") for name in found.held_out.methods)


def test_the_held_out_scores_are_those_of_samples_the_search_did_not_see(
    found: SearchResult,
) -> None:
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(0))
    unseen, seen = order[:6], order[6:]
    explain = found.best.attribution(MODEL).attribute
    expected = LikeTruth()(MODEL, explain, X[unseen], T[unseen])
    scores = found.held_out.scores[found.best.name, "likeness"]
    torch.testing.assert_close(scores, expected)
    score = LikeTruth()(MODEL, explain, X[seen], T[seen]).mean().item()
    assert found.trial(found.best.name).score == pytest.approx(score)


@pytest.mark.parametrize("place", [0, -1])
def test_the_printed_code_makes_the_same_map(found: SearchResult, place: int) -> None:
    candidate = found.candidates[place]
    names: dict[str, Any] = {"model": MODEL}
    exec(candidate.code, names)
    assert torch.equal(names["lrp"].attribute(X, T), candidate.attribution(MODEL).attribute(X, T))


def test_code_of_every_choice_makes_the_same_map() -> None:
    """Bounds as tensors, filter and start, and each kind of rule."""
    space = Space(bounds=(torch.tensor([-4.0]).double(), 4.0))
    layout = Layout.of(LRPFx(MODEL).plan(X), 3)
    parts = dict(layout.parts)
    assert list(parts) == ["early convolutions", "middle convolutions", "late convolutions"]
    values: dict[str, str | float] = {
        "first": "box",
        "early convolutions: rule": "alpha_beta",
        "early convolutions: alpha": 1.2345678,
        "middle convolutions: rule": "gamma",
        "middle convolutions: gamma": 0.123456,
        "late convolutions: rule": "epsilon",
        "late convolutions: eps": 0.01,
        "dense: rule": "z_plus",
        "start": "one_hot",
        "top_k": "0.5",
        "filter_by": "value",
    }
    candidate = propose(space, layout, Given(values), "mine")
    rules = [rule for _, rule in candidate.composite.assignments]
    assert rules[1:] == [Epsilon(1e-6), GeneralizedGamma(0.123), Epsilon(0.01), ZPlus()]
    assert isinstance(rules[0], ZBox)  # and so the early third, one operation, needs no rule
    same = propose(space, layout, Given({**values, "first": "same"}), "mine")
    assert [rule for _, rule in same.composite.assignments][1] == AlphaBeta(1.23, 0.23)
    assert candidate.options == {"start": "one_hot", "top_k": 0.5}
    names: dict[str, Any] = {"model": MODEL}
    exec(candidate.code, names)
    assert torch.equal(names["lrp"].attribute(X, T), candidate.attribution(MODEL).attribute(X, T))


def test_depths_are_counted_in_linear_operations() -> None:
    """Five convolutions lie behind 0 … 4 linear operations; the thirds begin behind 1 and 3."""
    plan = LRPFx(MODEL).plan(X)
    assert Layout.of(plan, 3) == Layout((1, 3), dense=True, attention=False)
    assert Layout.of(plan, 2).ends == (2,)
    assert Layout.of(plan, 9).ends == (1, 2, 3, 4)
    assert [matcher.text for _, matcher in Layout.of(plan, 2).parts] == [
        "convolution & first(2)",
        "convolution",
    ]
    last_only = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).double().eval()
    assert Layout.of(LRPFx(last_only).plan(X), 3) == Layout(None, dense=False, attention=False)


def test_presets_lie_in_the_space_where_it_says() -> None:
    """What the sampler learns from a preset is the score of that point."""
    space = Space(bounds=(-4.0, 4.0))
    layout = Layout.of(LRPFx(MODEL).plan(X), space.depths)
    placed = []
    for preset in presets(space, layout):
        point = point_of(preset.name, space, layout)
        if not point or preset.name == "z_plus":  # z⁺ at the last layer too
            continue
        placed.append(preset.name)
        near = propose(space, layout, Given(point), preset.name).attribution(MODEL)
        expected = preset.attribution(MODEL).attribute(X, T)
        torch.testing.assert_close(near.attribute(X, T), expected, rtol=1e-9, atol=1e-9)
    assert {"epsilon", "epsilon_plus", "epsilon_plus_flat", "epsilon_gamma_box"} <= set(placed)
    assert point_of("epsilon_plus", NARROW, layout) == {}


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.head = nn.Linear(6, 18), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        weights = (q @ k.transpose(1, 2) / 6**0.5).softmax(-1)
        return self.head((weights @ v).mean(1))  # type: ignore[no-any-return]


def test_models_with_attention_choose_its_rules() -> None:
    model, x = Attention().double().eval(), X.squeeze(1)
    layout = Layout.of(LRPFx(model).plan(x), 3)
    assert layout == Layout(None, dense=True, attention=True)
    names = [preset.name for preset in presets(Space(), layout)]
    assert {"attn_lrp", "cp_lrp"} <= set(names)
    values: dict[str, str | float] = {"first": "same", "start": "logit", "top_k": "1.0"}
    values |= {"dense: rule": "epsilon", "dense: eps": 1e-6}
    t = model(x).argmax(1)
    for name in ("attn_lrp", "cp_lrp"):
        made = propose(Space(), layout, Given({**values, "attention": name}), name)
        expected = LRPFx(model, name).attribute(x, t)
        assert torch.equal(made.attribution(model).attribute(x, t), expected)
    assert "attn_lrp" not in [
        preset.name for preset in presets(Space(), Layout.of(LRPFx(MODEL).plan(X), 3))
    ]


@pytest.mark.usefixtures("few_presets")
def test_the_model_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    own = cache.read

    def counted(*arguments: object) -> object:
        reads.append("read")
        return own(*arguments)

    monkeypatch.setattr(cache, "read", counted)

    @dataclass(frozen=True)
    class Size(LikeTruth):
        def __call__(self, forward: Forward, explain: Explain, x: Tensor, t: Tensor) -> Tensor:
            return explain(x, t).flatten(1).abs().sum(1)

    searched(Size(), trials=2)
    assert len(reads) == 1


@pytest.mark.usefixtures("few_presets")
def test_a_search_goes_on_where_it_stopped(tmp_path: Path) -> None:
    file, metric = tmp_path / "search.db", LikeTruth()
    before = searched(metric, trials=2, storage=file)
    first_calls = len(metric.calls)
    after = searched(metric, trials=4, storage=file)
    judged = len(after.held_out.methods)
    assert len(metric.calls) - first_calls == 2 + judged
    assert len(after.trials) == len(before.trials) + 2
    for old, new in zip(before.trials, after.trials, strict=False):
        assert (old.candidate.code, old.score) == (new.candidate.code, new.score)
    proposals = [trial.candidate.code for trial in after.trials[-4:]]
    assert len(set(proposals)) == 4


@pytest.mark.usefixtures("few_presets")
def test_an_interrupted_search_goes_on(tmp_path: Path) -> None:
    """The trial that was interrupted, here a preset, is tried again."""
    file = tmp_path / "search.db"

    class Interrupted(list[str]):
        def append(self, call: str) -> None:
            if len(self) == 2:
                raise KeyboardInterrupt
            super().append(call)

    with pytest.raises(KeyboardInterrupt):
        searched(LikeTruth(calls=Interrupted()), trials=1, storage=file)
    after = searched(trials=1, storage=file)
    names = [trial.candidate.name for trial in after.trials]
    assert len(names) == len(set(names))
    complete = {trial.candidate.name for trial in searched(trials=1).trials if _is_preset(trial)}
    assert {name for name in names if not name.startswith("trial")} == complete


def study(storage: Path, searched: str = "this") -> Study:
    options = {"higher_is_better": True, "fixed": {"one": {}, "two": {}}, "seed": 2**32}
    return Study(storage, {"model": searched}, **options)  # type: ignore[arg-type]


def test_searches_begin_at_once_in_one_file(tmp_path: Path) -> None:
    """One makes the tables, the others wait for it, and one that searches something else is refused."""
    begin = Barrier(3)

    def joined(searched: str) -> Study | OptionError:
        begin.wait()
        try:
            return study(tmp_path / "search.db", searched)
        except OptionError as error:
            return error

    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(joined, ["this", "that", "this"]))
    refused = [each for each in made if isinstance(each, OptionError)]
    assert refused
    assert all("differs in: model" in str(error) for error in refused)
    (first, *_) = (each for each in made if isinstance(each, Study))
    assert [first.ask().fixed for _ in range(3)] == ["one", "two", None]


def test_a_candidate_that_two_searches_tried_counts_once(tmp_path: Path) -> None:
    file = tmp_path / "search.db"
    one = study(file)
    running = one.ask()
    other = study(file)
    again = [other.ask(), other.ask()]
    assert sorted(str(each.fixed) for each in (running, *again)) == ["one", "one", "two"]
    for each in (running, *again):
        with each.running() as values:
            values += [1.0, 1.0]
    assert sorted(str(outcome.fixed) for outcome in other.outcomes()) == ["one", "two"]


@dataclass(frozen=True)
class Set(LikeTruth):
    """A metric with settings that its ``repr`` does not show."""

    model: nn.Module | None = field(default=None, repr=False)
    weights: Tensor | None = field(default=None, repr=False)
    reduce: Any = field(default=None, repr=False)


class Scaled(nn.Module):
    """A model that a plain number decides on."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.inner, self.settings = MODEL, SimpleNamespace(scale=scale)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.settings.scale  # type: ignore[no-any-return]


@pytest.mark.usefixtures("few_presets")
def test_every_setting_of_the_metric_counts(tmp_path: Path) -> None:
    """Tensors, models and functions, also those that the repr hides."""
    file = tmp_path / "search.db"

    def given(change: float = 0.0, by: float = 1.0) -> Set:
        model = nn.Linear(2, 2)
        model.load_state_dict({"weight": torch.eye(2) + change, "bias": torch.zeros(2)})
        return Set(model=model, weights=torch.ones(2) + change, reduce=lambda x: x * by)

    searched(given(), trials=1, storage=file)
    searched(given(), trials=1, storage=file)  # equal, not the same
    plain = given()
    for other in (
        Set(model=given(1).model, weights=plain.weights, reduce=plain.reduce),
        Set(model=plain.model, weights=given(1).weights, reduce=plain.reduce),
        Set(model=plain.model, weights=plain.weights, reduce=given(by=2.0).reduce),
        Set(model=plain.model, weights=plain.weights, reduce=lambda x: x + 1),
    ):
        with pytest.raises(OptionError, match=r"differs in: metric\. "):
            searched(other, trials=1, storage=file)
    with pytest.raises(OptionError, match=r"differs in: batch_size\. "):
        searched(given(), trials=1, storage=file, batch_size=3)


@pytest.mark.usefixtures("few_presets")
def test_a_metric_that_hides_its_settings_is_not_kept(tmp_path: Path) -> None:
    class Hidden:
        name, higher_is_better = "hidden", True
        __call__ = LikeTruth().__call__

    class Stated(Hidden):
        def __repr__(self) -> str:
            return "Stated()"

    with pytest.raises(OptionError, match="make it a dataclass"):
        searched(Hidden(), trials=1, storage=tmp_path / "search.db")
    searched(Stated(), trials=1, storage=tmp_path / "search.db")


@pytest.mark.usefixtures("few_presets")
def test_the_outputs_of_the_model_count(tmp_path: Path) -> None:
    """A plain attribute changes neither the weights nor the repr."""
    options: dict[str, Any] = {"trials": 1, "space": NARROW, "storage": tmp_path / "search.db"}
    search(Scaled(1.0), X, T, LikeTruth(), **options)
    search(Scaled(1.0 + 1e-9), X, T, LikeTruth(), **options)  # as by rounding
    with pytest.raises(OptionError, match="differs in: outputs of the model"):
        search(Scaled(2.0), X, T, LikeTruth(), **options)


def _is_preset(trial: Trial) -> bool:
    return not trial.candidate.name.startswith("trial")


@pytest.mark.usefixtures("few_presets")
def test_a_storage_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "search.db"
    searched(trials=1, storage=file)

    @dataclass(frozen=True)
    class Other(LikeTruth):
        pass

    with pytest.raises(
        OptionError, match=r"holds another search, which differs in: metric\. Name another"
    ):
        searched(Other(), trials=1, storage=file)
    with pytest.raises(OptionError, match="in: space"):
        searched(trials=1, storage=file, space=Space())
    with pytest.raises(OptionError, match="in: samples, seed"):
        searched(trials=1, storage=file, seed=1)
    with pytest.raises(OptionError, match="in: list of presets"):
        searched(trials=1, storage=file, baselines={"mine": TRUTH})
    changed = small_cnn()
    with torch.no_grad():
        changed[0].weight += 1  # type: ignore[operator]
    with pytest.raises(OptionError, match="in: model"):
        search(changed, X, T, LikeTruth(), trials=1, storage=file, space=NARROW)
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database" * 100)
    with pytest.raises(OptionError, match="cannot be used"):
        searched(trials=1, storage=broken)
    with pytest.raises(OptionError, match="a folder that exists"):
        searched(trials=1, storage=tmp_path / "nowhere" / "search.db")


@pytest.mark.usefixtures("few_presets")
def test_what_cannot_be_judged_is_listed_with_the_reason() -> None:
    """A baseline whose relevance is not finite, and one that finds what is searched for."""
    wild = Composite([(convolution, Wild())])
    found = searched(trials=1, baselines={"wild": wild, "truth": TRUTH, "named": "epsilon_plus"})
    (failed,) = found.failed
    assert isinstance(failed, FailedTrial)
    assert failed.candidate.name == "wild"
    assert failed.reason.startswith("NonFiniteError")
    assert "no score: wild: NonFiniteError" in str(found)
    assert found.best.name == found.chosen.name == "truth"
    assert found.to_composite() is TRUTH
    table = found.held_out.table()
    assert table["named", "likeness"] == table["epsilon_plus", "likeness"]


@pytest.mark.usefixtures("few_presets")
def test_a_metric_that_judges_nothing_is_an_error() -> None:
    @dataclass(frozen=True)
    class Broken(LikeTruth):
        def __call__(self, *arguments: Any) -> Tensor:
            raise InputError("not these")

    with pytest.raises(InputError, match=r"no candidate has a score, .*not these"):
        searched(Broken(), trials=1)


@pytest.mark.usefixtures("few_presets")
def test_smaller_may_be_better() -> None:
    @dataclass(frozen=True)
    class Unlike(LikeTruth):
        higher_is_better: ClassVar[bool] = False

        def __call__(self, *arguments: Any) -> Tensor:
            return -super().__call__(*arguments)

    found = searched(Unlike(), trials=1, baselines={"truth": TRUTH})
    assert found.best.name == found.chosen.name == "truth"
    means = [found.held_out.table()[c.name, "likeness"].mean for c in found.candidates]
    assert means == sorted(means)


def test_the_front_by_hand() -> None:
    rules = EpsilonPlus()
    trials = [
        Trial(Candidate(name, rules), score, cost)
        for name, score, cost in (
            *(("a", 0.3, 1.0), ("b", 0.2, 2.0), ("c", 0.5, 3.0), ("d", 0.5, 4.0)),
            *(("e", 0.9, 5.0), ("f", 0.1, 1.0)),
        )
    ]

    def names(higher: bool) -> list[str]:
        return [trial.candidate.name for trial in front_of(trials, higher)]

    assert names(True) == ["a", "c", "e"]
    assert names(False) == ["f"]
    assert best_of(trials, True).candidate.name == "e"
    assert best_of(trials, False).candidate.name == "f"


def test_the_cost_is_in_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by hand: a gradient takes 2, maps take 10 the first time, then 3, 8 and 6."""
    clock = [0.0]
    times = iter((10, 3, 8, 6))
    monkeypatch.setattr("lrp_fx.evaluate.cost.time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def forward(x: Tensor) -> Tensor:
        clock[0] += 2
        return x

    def explain(x: Tensor, targets: Tensor) -> Tensor:
        clock[0] += next(times)
        return x

    x, targets = numbers(2, 3), torch.tensor([0, 1])
    assert relative_cost(forward, explain, x, targets, 3) == 1.5
    with pytest.raises(InputError, match="model of embeddings"):
        relative_cost(forward, explain, torch.ones(2, 3, dtype=torch.int64), targets, 1)


def test_table_and_figure(found: SearchResult) -> None:
    text = str(found)
    assert found.best.code in text
    assert "One imputer only" not in text
    assert "seed 0; 6 samples for the search, 6 held out" in text
    assert found.to_markdown().count("\n| ") == len(found.candidates) + 1
    left, right = found.figure().axes
    shown = sum(len(points.get_offsets()) for points in left.collections)
    assert shown == len(found.trials)
    assert {text.get_text() for text in right.texts} == set(found.held_out.methods)
    with pytest.raises(OptionError, match="k must lie between 0 and"):
        found.to_composite(99)
    with pytest.raises(OptionError, match="no trial with a score is called 'x'"):
        found.trial("x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "trials must be"),
        ({"seed": -1}, "seed must be"),
        ({"held_out": 0.01}, "leaves too few"),
        ({"held_out": "half"}, "held_out must be a number"),
        ({"storage": 3}, "storage must be"),
        ({"space": "all"}, "space must be a Space"),
        ({"baselines": {"z_plus": TRUTH}}, "name of its own"),
        ({"baselines": {"mine": 3}}, "must be a Composite"),
        ({"metric": len}, "higher_is_better"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        searched(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": ("epsilom",)}, "each of rules must be one of"),
        ({"rules": ()}, "a tuple of one choice or more"),
        ({"starts": "logit"}, "a tuple of one choice or more"),
        ({"first": ("box",)}, "needs the bounds"),
        ({"top_k": (0.0,)}, "top_k"),
        ({"gamma": (0.0, 1.0)}, "above 0"),
        ({"gamma": (2.0, 1.0)}, "smallest, largest"),
        ({"alpha": (0.5, 2.0)}, "at least 1"),
        ({"bounds": (1.0, 0.0)}, "low <= high"),
        ({"depths": 0}, "depths"),
    ],
    ids=str,
)
def test_bad_spaces_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Space(**options)


def test_bad_samples_are_named() -> None:
    with pytest.raises(TargetError, match="between 0 and 2"):
        search(MODEL, X, T + 3, LikeTruth())
    with pytest.raises(InputError, match="train mode"):
        search(small_cnn().train(), X, T, LikeTruth())
    with pytest.raises(OptionError, match=r"must be a torch\.nn\.Module"):
        search(len, X, T, LikeTruth())  # type: ignore[arg-type]

    with pytest.raises(InputError, match="floating-point inputs"):
        search(MODEL, X.long(), T, LikeTruth())


@pytest.mark.parametrize("kind", [RelevanceShare, PointingGame, QuantusMetric])
def test_metrics_with_a_mask_for_each_sample_are_refused(kind: Any) -> None:
    """The samples are divided and reordered, the masks would not be."""
    masks = torch.zeros(SAMPLES, 6, 6, dtype=torch.bool)
    named = {"metric": SimpleNamespace(name="theirs")} if kind is QuantusMetric else {}
    with pytest.raises(OptionError, match="has a mask for each sample"):
        searched(kind(masks=masks, **named))


def test_a_missing_optuna_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lrp_fx.evaluate.study", raising=False)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(OptionError, match="pip install optuna"):
        searched()
