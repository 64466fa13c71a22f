"""Randomisation: does the map change when the model's weights lose their meaning?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from lrp_fx._common import check_choice, check_count, check_made, check_seed
from lrp_fx.errors import InputError, OptionError
from lrp_fx.evaluate.correlation import rank_correlation
from lrp_fx.evaluate.explain import Rebuildable
from lrp_fx.evaluate.metric import Explain, Forward, name_of, relevance_of
from lrp_fx.evaluate.regions import Patches, Regions, region_means

Draw = Literal["permute", "reset"]
"""Random weights: each tensor's own entries in a random order, or those of a new layer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Randomising:
    """The settings of both tests.

    The score is the absolute rank correlation of the regions' relevance with the true map. The sign
    is left out, because the logit of a random model may be negative; then a map that does not depend
    on the weights is reversed, not new. For maps that have nothing in common, the mean score of K
    regions is about ``√(2 / (π (K − 1)))``: .06 for 196 patches.

    Args:
        model: the explained model. It is copied and never written to.
        regions: whose relevance is compared.
        draw: ``"permute"`` puts the entries of each parameter into a random order, which keeps the
            size of activations. ``"reset"`` calls the ``reset_parameters`` of each layer; layers
            without it are permuted. In deep networks activations may then vanish or explode.
        stages: the number of groups in which the layers are randomised; None for one by one.
        seed: of the random weights.
    """

    higher_is_better: ClassVar[bool] = False

    model: nn.Module = field(repr=False)
    regions: Regions = Patches()
    draw: Draw = "permute"
    stages: int | None = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise OptionError(f"model must be a torch.nn.Module, got {self.model!r}")
        check_choice("draw", self.draw, ("permute", "reset"))
        if self.stages is not None:
            check_count("stages", self.stages)
        check_seed(self.seed)
        check_made("regions", self.regions)

    def correlations(
        self, explain: Explain, inputs: Tensor, targets: Tensor, *, cascade: bool, last: bool
    ) -> Tensor:
        """The absolute rank correlation after each stage, ``(stages, N)``.

        Args:
            explain: the method, which can be made for another model.
            inputs: ``(N, …)``.
            targets: ``(N,)``.
            cascade: whether layers stay random from stage to stage.
            last: whether only the last stage is wanted.

        Raises:
            OptionError: if the method cannot be made for another model.
        """
        if not isinstance(explain, Rebuildable):
            raise OptionError(
                "randomisation needs methods that can be made for another model: pass "
                "Explainer(LRPFx, model) or Explainer(lambda m: LRPFx(m, ...), model) instead of "
                "explain_with(...)"
            )
        labels = self.regions(inputs.shape[1:])

        def importance(method: Explain) -> Tensor:
            return region_means(relevance_of(method, inputs, targets), labels)

        true = importance(explain)
        model = copy.deepcopy(self.model)
        method = explain.on(model)
        stages = list(randomised(model, self.stages, self.draw, self.seed, cascade=cascade))
        found = []
        for place, randomise in enumerate(stages):
            randomise()
            if not last or place == len(stages) - 1:
                found.append(rank_correlation(true, importance(method)).abs())
        return torch.stack(found)


def randomised(
    model: nn.Module, stages: int | None, draw: Draw, seed: int, *, cascade: bool
) -> Iterator[Callable[[], None]]:
    """For each stage a function that makes its layers random, the last layers first.

    Args:
        model: a copy that may be written to.
        stages: the number of groups of layers; None for one after the other.
        draw: how weights become random.
        seed: of the random weights.
        cascade: whether the layers of earlier stages stay random.

    Raises:
        InputError: if the model has no parameters.
    """
    layers = [each for each in model.modules() if any(True for _ in each.parameters(False))][::-1]
    if not layers:
        raise InputError("the model has no parameters that could be random")
    count = min(stages or len(layers), len(layers))
    true = {name: value.clone() for name, value in model.state_dict().items()}
    for stage in range(count):
        start, stop = (len(layers) * each // count for each in (stage, stage + 1))

        def randomise(start: int = start, stop: int = stop) -> None:
            if not cascade:
                model.load_state_dict(true)
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                for place in range(start, stop):
                    torch.manual_seed(seed + place)
                    _randomise(layers[place], draw)

        yield randomise


def _randomise(layer: nn.Module, draw: Draw) -> None:
    """Make the own parameters of a layer random, in place."""
    reset = getattr(layer, "reset_parameters", None)
    if draw == "reset" and callable(reset):
        reset()
        return
    for parameter in layer.parameters(recurse=False):
        order = torch.randperm(parameter.numel()).to(parameter.device)
        parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))


@dataclass(frozen=True, kw_only=True, eq=False)
class CascadingRandomisation(_Randomising):
    """Similarity of the map when layers are randomised from the last to the first (Adebayo et al. 2018).

    The lower, the better: a map that stays the same explains the input, not the model.

    Args:
        summary: ``"last"`` for the score when all layers are random, ``"mean"`` for the mean over the
            stages.
    """

    summary: Literal["last", "mean"] = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("summary", self.summary, ("last", "mean"))

    @property
    def name(self) -> str:
        """``cascading randomisation``."""
        return name_of(self, "cascading randomisation")

    def __call__(
        self, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """The scores, ``(N,)``."""
        last = self.summary == "last"
        return self.correlations(explain, inputs, targets, cascade=True, last=last).mean(0)


@dataclass(frozen=True, kw_only=True, eq=False)
class IndependentRandomisation(_Randomising):
    """Similarity of the map when one group of layers is random (Adebayo et al. 2018).

    The mean over the groups. The lower, the better.
    """

    @property
    def name(self) -> str:
        """``independent randomisation``."""
        return name_of(self, "independent randomisation")

    def __call__(
        self, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """The scores, ``(N,)``."""
        return self.correlations(explain, inputs, targets, cascade=False, last=False).mean(0)
