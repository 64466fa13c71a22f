"""What a copy of a model has in the place of its tensors."""

from __future__ import annotations

from torch import Tensor, nn

from lrp_fx.graph import make_parameter


def own_buffer(path: str | None, tensor: Tensor) -> Tensor:
    """A tensor of its own for each of the model's; those of parameters are views of them.

    So no forward counts in the model's buffers, or gives its parameters other data. Code that writes
    to the values of parameters needs :func:`own_values`.
    """
    if not isinstance(tensor, nn.Parameter):
        return own_values(path, tensor)
    if nn.Parameter not in type(tensor).__mro__:  # of a subclass of Tensor, marked as a parameter
        return tensor
    return _parameter(tensor, tensor.detach())


def own_values(path: str | None, tensor: Tensor) -> Tensor:
    """A copy of each of the model's tensors."""
    values = tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        return _parameter(tensor, values)
    vars(values).update(vars(tensor))
    return values


def _parameter(original: nn.Parameter, values: Tensor) -> nn.Parameter:
    requires_grad = original.requires_grad and not values.is_inference()
    kind = type(original)
    if nn.Parameter in kind.__mro__:
        parameter = make_parameter(kind, values, requires_grad)
    else:
        parameter = nn.Parameter(values, requires_grad=requires_grad)
    vars(parameter).update(vars(original))
    return parameter
