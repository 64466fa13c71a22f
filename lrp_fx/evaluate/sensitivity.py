"""Sensitivity: to another class, which a map should show, and to small noise, which it should not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from captum.metrics import sensitivity_max
from torch import Tensor

from lrp_fx._common import (
    all_finite,
    check_choice,
    check_count,
    check_made,
    check_nonnegative,
    check_seed,
)
from lrp_fx.errors import InputError
from lrp_fx.evaluate.correlation import rank_correlation
from lrp_fx.evaluate.metric import (
    Explain,
    Forward,
    batches,
    logits_of,
    name_of,
    relevance_of,
)
from lrp_fx.evaluate.regions import Patches, Regions, region_means


@dataclass(frozen=True, kw_only=True)
class ClassCorrelation:
    """The rank correlation of the map with the map of another class, by regions.

    The lower, the better: a map that is the same for all classes does not explain the prediction.

    Args:
        other: ``"runner_up"`` for the class with the largest logit but the target, ``"random"`` for
            any other class.
        regions: whose relevance is compared.
        seed: of the random class.
        batch_size: of the forward passes.
    """

    higher_is_better: ClassVar[bool] = False

    other: Literal["runner_up", "random"] = "runner_up"
    regions: Regions = Patches()
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        check_choice("other", self.other, ("runner_up", "random"))
        check_seed(self.seed)
        check_made("regions", self.regions)
        check_count("batch_size", self.batch_size)

    @property
    def name(self) -> str:
        """``correlation with another class``."""
        return name_of(self, "correlation with another class")

    def __call__(
        self, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """The scores, ``(N,)``.

        Raises:
            InputError: if the model has no other class with a finite logit.
        """
        some = torch.split(inputs, self.batch_size)
        logits = torch.cat([logits_of(forward, x).double() for x in some])
        if self.other == "random":
            generator = torch.Generator().manual_seed(self.seed)
            drawn = torch.rand(logits.shape, generator=generator).to(logits)
            logits = torch.where(logits.isfinite(), drawn, logits)
        largest, others = logits.scatter(1, targets.to(logits.device)[:, None], -torch.inf).max(1)
        if not all_finite(largest):
            raise InputError(
                "the model has no other class whose logit is finite, so there is no map to compare "
                "with: leave this metric out"
            )
        labels = self.regions(inputs.shape[1:])
        own, other = (
            region_means(relevance_of(explain, inputs, each), labels)
            for each in (targets, others.to(targets.device))
        )
        return rank_correlation(own, other)


@dataclass(frozen=True, kw_only=True)
class MaxSensitivity:
    """How far the map moves, at most, when small noise is added to the input (Yeh et al. 2019).

    ``max_δ ‖R(x + δ) − R(x)‖ / ‖R(x)‖`` over some random δ, by Captum's ``sensitivity_max``. The
    lower, the more stable; a constant map has 0.

    Args:
        radius: the largest entry of the noise, which is uniform, in the units of the input.
        samples: of the noise.
        seed: of the noise.
        batch_size: inputs that are explained at once.
    """

    higher_is_better: ClassVar[bool] = False

    radius: float = 0.02
    samples: int = 10
    seed: int = 0
    batch_size: int = 8

    def __post_init__(self) -> None:
        check_nonnegative("radius", self.radius)
        check_seed(self.seed)
        check_count("samples", self.samples)
        check_count("batch_size", self.batch_size)

    @property
    def name(self) -> str:
        """``max sensitivity``."""
        return name_of(self, "max sensitivity")

    def __call__(
        self, forward: Forward, explain: Explain, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """The scores, ``(N,)``.

        Raises:
            InputError: for inputs that are not floating point: the noise would be rounded away.
        """
        if not inputs.is_floating_point():
            raise InputError(
                f"max sensitivity adds small noise, which {inputs.dtype} inputs cannot hold: convert "
                "images, or judge a model of embeddings"
            )
        generator = torch.Generator().manual_seed(self.seed)

        def moved(x: Tensor, radius: float) -> Tensor:
            noise = torch.rand(x.shape, generator=generator, dtype=torch.float64)
            return x + (radius * (2 * noise - 1)).to(x)

        def maps(x: Tensor | tuple[Tensor, ...], target: Tensor) -> tuple[Tensor]:
            # always a tuple: Captum would take the samples of a tensor for several inputs
            x = x if isinstance(x, Tensor) else x[0]
            some = batches(x, target, self.batch_size)
            return (torch.cat([relevance_of(explain, *batch) for batch in some]),)

        found: Tensor = sensitivity_max(
            maps,
            inputs,
            perturb_func=moved,
            perturb_radius=self.radius,
            n_perturb_samples=self.samples,
            max_examples_per_batch=len(inputs),  # one draw at a time, of all inputs
            target=targets,
        )
        return found.double()
