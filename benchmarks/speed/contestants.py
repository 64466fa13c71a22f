"""Who is measured: this library, torch alone, and the other tools, each in the way it documents."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from networks import Bert, Network
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.errors import OptionError

TARGET = 3  # the class that is explained
TOP_K = 0.05

Call = Callable[[Tensor], Tensor]
Tool = Literal["torch", "lrp_fx", "zennit", "Captum", "autolrp"]


class Absent(Exception):
    """A contestant that cannot start; the message is a sentence for the page."""


@dataclass(frozen=True)
class Contestant:
    """One way to a map of the input.

    Args:
        name: as the command line and the results know it.
        tool: whose it is.
        method: what is computed: "gradient", "epsilon", …; equal methods are the same map.
        title: as the page shows it.
        make: from a network and its model to a call; it may raise :class:`Absent`.
        kinds: the kinds of network it is meant for.
        alters: whether it changes the model, and needs one of its own.
        usual: whether it runs unless asked for by name.
    """

    name: str
    tool: Tool
    method: str
    title: str
    make: Callable[[Network, nn.Module], Call] = field(repr=False)
    kinds: tuple[str, ...] = ("convolutional", "vision transformer", "text")
    alters: bool = False
    usual: bool = True


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


def ours(composite: str | None, *, compiled: bool = False, **options: Any) -> Any:
    def make(network: Network, model: nn.Module) -> Call:
        try:
            lrp = LRPFx(model, composite, **options)
        except OptionError as error:
            raise Absent(f"This version has no such option: {error}.") from error
        if compiled:
            if not hasattr(lrp, "compile"):
                raise Absent("This version has no `LRPFx.compile`.")
            lrp.compile()
        return lambda x: lrp.attribute(x, target=TARGET)

    return make


# --- the others ---------------------------------------------------------------------------------


def by_zennit(composite: Literal["epsilon", "epsilon_plus"]) -> Any:
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

        def call(x: Tensor) -> Tensor:
            x = x.clone().requires_grad_()
            return torch.autograd.grad(model(x)[:, TARGET].sum(), x)[0]

        return call

    return make


def by_captum(network: Network, model: nn.Module) -> Call:
    """Without any rule set it takes ε for every layer."""
    from captum.attr import LRP

    lrp = LRP(model)

    def call(x: Tensor) -> Tensor:
        relevance: Tensor = lrp.attribute(x, target=TARGET)
        return relevance.detach()

    return call


def by_autolrp(preset: Literal["epsilon", "epsilon_plus", "attn_lrp"]) -> Any:
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


IMAGES = ("convolutional", "vision transformer")
CNN = ("convolutional",)
ATTENTION = ("vision transformer", "text")


def _composite(method: str, kinds: tuple[str, ...], preset: str | None) -> list[Contestant]:
    """One of our composites in its variants."""
    variants: list[tuple[str, str, dict[str, Any], bool]] = [
        ("", "", {}, True),
        ("-gradient", ", gradient engine", {"propagation": "gradient"}, True),
        ("-compiled", ", compiled", {"compiled": True}, True),
        ("-recompute", ', memory="recompute"', {"memory": "recompute"}, False),
    ]
    return [
        Contestant(
            f"{method}{suffix}",
            "lrp_fx",
            method,
            f"lrp_fx `{method}`{words}",
            ours(preset, **options),
            kinds,
            usual=usual,
        )
        for suffix, words, options, usual in variants
    ]


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("forward", "torch", "forward", "forward pass", forward),
        Contestant("gradient", "torch", "gradient", "input gradient", gradient),
        *_composite("epsilon", IMAGES, "epsilon"),
        *_composite("epsilon_plus", CNN, "epsilon_plus"),
        *_composite("z_plus", CNN, "z_plus"),
        *_composite("attn_lrp", ATTENTION, "attn_lrp"),
        Contestant(
            "epsilon_plus-top_k",
            "lrp_fx",
            "epsilon_plus top_k",
            f"lrp_fx `epsilon_plus`, top_k={TOP_K}",
            # from one: behind a negative logit the largest values are zeros, and nothing is left to do
            ours("epsilon_plus", top_k=TOP_K, start="one_hot"),
            CNN,
        ),
        *(
            Contestant(
                f"zennit-{method}",
                "zennit",
                method,
                f"zennit `{method}`",
                by_zennit(method),
                CNN,
                alters=True,
            )
            for method in ("epsilon", "epsilon_plus")
        ),
        Contestant(
            "captum-epsilon", "Captum", "epsilon", "Captum `LRP`", by_captum, IMAGES, alters=True
        ),
        *(
            Contestant(
                f"autolrp-{method}",
                "autolrp",
                method,
                f"autolrp `{method}`",
                by_autolrp(method),
                kinds,
            )
            for method, kinds in (
                ("epsilon", IMAGES),
                ("epsilon_plus", CNN),
                ("attn_lrp", ("vision transformer",)),
            )
        ),
    )
}
REFERENCES = ("forward", "gradient")  # they run in every cell


def chosen(network: Network, only: list[str] | None) -> list[Contestant]:
    """The contestants for a network, the references first."""
    names = [*REFERENCES, *(only or [c.name for c in CONTESTANTS.values() if c.usual])]
    everyone = [CONTESTANTS[name] for name in dict.fromkeys(names)]
    return [contestant for contestant in everyone if network.kind in contestant.kinds]


def quietly() -> None:
    """The other tools warn in every call of what they do to the model; that is not our subject."""
    warnings.filterwarnings("ignore")
