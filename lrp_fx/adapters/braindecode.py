"""The signature of ``braindecode.visualization.lrp``, for networks of any layers."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor, nn

from lrp_fx.attribution import Changes, LRPFx, Target, check_names


def lrp(model: nn.Module, x: Tensor, target: Target, **options: Unpack[Changes]) -> Tensor:
    """The relevance of signals, as ``braindecode.visualization.lrp(model, x, target)`` returns it.

    braindecode's function asks Captum, which has no rule for ELU, squares, logarithms and the like.
    This one reads any network. For many calls make ``LRPFx(model)`` once and use its ``attribute``.

    Args:
        model: the network; it is only read.
        x: ``(N, channels, times)``, of the model's dtype and on its device.
        target: the class of each sample, ``(N,)``, or one for all.
        options: the options of :class:`~lrp_fx.LRPFx`, also ``composite``.

    Returns:
        Relevance of the shape of ``x``, without a gradient.

    Raises:
        LRPError: the errors of :meth:`lrp_fx.LRPFx.attribute`.
    """
    check_names("lrp", options)
    return LRPFx(model, **options).attribute(x, target)
