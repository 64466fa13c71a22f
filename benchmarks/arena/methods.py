"""Who takes part: this library's composites, starts and filters, gradient methods, and other tools.

Every method is tried on one sample first. What it raises there is its result: a line below the table.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from captum import attr
from torch import Tensor, nn

from arena.task import Explain, Group, Kind, Task, in_batches
from lrp_fx import LRPFx, composites, rules
from lrp_fx.composites import Composite

Tool = Literal["lrp_fx", "Captum", "zennit", "autolrp", "chance"]
Make = Callable[[Task], Explain]

ALL: tuple[Kind, ...] = ("dense", "convolutional", "attention")
DENSE, CNN, ATTENTION = ALL[:1], ALL[1:2], ALL[2:]


@dataclass(frozen=True)
class Method:
    """One way to a map.

    Args:
        name: in the file of results and in the tables.
        tool: whose it is.
        make: from a task to the method for its model.
        kinds: the kinds of network that it is meant for.
        group: with which others it is ranked.
    """

    name: str
    tool: Tool
    make: Make = field(repr=False)
    kinds: tuple[Kind, ...] = ALL
    group: Group = "maps"


@dataclass(frozen=True)
class Explaining:
    """A method for the model of a task. It can be made again for another model of the same form.

    Args:
        method: the method.
        task: with the model. The maps of its samples are kept: most measures ask for them.
    """

    method: Method
    task: Task = field(repr=False)

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Relevance of the inputs' shape, in calls of the task's batch size."""
        if torch.equal(inputs, self.task.inputs) and torch.equal(targets, self.task.targets):
            return self._maps
        return self.anew(inputs, targets)

    def anew(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The same, computed in any case."""
        with warnings.catch_warnings():  # what other tools say of the model is not our subject
            warnings.simplefilter("ignore")
            return in_batches(self._explain, self.task.batch)(inputs, targets)

    def on(self, model: nn.Module) -> Explaining:
        """The same method for another model."""
        return Explaining(self.method, replace(self.task, model=model))

    @functools.cached_property
    def _maps(self) -> Tensor:
        return self.anew(self.task.inputs, self.task.targets)

    @functools.cached_property
    def _explain(self) -> Explain:
        return self.method.make(self.task)


# --- this library -------------------------------------------------------------------------------


def lrp(choose: Callable[[Task], Composite | str], **options: Any) -> Make:
    """Options as of :class:`LRPFx`."""

    def make(task: Task) -> Explain:
        attribution = LRPFx(task.model, choose(task), **options)
        return lambda x, target: attribution.attribute(x, target=target)

    return make


def flat_first(composite: Composite) -> Composite:
    """The composite with Flat on the first linear operations."""
    lines = [(composites.first(), rules.Flat()), *composite.assignments]
    return Composite(lines, strict=composite.strict)


def box(gamma: float) -> Callable[[Task], Composite]:
    """γ on convolutions, and the box of the task's inputs on the first linear operations."""
    return lambda task: composites.EpsilonGammaBox(task.low, task.high, gamma)


def always(composite: Composite | str) -> Callable[[Task], Composite | str]:
    return lambda task: composite


def attention(preset: Callable[..., Composite], gamma: float | None) -> Composite:
    """AttnLRP or CP-LRP, with γ on dense layers and the patch embedding in place of ε."""
    return preset() if gamma is None else preset(dense=rules.GeneralizedGamma(gamma))


def _ours() -> list[Method]:
    def mine(
        name: str,
        chosen: Composite | str,
        kinds: tuple[Kind, ...],
        group: Group = "maps",
        **more: Any,
    ) -> Method:
        return Method(name, "lrp_fx", lrp(always(chosen), **more), kinds, group)

    gammas = (0.05, 0.1, 0.25)
    uniform = {f"γ {gamma} everywhere": rules.GeneralizedGamma(gamma) for gamma in gammas}
    both = {
        "epsilon_plus": "epsilon_plus",
        "epsilon_gamma 0.1": composites.EpsilonGamma(0.1),
    }
    starts = {"one_hot": "one_hot", "against_rest": "against_rest"}
    modes: dict[str, dict[str, Any]] = {"signed": {}, "magnitude": {"filter_by": "magnitude"}}
    few, many = (0.05, 0.2), (0.01, 0.1, 0.5)
    attentive = {"attn_lrp": composites.AttnLRP, "cp_lrp": composites.CPLRP}
    return [
        mine("epsilon", "epsilon", ALL),
        mine("epsilon, bias distributed", "epsilon", ALL, bias="distribute"),
        mine("z_plus", "z_plus", ALL),
        mine("α2β1 everywhere", composites.Uniform(rules.AlphaBeta(2, 1)), DENSE),
        *(mine(name, composites.Uniform(rule), DENSE) for name, rule in uniform.items()),
        mine("epsilon_plus", "epsilon_plus", CNN),
        mine("epsilon_plus_flat", "epsilon_plus_flat", CNN),
        mine("epsilon_alpha2_beta1", "epsilon_alpha2_beta1", CNN),
        *(
            Method(f"epsilon_gamma_box {gamma}", "lrp_fx", lrp(box(gamma)), CNN)
            for gamma in (0.1, 0.25)
        ),
        *(mine(f"epsilon_gamma {gamma}", composites.EpsilonGamma(gamma), CNN) for gamma in gammas),
        *(
            mine(
                f"epsilon_gamma {gamma}, flat first",
                flat_first(composites.EpsilonGamma(gamma)),
                CNN,
            )
            for gamma in (0.1, 0.25)
        ),
        mine(
            "epsilon_gamma 0.1, bias distributed",
            composites.EpsilonGamma(0.1),
            CNN,
            bias="distribute",
        ),
        *(
            mine(f"{name}, γ {gamma}" if gamma else name, attention(preset, gamma), ATTENTION)
            for name, preset in attentive.items()
            for gamma in (None, *gammas)
        ),
        *(
            mine(f"{name}, {start}", composite, CNN, "starts", start=option)
            for name, composite in both.items()
            for start, option in starts.items()
        ),
        mine("attn_lrp, against_rest", "attn_lrp", ATTENTION, "starts", start="against_rest"),
        *(
            mine(f"{name}, top {share:.0%} {mode}", composite, CNN, group, top_k=share, **option)
            for name, composite in both.items()
            for group, shares in (("filters", few), ("more filters", many))
            for share in shares
            for mode, option in modes.items()
        ),
    ]


# --- gradient methods -----------------------------------------------------------------------------


@contextmanager
def same_chance() -> Iterator[None]:
    """The same random numbers in each call, of torch and of NumPy, which Captum draws from too."""
    before = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        np.random.seed(0)
        try:
            yield
        finally:
            np.random.set_state(before)


def captum(name: str, **options: Any) -> Make:
    """A method of Captum that takes a model, with further arguments of its ``attribute``."""

    def make(task: Task) -> Explain:
        attribution = getattr(attr, name)(copy.deepcopy(task.model))  # some leave hooks behind

        def explain(x: Tensor, target: Tensor) -> Tensor:
            more = {"baselines": torch.zeros_like(x[:1])} if name == "GradientShap" else {}
            with same_chance():
                found = attribution.attribute(
                    x.clone().requires_grad_(), target=target, **options, **more
                )
            return found.detach()

        return explain

    return make


def grad_cam(task: Task) -> Explain:
    """Grad-CAM of the task's layer, enlarged; each channel of the input gets an equal part."""
    if not task.layer:
        raise LookupError("no layer of this network keeps the places of the input")
    model = copy.deepcopy(task.model)
    attribution = attr.LayerGradCam(model, model.get_submodule(task.layer))

    def explain(x: Tensor, target: Tensor) -> Tensor:
        found = attribution.attribute(x.clone().requires_grad_(), target=target).detach()
        large = F.interpolate(found, x.shape[2:], mode="bilinear", align_corners=False)
        return large.expand_as(x) / x.shape[1]

    return explain


def noise(task: Task) -> Explain:
    def explain(x: Tensor, target: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=torch.Generator().manual_seed(0))

    return explain


def _gradients() -> list[Method]:
    return [
        Method("Saliency", "Captum", captum("Saliency")),
        Method("Saliency, signed", "Captum", captum("Saliency", abs=False)),
        Method("InputXGradient", "Captum", captum("InputXGradient")),
        Method(
            "IntegratedGradients, 32 steps", "Captum", captum("IntegratedGradients", n_steps=32)
        ),
        Method("GradientShap, 16 samples", "Captum", captum("GradientShap", n_samples=16)),
        Method("GuidedBackprop", "Captum", captum("GuidedBackprop")),
        Method("DeepLift", "Captum", captum("DeepLift")),
        Method("LRP", "Captum", captum("LRP")),
        Method("LayerGradCam", "Captum", grad_cam, CNN),
        Method("noise", "chance", noise),
    ]


# --- other tools ----------------------------------------------------------------------------------


def zennit(name: str) -> Make:
    """A composite of zennit, with batch norm merged, from the logit."""

    def make(task: Task) -> Explain:
        from zennit import composites as theirs
        from zennit.canonizers import SequentialMergeBatchNorm

        bounds = {}
        if name == "EpsilonGammaBox":
            bounds = {
                key: torch.as_tensor(bound).reshape(1, -1, *[1] * (task.inputs.ndim - 2))
                for key, bound in (("low", task.low), ("high", task.high))
            }
        model = copy.deepcopy(task.model)
        getattr(theirs, name)(canonizers=[SequentialMergeBatchNorm()], **bounds).register(model)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            leaf = x.clone().requires_grad_()
            logits = model(leaf).gather(1, target[:, None])
            return torch.autograd.grad(logits, leaf, logits.detach())[0]

        return explain

    return make


def autolrp(preset: Literal["composite", "attention"]) -> Make:
    def make(task: Task) -> Explain:
        import autolrp as theirs

        if preset == "composite":
            config = theirs.LRPConfig.composite()
        else:
            config = theirs.LRPConfig(rule={**theirs.BASE, **theirs.ATTNLRP})

        def explain(x: Tensor, target: Tensor) -> Tensor:
            wrapped = theirs.tensor(x)
            task.model(wrapped).gather(1, target[:, None]).sum().lrp(config=config)
            relevance: Tensor = wrapped.relevance
            return relevance

        return explain

    return make


def _others() -> list[Method]:
    return [
        *(
            Method(f"{name}", "zennit", zennit(name), CNN)
            for name in ("EpsilonPlus", "EpsilonPlusFlat", "EpsilonGammaBox", "EpsilonAlpha2Beta1")
        ),
        Method("composite", "autolrp", autolrp("composite"), CNN),
        Method("AttnLRP", "autolrp", autolrp("attention"), ATTENTION),
    ]


METHODS = (*_ours(), *_gradients(), *_others())


def taking_part(kind: Kind, groups: tuple[Group, ...]) -> list[Method]:
    """The methods for a kind of network."""
    return [each for each in METHODS if kind in each.kinds and each.group in groups]
