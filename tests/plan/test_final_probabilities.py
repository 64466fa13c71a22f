"""Final probabilities are explained at their logits, in every spelling."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.errors import InputError
from tests.helpers.closeness import QUOTIENTS, assert_close
from tests.helpers.meanings import Function, share
from tests.helpers.numbers import numbers

PROBABILITIES: dict[str, tuple[Function, Function]] = {
    "softmax": (lambda z: z.softmax(1), lambda z: z),
    "cast": (lambda z: z.softmax(1).float(), lambda z: z.float()),
    "clamp": (lambda z: z.softmax(1).clamp(1e-7, 1 - 1e-7), lambda z: z),
    "log": (lambda z: z.softmax(1).log(), lambda z: z),
    "safe log": (lambda z: torch.log(z.softmax(1) + 1e-9), lambda z: z),
    "log_softmax, scaled": (lambda z: 0.5 * F.log_softmax(z, 1), lambda z: z),
    "scaled": (lambda z: 100 * z.softmax(1), lambda z: z),
    "exp / sum": (share, lambda z: z),
    "exp(log_softmax)": (lambda z: F.log_softmax(z, 1).exp(), lambda z: z),
    "z - logsumexp": (lambda z: z - z.logsumexp(1, keepdim=True), lambda z: z),
    "1 / (1 + exp(-z))": (lambda z: 1 / (1 + torch.exp(-z)), lambda z: z),
    "(1 + tanh(z / 2)) / 2": (lambda z: (1 + torch.tanh(z / 2)) / 2, lambda z: z),
    "select": (lambda z: torch.sigmoid(z)[:, 0], lambda z: z[:, 0]),
    "slice": (lambda z: torch.sigmoid(z)[:, -3:], lambda z: z[:, -3:]),
    "transpose": (lambda z: z.softmax(1).unsqueeze(1).transpose(1, 2), lambda z: z.unsqueeze(2)),
    "flip": (lambda z: torch.sigmoid(z).flip(1), lambda z: z.flip(1)),
    "unbind": (lambda z: torch.sigmoid(z).unbind(1)[1], lambda z: z[:, 1]),
    "chunks again": (lambda z: torch.cat(torch.sigmoid(z).chunk(2, 1), 1), lambda z: z),
    "complement": (lambda z: 1 - torch.sigmoid(z), lambda z: -z),
    "complement of a view": (lambda z: 1 - torch.sigmoid(z).flip(1), lambda z: -z.flip(1)),
    "twice the complement": (lambda z: 1 - (1 - torch.sigmoid(z)), lambda z: z),
    "surprisal": (lambda z: -torch.log(torch.sigmoid(z)), lambda z: -z),
    "log of the complement": (lambda z: torch.log(1 - torch.sigmoid(z)), lambda z: -z),
    "both": (
        lambda z: torch.stack([1 - torch.sigmoid(z[:, 0]), torch.sigmoid(z[:, 0])], 1),
        lambda z: torch.stack([-z[:, 0], z[:, 0]], 1),
    ),
    "log-odds": (lambda z: z.sigmoid().log() - (1 - z.sigmoid()).log(), lambda z: z),
    "log-odds of logsigmoids": (lambda z: F.logsigmoid(z) - F.logsigmoid(-z), lambda z: z),
    "log of the odds": (lambda z: torch.log(z.sigmoid() / (1 - z.sigmoid() + 1e-9)), lambda z: z),
    "odds": (lambda z: z.sigmoid() / (1 - z.sigmoid()), lambda z: z),
    "odds by the other": (lambda z: z.sigmoid() / torch.sigmoid(-z), lambda z: z),
    "logit": (lambda z: torch.logit(z.sigmoid()), lambda z: z),
    "safe logit": (lambda z: torch.logit(z.sigmoid().clamp(1e-6, 1 - 1e-6)), lambda z: z),
    "log(1 / p - 1)": (lambda z: -torch.log(1 / z.sigmoid() - 1), lambda z: z),
    "squeezed odds": (
        lambda z: z.sigmoid()[:, :1].squeeze(1) / (1 - z.sigmoid())[:, :1].squeeze(1),
        lambda z: z[:, 0],
    ),
    "surprisal of the complement": (lambda z: -torch.log1p(-z.sigmoid()), lambda z: z),
    "cloglog": (lambda z: torch.log(-torch.log(1 - z.sigmoid())), lambda z: z),
    "difference of logarithms": (
        lambda z: F.log_softmax(z, 1)[:, 1] - F.log_softmax(z, 1)[:, 0],
        lambda z: z[:, 1] - z[:, 0],
    ),
    "negative difference": (
        lambda z: -z.softmax(1)[:, 1].log() + z.softmax(1)[:, 0].log(),
        lambda z: z[:, 0] - z[:, 1],
    ),
    "log of a ratio": (
        lambda z: 2 * torch.log(z.softmax(1)[:, 1:] / (z.softmax(1)[:, :1] + 1e-9))[:, 0],
        lambda z: z[:, 1] - z[:, 0],
    ),
    "unbound ratio": (
        lambda z: torch.div(*z.softmax(1).unbind(1)),
        lambda z: z[:, 0] - z[:, 1],
    ),
    "shares again": (lambda z: z.softmax(1) / z.softmax(1).sum(1, keepdim=True), lambda z: z),
    "masked_fill": (
        lambda z: z.softmax(1).masked_fill(torch.tensor([False, True]), 0.0),
        lambda z: z * torch.tensor([1.0, 0.0]),
    ),
    "where": (
        lambda z: torch.where(torch.tensor([True, False]), z.sigmoid(), 0.0),
        lambda z: z * torch.tensor([1.0, 0.0]),
    ),
    "masked shares": (
        lambda z: F.normalize(z.softmax(1) * 1.0, p=1, dim=1),
        lambda z: z,
    ),
    "temperature": (lambda z: (z / 2.5).softmax(1), lambda z: z / 2.5),
    "z and 0": (
        lambda z: torch.stack([z[:, 1], torch.zeros_like(z[:, 1])], 1).softmax(1),
        lambda z: torch.stack([z[:, 1], -z[:, 1]], 1),
    ),
    "log(exp / sum)": (lambda z: z - z.exp().sum(1, keepdim=True).log(), lambda z: z),
    "log of the sum, shifted": (
        lambda z: z - z.amax(1, True) - (z - z.amax(1, True)).exp().sum(1, keepdim=True).log(),
        lambda z: z,
    ),
    "logsumexp written out": (
        lambda z: z - (z.amax(1, True) + (z - z.amax(1, True)).exp().sum(1, True).log()),
        lambda z: z,
    ),
    "several heads": (
        lambda z: torch.cat([z.softmax(1), torch.sigmoid(z)], 1),
        lambda z: torch.cat([z, z], 1),
    ),
    "left: 2 sigmoid - 1": (lambda z: 2 * torch.sigmoid(z) - 1, lambda z: 2 * torch.sigmoid(z) - 1),
    "left: tanh": (torch.tanh, torch.tanh),
    "left: mean": (lambda z: z.softmax(1).mean(1), lambda z: z.softmax(1).mean(1)),
    "left: product": (lambda z: z.softmax(1) * z, lambda z: z.softmax(1) * z),
    "left: a wide clamp": (
        lambda z: z.sigmoid().clamp(0, 0.5),
        lambda z: z.sigmoid().clamp(0, 0.5),
    ),
    "left: a wide clamp from below": (
        lambda z: z.sigmoid().clamp(0.5, 1),
        lambda z: z.sigmoid().clamp(0.5, 1),
    ),
    **{
        f"left: {name}": (end, end)
        for name, end in {
            "log of a shifted one": lambda z: (1 + z.sigmoid()).log(),
            "padded": lambda z: F.pad(z.sigmoid(), (1, 0)),
            "variance": lambda z: z.sigmoid() * (1 - z.sigmoid()),
            "shares of sigmoids": lambda z: z.sigmoid() / z.sigmoid().sum(1, keepdim=True),
            "p - (1 - p)": lambda z: z.sigmoid() - (1 - z.sigmoid()),
            "log of two sigmoids": lambda z: F.logsigmoid(z)[:, 0] - F.logsigmoid(z)[:, 1],
            "log of another softmax": lambda z: (
                z.softmax(1)[:, 0].log() - (2 * z).softmax(1)[:, 1].log()
            ),
            "other weights": lambda z: 2 * z.softmax(1)[:, 0].log() - z.softmax(1)[:, 1].log(),
            "beside another": lambda z: torch.cat([z.sigmoid(), z], 1),
        }.items()
    },
}


class Ending(nn.Module):
    def __init__(self, end: Function, several: bool = False) -> None:
        super().__init__()
        self.fc, self.end, self.several = nn.Linear(3, 2), end, several
        nn.init.normal_(self.fc.weight, generator=torch.Generator().manual_seed(2))

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        z = self.fc(x)
        return {"features": z, "p": self.end(z)} if self.several else self.end(z)


@pytest.mark.parametrize("name", PROBABILITIES)
def test_final_probabilities_are_explained_at_their_logits(name: str) -> None:
    end, logits = PROBABILITIES[name]
    x = numbers(3, 3)
    model = Ending(end).double()
    lrp, right = LRPFx(model, "zero"), logits(model.fc(x)).detach()
    for _ in range(2):  # the nodes of the first call are those of the second
        assert_close(lrp.explained_output(x), right, QUOTIENTS)
    target = None if right.dim() == 1 else (1,) + (0,) * (right.dim() - 2)
    bare = LRPFx(Ending(logits).double(), "zero")
    if not name.startswith("left"):  # else the logits of the right answer would be left out too
        bare_model = Ending(logits).double()
        bare_model.load_state_dict(model.state_dict())
        bare = LRPFx(bare_model, "zero")
        assert_close(lrp.attribute(x, target=target), bare.attribute(x, target=target), QUOTIENTS)
    assert ("before the model's" in str(lrp.plan(x))) == (
        not name.startswith("left") and "last operation (" not in str(lrp.plan(x))
    )


@pytest.mark.parametrize(
    "name",
    [
        *("softmax", "exp / sum", "temperature", "shares again", "log", "logsumexp written out"),
        *("1 / (1 + exp(-z))", "complement", "both", "z and 0", "slice", "flip", "surprisal"),
    ],
)
def test_probabilities_are_those_of_the_model(name: str) -> None:
    """Whether the classes exclude each other (softmax) or not (sigmoid) is read from the model."""
    x = numbers(3, 3)
    model = Ending(PROBABILITIES[name][0]).double()
    ours, theirs = LRPFx(model, "zero").probabilities(x), model(x).detach()
    if name in ("log", "logsumexp written out"):
        theirs = theirs.exp()
    elif name == "surprisal":  # it falls with the probability: the logits are negated
        theirs = 1 - (-theirs).exp()
    assert_close(ours, theirs, QUOTIENTS)


def test_probabilities_need_classes() -> None:
    lrp = LRPFx(Ending(lambda z: z[:, 0]).double(), "zero")
    with pytest.raises(InputError, match=r"\(3,\) has no classes"):
        lrp.probabilities(numbers(3, 3))


def test_one_of_several_outputs_is_explained_at_its_logits() -> None:
    x, model = numbers(3, 3), Ending(lambda z: torch.sigmoid(z)[:, :1].squeeze(1), True).double()
    lrp = LRPFx(model, "zero", output="p")
    assert_close(lrp.explained_output(x), model.fc(x)[:, 0].detach(), QUOTIENTS)
    text = str(lrp.plan(x))
    assert "the logits before the model's last operations (squeeze, slice, sigmoid)" in text
    falling = LRPFx(Ending(lambda z: -torch.sigmoid(z)).double(), "zero").plan(x)
    assert "the logits, negated, before" in str(falling)
