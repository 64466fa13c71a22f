"""Operations that the user describes: by ``unknown=``, and by ``operations.register``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx, operations, rules
from lrp_fx.errors import InputError, OptionError, UnsupportedOperationError

X = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A layer, a function, a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.function = nn.Linear(5, 4), nn.Linear(4, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))  # type: ignore[no-any-return]


def test_a_function_may_give_the_rule() -> None:
    asked = []

    def rule(name: str) -> rules.Rule:
        asked.append(name)
        return rules.Pass()

    net = Net(torch.special.bessel_j0)
    lrp = LRPFx(net, "epsilon", unknown=rule)
    relevance = lrp.attribute(X, 1)
    (step,) = (s for s in lrp.plan(X).steps if s.chosen_by == "unknown=")
    assert step.rule == rules.Pass()
    assert set(asked) == {"special_bessel_j0"}
    upper = LRPFx(net.last, "epsilon").attribute(net.function(net.first(X)).detach(), 1)
    z = net.first(X)
    denominator = z + 1e-6 * torch.where(z < 0, -1.0, 1.0)
    expected = X * ((upper / denominator) @ net.first.weight)
    torch.testing.assert_close(relevance, expected.detach())


def test_contributions_by_a_function_are_those_of_vjp() -> None:
    net = Net(lambda z: z.var(0, keepdim=True) * z)
    by_name = LRPFx(net, "epsilon", unknown="vjp").attribute(X, 1)
    by_function = LRPFx(net, "epsilon", unknown=lambda name: rules.Epsilon()).attribute(X, 1)
    assert torch.equal(by_name, by_function)


def test_a_function_that_fails_is_blamed() -> None:
    def rule(name: str) -> rules.Rule:
        return {}[name]  # type: ignore[no-any-return]

    lrp = LRPFx(Net(torch.special.bessel_j0), "epsilon", unknown=rule)
    with pytest.raises(
        InputError, match=r"unknown=.*rule, for 'special_bessel_j0' .*failed with KeyE"
    ):
        lrp.attribute(X, 1)


@pytest.mark.parametrize("unknown", ["vjp", lambda name: rules.Epsilon()])
def test_a_refusal_names_no_option_that_was_not_given(unknown: Any) -> None:
    lrp = LRPFx(Net(lambda z: torch.lgamma(z / 10)), "epsilon", unknown=unknown)
    with pytest.raises(UnsupportedOperationError, match=r"of 'lgamma' .*: its lin") as caught:
        lrp.attribute(X * 10, 1)
    assert "vjp" not in str(caught.value)


def test_none_is_an_error_that_names_the_two_lines() -> None:
    lrp = LRPFx(Net(torch.special.bessel_j0), "epsilon", unknown=lambda name: None)
    with pytest.raises(UnsupportedOperationError, match=r'passing\("special_bessel_j0"\)'):
        lrp.attribute(X, 1)


@pytest.mark.parametrize("rule", [rules.ZPlus(), "pass", 1])
def test_other_rules_are_refused(rule: Any) -> None:
    with pytest.raises(OptionError, match="Epsilon or Pass"):
        LRPFx(Net(torch.special.bessel_j0), "epsilon", unknown=lambda name: rule).attribute(X, 1)


def test_pass_is_for_one_value_of_one_shape() -> None:
    passing = {"unknown": lambda name: rules.Pass()}
    with pytest.raises(UnsupportedOperationError, match="one value in"):
        LRPFx(Net(lambda z: torch.nextafter(z, z.flip(1))), "epsilon", **passing).attribute(X, 1)
    with pytest.raises(InputError, match="keep the shape"):
        LRPFx(Net(lambda z: torch.linalg.svdvals(z)[:1] + z), "epsilon", **passing).attribute(X, 1)


@pytest.mark.usefixtures("forgets_operations")
def test_what_the_error_advises_helps() -> None:
    """Its last two lines are Python."""
    net = Net(lambda z: torch.special.bessel_j0(torch.sinc(z)))
    with pytest.raises(UnsupportedOperationError) as caught:
        LRPFx(net, "epsilon").attribute(X, 1)
    lines = [line.strip() for line in str(caught.value).splitlines() if line.startswith("    ")]
    assert len(lines) == 2
    exec("\n".join(lines), {})
    assert LRPFx(net, "epsilon").attribute(X, 1).any()


@pytest.mark.usefixtures("forgets_operations")
def test_what_the_module_shows_first_runs() -> None:
    shown = [line.strip() for line in str(operations.__doc__).splitlines() if line[:4] == "    "]
    exec("\n".join(shown), {})
    assert {"special_bessel_j0", "special_airy_ai"} <= {*operations.known()}


@pytest.mark.usefixtures("forgets_operations")
def test_a_registered_operation_is_known() -> None:
    net = Net(torch.special.bessel_j0)
    by_function = LRPFx(net, "epsilon", unknown=lambda name: rules.Pass()).attribute(X, 1)
    operations.register(*operations.passing("special_bessel_j0"))
    assert "special_bessel_j0" in operations.known()
    assert torch.equal(LRPFx(net, "epsilon").attribute(X, 1), by_function)


@pytest.mark.usefixtures("forgets_operations")
def test_a_description_with_a_node_of_its_own() -> None:
    """As in the guide: a function with two operands, of which the first gets all."""

    class First(operations.RelevanceNode):
        def propagate(self, relevance: Tensor) -> Tensor:
            return relevance

    def write(site: operations.Site) -> operations.Received:
        operand, _ = operations.argument("self", "other")(site.node)
        return {operand: [site.call(First(), site.relevance)]}

    operations.register(
        operations.Operation(
            name="nextafter",
            kind="function",
            operands=lambda node: [operations.argument("self")(node)[0]],
            default=operations.always(rules.Pass()),
            write=write,
            alternatives=(rules.Pass,),
        )
    )
    net = Net(lambda z: torch.nextafter(z, z.flip(1)))
    ledger = LRPFx(net, "epsilon").audit(X, 1)
    assert ledger.closes()
    assert any(entry.operation == "nextafter" for entry in ledger.entries)


@pytest.mark.usefixtures("forgets_operations")
def test_what_is_described_stays() -> None:
    with pytest.raises(OptionError, match="described already"):
        operations.register(*operations.passing("relu"))
    with pytest.raises(OptionError, match="descriptions"):
        operations.register("erfc")  # type: ignore[arg-type]
