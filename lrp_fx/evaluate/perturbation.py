"""Region perturbation: does the output change where the map says that it should?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lrp_fx._common import check_choice, check_count, check_made, check_number, check_seed, entries
from lrp_fx.errors import OptionError
from lrp_fx.evaluate.imputers import Blur, Constant, Imputer
from lrp_fx.evaluate.metric import (
    Explain,
    Forward,
    Output,
    follow,
    name_of,
    relevance_of,
)
from lrp_fx.evaluate.regions import Patches, Positions, Regions, region_means


@dataclass(frozen=True)
class Curves:
    """The output at the target while regions are replaced, and the areas under it.

    Args:
        most_first: the most relevant regions go first, ``(N, steps + 1)``, float64.
        least_first: the least relevant regions go first, ``(N, steps + 1)``.
    """

    most_first: Tensor
    least_first: Tensor

    @property
    def most(self) -> Tensor:
        """The area under the curve with the most relevant first, ``(N,)``: small for good maps."""
        return area(self.most_first)

    @property
    def least(self) -> Tensor:
        """The area under the curve with the least relevant first, ``(N,)``: large for good maps."""
        return area(self.least_first)


def area(curve: Tensor) -> Tensor:
    """The area under curves ``(N, steps + 1)`` over the share of replaced regions, by trapezoids."""
    return ((curve[:, 1:] + curve[:, :-1]) / 2).mean(1)


@dataclass(frozen=True, kw_only=True)
class _Perturbing:
    """The settings of all metrics that replace regions.

    Args:
        regions: the entries that are replaced together.
        imputer: what takes its place. Rankings of methods depend on it; use at least two.
        output: the output that is followed.
        seed: decides the order of regions with equal relevance, such as those that a filter sets to
            zero.
        batch_size: perturbed inputs in one forward pass.
    """

    regions: Regions = Patches()
    imputer: Imputer = Blur()
    output: Output = "probability"
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name, value in (("regions", self.regions), ("imputer", self.imputer)):
            check_made(name, value)
        check_choice("output", self.output, ("probability", "logit"))
        check_count("batch_size", self.batch_size)
        check_seed(self.seed)

    def _ranks(self, explain: Explain, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The place of each entry's region in the order of relevance, and the number of regions.

        Returns:
            int64 ``(N, …)`` that broadcasts to the inputs, 0 for the most relevant region.
        """
        labels = self.regions(inputs.shape[1:]).to(inputs.device)
        relevance = relevance_of(explain, inputs, targets)
        ranks = ranks_of(region_means(relevance, labels), self.seed)
        missing = inputs.ndim - 1 - labels.ndim
        return ranks[:, labels].reshape(len(inputs), *[1] * missing, *labels.shape), ranks

    def _outputs(
        self,
        forward: Forward,
        inputs: Tensor,
        targets: Tensor,
        masks: Callable[[int], Tensor],
    ) -> Tensor:
        """The output at the target under each mask of each sample, ``(N, M)``.

        Args:
            forward: the model.
            inputs: ``(N, …)``.
            targets: ``(N,)``.
            masks: of one sample, by its place, ``(M, …)``.
        """
        found = []
        waiting: list[Tensor] = []
        for place, x in enumerate(inputs):
            waiting.append(self.imputer(x, masks(place)))
            count = len(waiting[0])
            if (len(waiting) + 1) * count > self.batch_size or place == len(inputs) - 1:
                wanted = targets[place + 1 - len(waiting) : place + 1].repeat_interleave(count)
                changed = torch.cat(waiting)
                values = follow(forward, changed, wanted, self.output, self.batch_size)
                found.append(values.reshape(-1, count))
                waiting = []
        return torch.cat(found)


def ranks_of(importance: Tensor, seed: int) -> Tensor:
    """The places of regions in descending order of importance; equal ones are in a random order.

    Args:
        importance: ``(N, K)``.
        seed: of the random order.

    Returns:
        ``(N, K)``, int64, each row with the values 0 … K − 1.
    """
    count = importance.shape[1]
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    shuffled = shuffled.to(importance.device)
    order = shuffled[importance[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    return order.argsort(1)


@dataclass(frozen=True, kw_only=True)
class _Flipping(_Perturbing):
    """Metrics of the curves.

    Args:
        steps: in how many steps all regions are replaced; fewer if there are fewer regions.
    """

    steps: int = 28

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("steps", self.steps)

    def curves(
        self,
        forward: Forward,
        explain: Explain,
        inputs: Tensor,
        targets: Tensor,
        *,
        most: bool = True,
        least: bool = True,
    ) -> Curves:
        """Both curves of each sample; those that are not wanted are empty, ``(N, 0)``.

        Args:
            forward: the model.
            explain: the method.
            inputs: ``(N, …)``.
            targets: ``(N,)``.
            most: whether the curve with the most relevant regions first is wanted.
            least: whether the curve with the least relevant regions first is wanted.
        """
        places, ranks = self._ranks(explain, inputs, targets)
        count = ranks.shape[1]
        steps = min(self.steps, count)
        replaced = _column([round(count * step / steps) for step in range(steps + 1)], inputs)
        empty = torch.empty(len(inputs), 0, dtype=torch.float64, device=inputs.device)

        def curve(order: Callable[[Tensor], Tensor]) -> Tensor:
            return self._outputs(
                forward, inputs, targets, lambda place: order(places[place]) < replaced
            )

        return Curves(
            curve(lambda rank: rank) if most else empty,
            curve(lambda rank: count - 1 - rank) if least else empty,
        )


def _column(numbers: Sequence[int], inputs: Tensor) -> Tensor:
    """The numbers along a first dimension, before those of a sample."""
    sizes = (-1, *[1] * (inputs.ndim - 1))
    return torch.tensor(numbers, device=inputs.device).reshape(sizes)


@dataclass(frozen=True, kw_only=True)
class SRG(_Flipping):
    """Symmetric relevance gain: the area between both curves (Blücher et al. 2024).

    ``SRG = AUC(least relevant first) − AUC(most relevant first)``; 0 is chance, 1 the most that
    probabilities allow. Effects that both orders share, such as those of the imputer, cancel.
    """

    higher_is_better: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """``SRG``, and the imputer."""
        return name_of(self, "SRG")

    def __call__(
        self, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """The scores, ``(N,)``."""
        curves = self.curves(forward, explain, inputs, targets)
        return curves.least - curves.most


@dataclass(frozen=True, kw_only=True)
class MostRelevantFirst(_Flipping):
    """The area under the curve when the most relevant regions go first (Samek et al. 2017).

    The lower, the better: a good map finds the regions whose loss ends the prediction.
    """

    higher_is_better: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """``most relevant first``, and the imputer."""
        return name_of(self, "most relevant first")

    def __call__(
        self, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """The scores, ``(N,)``."""
        return self.curves(forward, explain, inputs, targets, least=False).most


@dataclass(frozen=True, kw_only=True)
class LeastRelevantFirst(_Flipping):
    """The area under the curve when the least relevant regions go first (Blücher et al. 2024).

    The higher, the better: a good map finds the regions that the prediction can do without.
    """

    higher_is_better: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """``least relevant first``, and the imputer."""
        return name_of(self, "least relevant first")

    def __call__(
        self, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """The scores, ``(N,)``."""
        return self.curves(forward, explain, inputs, targets, most=False).least


@dataclass(frozen=True, kw_only=True)
class ABPC(SRG):
    """Area between the perturbation curves, for tokens, columns and time steps.

    The formula of :class:`SRG`, with one region for each position and, as usual for texts, the logit
    instead of the probability (Achtibat et al. 2024). Its unit is that of the logit.
    """

    regions: Regions = Positions()
    imputer: Imputer = Constant()
    output: Output = "logit"

    @property
    def name(self) -> str:
        """``ABPC``, and the imputer."""
        return name_of(self, "ABPC")


@dataclass(frozen=True, kw_only=True)
class _Erasing(_Perturbing):
    """Metrics of a few shares of the regions.

    Args:
        shares: of the regions that count as important, each between 0 and 1; at least one region.
    """

    regions: Regions = Positions()
    imputer: Imputer = Constant()
    shares: tuple[float, ...] = (0.01, 0.05, 0.1, 0.2, 0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = entries(self.shares)
        if shares is None or isinstance(self.shares, str):
            raise OptionError(f"shares must be a tuple of numbers, got {self.shares!r}")
        for share in shares:
            check_number("each of shares", share)
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise OptionError(
                f"shares must be numbers above 0 and of at most 1, got {self.shares!r}"
            )

    def _drop(
        self,
        forward: Forward,
        explain: Explain,
        inputs: Tensor,
        targets: Tensor,
        *,
        keep: bool,
    ) -> Tensor:
        """How far the output falls, as the mean over the shares, ``(N,)``.

        Args:
            forward: the model.
            explain: the method.
            inputs: ``(N, …)``.
            targets: ``(N,)``.
            keep: whether the important regions stay and all others go, or the reverse.
        """
        places, ranks = self._ranks(explain, inputs, targets)
        counts = [share_of(share, ranks.shape[1]) for share in self.shares]
        important = _column(counts, inputs)

        def masks(place: int) -> Tensor:
            gone = places[place] < important
            return ~gone if keep else gone

        whole = follow(forward, inputs, targets, self.output, self.batch_size)
        return whole - self._outputs(forward, inputs, targets, masks).mean(1)


def share_of(share: float, count: int) -> int:
    """``⌈share · count⌉``, at least 1. Rounding does not count: 7 % of 100 are 7."""
    return max(1, math.ceil(share * count - 1e-9))


@dataclass(frozen=True, kw_only=True)
class Comprehensiveness(_Erasing):
    """How far the output falls without the most relevant positions (DeYoung et al. 2020).

    ``f(x) − f(x without the top k)``, the mean over several k. The higher, the better.
    """

    higher_is_better: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """``comprehensiveness``, and the imputer."""
        return name_of(self, "comprehensiveness")

    def __call__(
        self, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """The scores, ``(N,)``."""
        return self._drop(forward, explain, inputs, targets, keep=False)


@dataclass(frozen=True, kw_only=True)
class Sufficiency(_Erasing):
    """How far the output falls with the most relevant positions alone (DeYoung et al. 2020).

    ``f(x) − f(only the top k)``, the mean over several k. The lower, the better.
    """

    higher_is_better: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """``sufficiency``, and the imputer."""
        return name_of(self, "sufficiency")

    def __call__(
        self, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """The scores, ``(N,)``."""
        return self._drop(forward, explain, inputs, targets, keep=True)
