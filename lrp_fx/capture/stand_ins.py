"""The tensors that replace a model's own tensors in a copy of the model."""

from __future__ import annotations

from torch import Tensor, nn

from lrp_fx.graph import make_parameter


def own_buffer(path: str | None, tensor: Tensor) -> Tensor:
    """A new tensor for one of the model's: a copy of a buffer, or a view of a parameter.

    So a forward pass cannot change the model's buffers or replace the data of its parameters. Code
    that writes to the values of parameters, or to their gradients, needs :func:`own_values` instead.
    """
    if not isinstance(tensor, nn.Parameter):
        return own_values(path, tensor)
    if nn.Parameter not in type(tensor).__mro__:  # a marked subclass of Tensor
        return tensor
    return _parameter(tensor, tensor.detach(), tensor.grad)


def own_values(path: str | None, tensor: Tensor) -> Tensor:
    """A copy of one of the model's tensors, with values and attributes of its own."""
    values = tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        return _parameter(tensor, values, None if tensor.grad is None else tensor.grad.clone())
    vars(values).update(vars(tensor))
    return values


def _parameter(original: nn.Parameter, values: Tensor, grad: Tensor | None) -> nn.Parameter:
    requires_grad = original.requires_grad and not values.is_inference()
    kind = type(original)
    if nn.Parameter in kind.__mro__:
        parameter = make_parameter(kind, values, requires_grad)
    else:
        parameter = nn.Parameter(values, requires_grad=requires_grad)
    vars(parameter).update(vars(original))
    parameter.grad = None if grad is None else grad.detach()
    return parameter
