"""Who is measured: this library, torch alone, and the other tools, each in the way it documents."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harness.networks import Bert, Network
from lrp_fx import LRPFx, Optimizations

TARGET = 3  # the class that is explained
TOP_K = 0.05

Call = Callable[[Tensor], Tensor]
Make = Callable[[Network, nn.Module], Call]
Tool = Literal["torch", "lrp_fx", "zennit", "Captum", "autolrp"]

CNN = ("convolutional",)
IMAGES = ("convolutional", "vision transformer")
ATTENTION = ("vision transformer", "text")
ALL = ("convolutional", "vision transformer", "text")


@dataclass(frozen=True)
class Contestant:
    """One way to a map of the input.

    Args:
        name: as the command line and the results know it.
        tool: whose it is.
        method: what is computed: "gradient", "epsilon", …; equal methods are the same map.
        title: as the page shows it.
        make: from a network and its model to a call.
        kinds: the kinds of network it is meant for.
        alters: whether it changes the model, and needs one of its own.
        usual: whether it runs unless asked for by name.
    """

    name: str
    tool: Tool
    method: str
    title: str
    make: Make = field(repr=False)
    kinds: tuple[str, ...] = ALL
    alters: bool = False
    usual: bool = True

    def call(self, network: Network, model: nn.Module) -> Call:
        """What maps inputs of a network; the model stays as it is."""
        return self.make(network, copy.deepcopy(model) if self.alters else model)


# --- torch alone --------------------------------------------------------------------------------


def forward(network: Network, model: nn.Module) -> Call:
    return torch.no_grad()(model)


def gradient(network: Network, model: nn.Module) -> Call:
    """The plain gradient of the logit for the input; of a text for the embeddings."""

    def call(x: Tensor) -> Tensor:
        if isinstance(model, Bert):
            leaf, run = model.embed(x).requires_grad_(), model.from_embedded
        else:
            leaf, run = x.clone().requires_grad_(), model
        return torch.autograd.grad(run(leaf)[:, TARGET].sum(), leaf)[0]

    return call


# --- this library -------------------------------------------------------------------------------


def ours(composite: str, **options: Any) -> Make:
    def make(network: Network, model: nn.Module) -> Call:
        lrp = LRPFx(model, composite, **options)
        return lambda x: lrp.attribute(x, target=TARGET)

    return make


# --- the others ---------------------------------------------------------------------------------


def by_zennit(composite: Literal["epsilon", "epsilon_plus"]) -> Make:
    """With batch norm merged, and for ResNets with the canonizer of their additions."""

    def make(network: Network, model: nn.Module) -> Call:
        from zennit.canonizers import SequentialMergeBatchNorm
        from zennit.composites import EpsilonPlus, LayerMapComposite, layer_map_base
        from zennit.rules import Epsilon
        from zennit.torchvision import ResNetCanonizer
        from zennit.types import Convolution, Linear

        resnet = network.name.startswith("resnet")
        canonizers = [ResNetCanonizer() if resnet else SequentialMergeBatchNorm()]
        if composite == "epsilon_plus":
            rules = EpsilonPlus(canonizers=canonizers)
        else:
            layers = [(Convolution, Epsilon()), (Linear, Epsilon())]
            rules = LayerMapComposite(layer_map_base() + layers, canonizers=canonizers)
        rules.register(model)  # once, and not in every call: its best
        return gradient(network, model)

    return make


def by_captum(network: Network | None, model: nn.Module, target: int = TARGET) -> Call:
    """Without any rule set it takes ε for every layer."""
    from captum.attr import LRP

    lrp = LRP(model)

    def call(x: Tensor) -> Tensor:
        relevance: Tensor = lrp.attribute(x, target=target)
        return relevance.detach()

    return call


def by_autolrp(preset: Literal["epsilon", "epsilon_plus", "attn_lrp"]) -> Make:
    def make(network: Network, model: nn.Module) -> Call:
        import autolrp
        from autolrp import ATTNLRP, BASE, LRPConfig

        config = {
            "epsilon": LRPConfig,
            "epsilon_plus": LRPConfig.composite,
            "attn_lrp": lambda: LRPConfig(rule={**BASE, **ATTNLRP}),
        }[preset]()

        def call(x: Tensor) -> Tensor:
            wrapped = autolrp.tensor(x)
            model(wrapped)[:, TARGET].sum().lrp(config=config)
            relevance: Tensor = wrapped.relevance
            return relevance

        return call

    return make


# --- all of them --------------------------------------------------------------------------------


def _variants(method: str, kinds: tuple[str, ...]) -> list[Contestant]:
    """One of our composites in its variants."""
    title = f"lrp_fx `{method}`"

    def variant(suffix: str, words: str, usual: bool = True, **options: Any) -> Contestant:
        make = ours(method, **options)
        name = method + suffix
        return Contestant(name, "lrp_fx", method, title + words, make, kinds, usual=usual)

    return [
        variant("", ""),
        variant("-gradient", ", gradient engine", propagation="gradient"),
        variant("-compiled", ", compiled", optimize=Optimizations(compiled=True)),
        variant("-recompute", ", recompute", usual=False, optimize=Optimizations(recompute=True)),
    ]


def _peer(
    tool: Tool, method: str, make: Make, kinds: tuple[str, ...], **options: Any
) -> Contestant:
    name, title = f"{tool.lower()}-{method}", f"{tool} `{method}`"
    return Contestant(name, tool, method, title, make, kinds, **options)


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("forward", "torch", "forward", "forward pass", forward),
        Contestant("gradient", "torch", "gradient", "input gradient", gradient),
        *_variants("epsilon", IMAGES),
        *_variants("epsilon_plus", CNN),
        *_variants("epsilon_gamma", CNN),
        *_variants("z_plus", CNN),
        *_variants("attn_lrp", ATTENTION),
        Contestant(
            "epsilon_plus-top_k",
            "lrp_fx",
            "epsilon_plus top_k",
            f"lrp_fx `epsilon_plus`, top_k={TOP_K}",
            # from one: behind a negative logit the largest values are zeros, and nothing is left to do
            ours("epsilon_plus", top_k=TOP_K, start="one_hot"),
            CNN,
        ),
        _peer("zennit", "epsilon", by_zennit("epsilon"), CNN, alters=True),
        _peer("zennit", "epsilon_plus", by_zennit("epsilon_plus"), CNN, alters=True),
        Contestant(
            "captum-epsilon", "Captum", "epsilon", "Captum `LRP`", by_captum, IMAGES, alters=True
        ),
        _peer("autolrp", "epsilon", by_autolrp("epsilon"), IMAGES),
        _peer("autolrp", "epsilon_plus", by_autolrp("epsilon_plus"), CNN),
        _peer("autolrp", "attn_lrp", by_autolrp("attn_lrp"), ("vision transformer",)),
    )
}
REFERENCES = ("forward", "gradient")  # they run in every cell


def chosen(network: Network, only: list[str] | None) -> list[Contestant]:
    """The contestants for a network, the references first."""
    names = [*REFERENCES, *(only or [c.name for c in CONTESTANTS.values() if c.usual])]
    everyone = [CONTESTANTS[name] for name in dict.fromkeys(names)]
    return [contestant for contestant in everyone if network.kind in contestant.kinds]


def title(name: str) -> str:
    return CONTESTANTS[name].title


def quietly() -> None:
    """The other tools warn in every call of what they do to the model; that is not our subject."""
    warnings.filterwarnings("ignore")


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
