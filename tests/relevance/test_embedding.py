"""Look-ups of columns, hashes and shifted words: relevance goes back to the indices by adjoints."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_fx import LayerLRPFx, LRPFx, NeuronLRPFx, composites, rules
from lrp_fx.composites import Composite
from lrp_fx.errors import InputError
from tests.helpers.closeness import QUOTIENTS, STABILIZED, assert_close
from tests.helpers.numbers import numbers

ENGINES = ["direct", "gradient"]

IDS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3], [5, 8, 9, 7, 9]])


class Reader(nn.Module):
    """Looks up what ``arrange`` makes of the tokens; the positions are told apart."""

    def __init__(self, arrange: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.arrange, self.embedding = arrange, nn.Embedding(64, 6)
        self.head = nn.Linear(6, 3, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        e = torch.relu(self.embedding(self.arrange(tokens)))
        e = e.reshape(tokens.shape[0], -1, 6)
        return self.head((e * torch.arange(1.0, e.shape[1] + 1).to(e)[:, None]).sum(1))


def constant_first(x: Tensor) -> Tensor:
    return torch.cat([torch.full_like(x[:, :1], 7), x[:, :-1]], 1)


def spread_of_first(r: Tensor) -> Tensor:
    """What a constant first word looked up, in equal shares to the others, which stood before them."""
    return F.pad(r[:, 1:] + r[:, :1] / (r.shape[1] - 1), (0, 1))


def shifted(x: Tensor) -> Tensor:
    moved = x.new_zeros(x.shape)
    moved[:, 1:] = x[:, :-1].clone()
    moved[:, 0] = 1
    return moved.masked_fill(moved == 9, 0)


def written(x: Tensor) -> Tensor:
    x = x.clone()
    x[x == 9] = 0
    return x


BACK = torch.arange(5).flip(0).expand(3, 5)


def reversed_by(name: str) -> Callable[[Tensor], Tensor]:
    """The tokens from the last to the first, by one of the operations that place entries."""

    def arrange(x: Tensor) -> Tensor:
        back, zeros = BACK[: len(x)].contiguous(), torch.zeros_like(x)
        if name == "take":
            return x.take(back + 5 * torch.arange(len(x))[:, None])
        if name == "take_along_dim":
            return x.take_along_dim(back[:1], 1)
        if name in ("scatter", "scatter_add"):
            return getattr(zeros, name)(1, back, x)
        if name == "index_put":
            return zeros.index_put((torch.arange(len(x))[:, None], back), x)
        return getattr(zeros, name)(1, back[0], x)

    return arrange


def chosen_twin(r: Tensor, is_own: Tensor) -> Tensor:
    return r * is_own + (r * ~is_own).flip(1)


PRIMES = torch.tensor([31, 7])


def halves(r: Tensor) -> Tensor:
    """To each of two neighbours half of what both looked up."""
    return F.pad(r / 2, (1, 0)) + F.pad(r / 2, (0, 1))


def added_in_place(x: Tensor) -> Tensor:
    hashed = x * 7
    hashed[:, 1:] += x[:, :-1] * 31
    return hashed[:, 1:] % 64


# what the tokens become, and the adjoint: the look-up's relevance (N, …) back to (N, T)
ARRANGEMENTS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "flip": (lambda x: x.flip(1), lambda r: r.flip(1)),
    "constant first": (constant_first, spread_of_first),
    "constant padded": (lambda x: F.pad(x[:, :-1], (1, 0), value=7), spread_of_first),
    "constants around": (
        lambda x: F.pad(x, (2, 1), value=7),
        lambda r: r[:, 2:-1] + r[:, [0, 1, -1]].sum(1, keepdim=True) / 5,
    ),
    "constants stacked": (
        lambda x: torch.stack([x, torch.ones_like(x), x], 2),
        lambda r: r.sum(2),
    ),
    "shifted right": (shifted, lambda r: spread_of_first(r * (constant_first(IDS) != 9))),
    "all of a row constant": (
        lambda x: torch.cat([x, torch.ones_like(x)], 1).unflatten(1, (2, 5)),
        lambda r: r[:, 0] + r[:, 1].sum(1, keepdim=True) / 5,
    ),
    "offset": (lambda x: x + torch.arange(5) * 3, lambda r: r),
    "hash": (lambda x: (x * 31 + 7) % 64, lambda r: r),
    "bucket": (lambda x: x // 4 + 1, lambda r: r),
    "bits": (lambda x: (x & 7) ^ 3, lambda r: r),
    "clamped": (lambda x: x.clamp(2, 6), lambda r: r),
    "cast and back": (lambda x: (x.double() / 2).floor().long(), lambda r: r),
    "bins": (lambda x: torch.bucketize(x, torch.tensor([2, 4, 8])), lambda r: r),
    "padding": (
        lambda x: torch.where(x > 4, x, torch.zeros_like(x)),
        lambda r: r * (IDS > 4),
    ),
    "bigrams": (
        lambda x: (x[:, 1:] * 7 + x[:, :-1]) % 64,
        halves,
    ),
    "trigrams by a sum": (
        lambda x: x.unfold(1, 3, 1).sum(-1),
        lambda r: sum(F.pad(r / 3, (k, 2 - k)) for k in range(3)),
    ),
    **{
        f"weighted sum of two by {name}": (lambda x, f=f: f(x.unfold(1, 2, 1)) % 64, halves)
        for name, f in {
            "sum": lambda w: (w * PRIMES).sum(-1),
            "@": lambda w: w @ PRIMES,
            "matmul": lambda w: torch.matmul(w, PRIMES),
            "einsum": lambda w: torch.einsum("nti,i->nt", w, PRIMES),
            "tensordot": lambda w: torch.tensordot(w, PRIMES, 1),
            "@ in floats": lambda w: (w.double() @ PRIMES.double()).long(),
            "sum in floats": lambda w: (w.double() * PRIMES).sum(-1).long(),
        }.items()
    },
    "weighted sum of two by a matrix": (
        lambda x: (x @ (31 * torch.eye(5) + 7 * torch.eye(5).roll(1, 0)).long()[:, :4]) % 64,
        halves,
    ),
    "weighted sum of two by conv1d": (
        lambda x: F.conv1d(x[:, None].double(), PRIMES.double().view(1, 1, 2))[:, 0].long() % 64,
        halves,
    ),
    "difference of two": (lambda x: torch.diff(x, dim=1) % 64, halves),
    "added in place to a slice": (added_in_place, halves),
    "product of two": (lambda x: x.unfold(1, 2, 1).prod(-1) % 64, halves),
    "product of all": (
        lambda x: x.prod(1, keepdim=True) % 61,
        lambda r: r.expand(3, 5) / 5,
    ),
    "running product": (lambda x: x.unfold(1, 2, 1).cumprod(-1)[..., 1] % 61, halves),
    "complement": (lambda x: ~x & 63, lambda r: r),
    "complement of one of two": (lambda x: (x[:, :-1] * 31 ^ ~x[:, 1:]) % 64, halves),
    "power of a constant": (lambda x: 2**x % 61, lambda r: r),
    "power of a tensor": (lambda x: torch.tensor([3]).pow(x) % 61, lambda r: r),
    "power of one by the other": (lambda x: x[:, :-1] ** x[:, 1:] % 61, halves),
    "two of the columns": (
        lambda x: torch.stack([x[:, 1], x[:, 3]], 1),
        lambda r: torch.stack([r[:, 0] * 0, r[:, 0], r[:, 0] * 0, r[:, 1], r[:, 0] * 0], 1),
    ),
    "written by a mask": (written, lambda r: r * (IDS != 9)),
    **{
        f"reversed by {name}": (reversed_by(name), lambda r: r.flip(1))
        for name in (
            *("take", "take_along_dim", "scatter", "scatter_add"),
            *("index_put", "index_copy", "index_add"),
        )
    },
    "no larger than a constant": (lambda x: torch.minimum(x, torch.tensor(6)), lambda r: r),
    "the larger of two": (
        lambda x: torch.maximum(x, x.flip(1)),
        lambda r: chosen_twin(r, IDS.flip(1) <= IDS),
    ),
    "the largest": (
        lambda x: x.amax(1, keepdim=True),
        lambda r: torch.zeros(3, 5).to(r).scatter(1, IDS.argmax(1, keepdim=True), r),
    ),
    "common divisor": (lambda x: torch.gcd(x, torch.tensor(6)), lambda r: r),
    "lower triangle": (lambda x: x.tril(1), lambda r: r.tril(1)),
    "sorted": (
        lambda x: x.sort(1).values,
        lambda r: torch.zeros_like(r).scatter(1, IDS.sort(1).indices, r),
    ),
}


def reader(arrange: Callable[[Tensor], Tensor]) -> nn.Module:
    torch.manual_seed(0)
    return Reader(arrange).double().eval()


@cache
def carried_back(name: str) -> Tensor:
    """The embedding's own relevance, carried back by hand."""
    arrange, back = ARRANGEMENTS[name]
    return back(LayerLRPFx(reader(arrange), "embedding").attribute(IDS, 1).sum(-1))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_tokens_get_what_their_look_ups_got(name: str, engine: Any) -> None:
    """The embedding's own relevance, carried back by hand; sample by sample too; the ledger closes."""
    lrp = LRPFx(reader(ARRANGEMENTS[name][0]), propagation=engine)
    mine, expected = lrp.attribute(IDS, 1), carried_back(name)
    assert mine.shape == IDS.shape
    assert mine.dtype == torch.float64
    assert mine.any()
    assert_close(mine, expected, QUOTIENTS)
    assert lrp.audit(IDS, 1).closes()
    if engine == "direct" and name not in ("shifted right", "lower triangle"):
        single = torch.cat([lrp.attribute(IDS[i : i + 1], 1) for i in range(3)])
        assert (mine - single).abs().max() <= QUOTIENTS * mine.abs().max()


def test_constant_words_can_keep_their_share() -> None:
    """With ``Route`` the relevance of a constant word stays with it, and the ledger says so."""
    model = reader(constant_first)
    lines = [(composites.operation("routing"), rules.Route()), (nn.Linear, rules.Epsilon())]
    composite = Composite(lines, strict=False)
    lrp = LRPFx(model, composite)
    mine = lrp.attribute(IDS, 1)
    features = LayerLRPFx(model, "embedding", composite).attribute(IDS, 1).sum(-1)
    assert torch.allclose(mine, F.pad(features[:, 1:], (0, 1)), rtol=QUOTIENTS)
    ledger = lrp.audit(IDS, 1)
    assert ledger.closes()
    booked = torch.tensor(ledger.taken["constant"], dtype=torch.double)
    assert torch.allclose(booked, features[:, 0])


def bag_by_offsets(x: Tensor, table: Tensor) -> Tensor:
    starts = torch.arange(0, x.numel(), x.shape[1])
    return F.embedding_bag(x.reshape(-1), table, starts, mode="mean")


# look-ups of a table (64, 6), each (N, 6), and the same by one embedding
LOOK_UPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "F.embedding": lambda x, w: F.embedding(x, w).mean(1),
    "table[x]": lambda x, w: w[x].mean(1),
    "index_select": lambda x, w: w.index_select(0, x.reshape(-1)).reshape(*x.shape, 6).mean(1),
    "gather": lambda x, w: torch.gather(
        w.unsqueeze(0).expand(len(x), -1, -1), 1, x.unsqueeze(-1).expand(-1, -1, 6)
    ).mean(1),
    "columns of the table": lambda x, w: w.t()[:, x].mean(2).t(),
    "one_hot": lambda x, w: (F.one_hot(x, 64).to(w.dtype) @ w).mean(1),
    "embedding_bag": bag_by_offsets,
    "take_along_dim": lambda x, w: torch.take_along_dim(w[None], x.unsqueeze(-1), 1).mean(1),
    "take": lambda x, w: w.take(x.unsqueeze(-1) * 6 + torch.arange(6)).mean(1),
    "one_hot by scatter": lambda x, w: (
        torch.zeros(*x.shape, 64).to(w).scatter(2, x.unsqueeze(-1), 1.0) @ w
    ).mean(1),
    "counts of words": lambda x, w: (
        torch.zeros(len(x), 64).to(w).scatter_add(1, x, torch.ones_like(x).to(w)) @ w / x.shape[1]
    ),
    "counts by index_put": lambda x, w: (
        torch.zeros(len(x), 64)
        .to(w)
        .index_put((torch.arange(len(x))[:, None], x), torch.ones(()).to(w), accumulate=True)
        @ w
        / x.shape[1]
    ),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", LOOK_UPS)
def test_spellings_of_a_look_up_give_one_map(name: str, engine: Any) -> None:
    class Model(nn.Module):
        def __init__(self, look_up: Callable[[Tensor, Tensor], Tensor]) -> None:
            super().__init__()
            self.look_up = look_up
            self.table = nn.Parameter(numbers(64, 6))
            self.head = nn.Linear(6, 3, bias=False)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(torch.relu(self.look_up(tokens, self.table)))

    maps = []
    for look_up in (LOOK_UPS["F.embedding"], LOOK_UPS[name]):
        torch.manual_seed(0)
        model = Model(look_up).double().eval()
        lrp = LRPFx(model, "epsilon", propagation=engine)
        maps.append(lrp.attribute(IDS, 1))
        assert lrp.audit(IDS, 1).closes()
    assert (maps[0] - maps[1]).abs().max() <= STABILIZED * maps[0].abs().max()


class Table(nn.Module):
    """Categories and numbers of one float table; level is both."""

    def __init__(self) -> None:
        super().__init__()
        self.color, self.level = nn.Embedding(3, 2), nn.Embedding(4, 2)
        self.numbers = nn.Linear(4, 4, bias=False)
        self.head = nn.Linear(8, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        looked_up = [self.color(x[:, 0].long()), self.level(x[:, 1].int())]
        return self.head(torch.cat([*looked_up, torch.relu(self.numbers(x[:, 1:]))], 1))


@pytest.mark.parametrize("capture", ["auto", "export", "record"])
def test_categories_and_numbers_of_one_table(capture: str) -> None:
    """Columns get their embeddings' relevance, numbers input × gradient, and one that is both the sum."""
    torch.manual_seed(0)
    model = Table().double().eval()
    x = torch.cat([torch.tensor([[0.0, 3.0], [2.0, 1.0]]).double(), numbers(2, 3)], 1)
    mine = LRPFx(model, "zero", capture=capture).attribute(x, 1)
    color, level = LayerLRPFx(model, ["color", "level"], "zero").attribute(x, 1)
    leaf = x.clone().requires_grad_()
    model(leaf)[:, 1].sum().backward()
    assert leaf.grad is not None
    expected = (leaf * leaf.grad).detach()
    expected[:, 0] += color.sum(1)
    expected[:, 1] += level.sum(1)
    assert_close(mine, expected, QUOTIENTS)


def test_look_ups_of_one_input_add_up() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.item = nn.Embedding(64, 4), nn.Embedding(64, 4)
            self.net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))

        def forward(self, ids: Tensor) -> Tensor:
            both = self.user(ids[:, 0]) * self.item(ids[:, 1])
            return self.net(torch.cat([both, self.item(ids[:, 0])], 1))

    torch.manual_seed(0)
    model = Twice().double().eval()
    lrp = LRPFx(model)
    mine = lrp.attribute(IDS[:, :2], 1)
    items = [LayerLRPFx(model, f"item#{call}").attribute(IDS[:, :2], 1).sum(1) for call in (0, 1)]
    user = LayerLRPFx(model, "user").attribute(IDS[:, :2], 1).sum(1)
    expected = torch.stack([user + items[1], items[0]], 1)
    assert_close(mine, expected, QUOTIENTS)
    assert lrp.audit(IDS[:, :2], 1).closes()


def test_two_indices_of_one_table_share() -> None:
    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Parameter(numbers(10, 10, 4)), nn.Linear(4, 2)

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.table[ids[:, 0], ids[:, 1]])

    mine = LRPFx(Pairs().double().eval()).attribute(IDS[:, :2], 1)
    assert torch.equal(mine[:, 0], mine[:, 1])
    assert mine.any()


class Codebook(nn.Module):
    """Quantizes by the nearest row, and goes on with the values as well."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.head = nn.Parameter(numbers(5, 4)), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores = x @ self.rows.t()
        return self.head(x + self.rows[scores.argmax(1)])


def test_places_carry_nothing_and_the_plan_says_so() -> None:
    model, x = Codebook().double().eval(), numbers(3, 4)
    lrp = LRPFx(model)
    assert lrp.attribute(x, 1).shape == x.shape
    assert any(note.startswith("places:") and "argmax" in note for note in lrp.plan(x).notes)


ENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "eq": lambda x: (x[:, :1] == torch.arange(64)).double(),
    "view": lambda x: torch.arange(256.0).double()[x.view(torch.uint8)[:, ::8].long()],
    "index_add": lambda x: (
        torch.zeros(64).double().index_add(0, x[0], torch.ones(5).double())[None]
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_carries_nothing_is_said_beside_a_look_up(name: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(64, 6)

        def forward(self, x: Tensor) -> Tensor:
            ends = ENDS[name](x).sum(1, keepdim=True)
            return self.embedding(x).mean(1) + ends

    model = Model().double().eval()
    notes = [note for note in LRPFx(model).plan(IDS).notes if note.startswith("places:")]
    assert len(notes) == 1
    assert name in notes[0]


def test_halves_of_bigrams_are_said() -> None:
    model = Reader(ARRANGEMENTS["bigrams"][0]).double().eval()
    assert "which get half each" in str(LRPFx(model).plan(IDS))


class Flagged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(3, 4), nn.Linear(4, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embedding((ids > 4).long()).mean(1))


def test_where_relevance_ends_is_named() -> None:
    """The operation, the module and the line; and a layer above it can be explained, as is said."""
    model = Flagged().double().eval()
    with pytest.raises(
        InputError, match=r"gt in the model's own forward \(.*test_embedding"
    ) as caught:
        LRPFx(model).attribute(IDS, 1)
    assert "LayerLRPFx(model, layer)" in str(caught.value)
    mine = LayerLRPFx(model, "embedding").attribute(IDS, 1)
    assert mine.shape == (3, 5, 4)
    assert mine.any()


def test_rows_that_are_scaled_before_they_are_looked_up() -> None:
    torch.manual_seed(0)
    scaled = nn.Sequential(nn.Embedding(64, 6, max_norm=1.0), nn.Flatten(), nn.Linear(30, 2))
    scaled = scaled.double().eval()
    mine = LRPFx(scaled).attribute(IDS, 1)
    with torch.no_grad():
        scaled(IDS)  # leaves scaled rows behind
    scaled[0].max_norm = None
    expected = LRPFx(scaled).attribute(IDS, 1)
    assert_close(mine, expected, QUOTIENTS)


def test_an_integer_input_without_relevance_is_an_error() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.head(x * (mask > 0).to(x.dtype))

    model, x, mask = Masked().double().eval(), numbers(2, 4), torch.ones(2, 4).long()
    with pytest.raises(InputError, match=r"input 1 has dtype torch\.int64"):
        LRPFx(model).attribute((x, mask), 1)
    assert LRPFx(model).attribute(x, 1, additional_forward_args=(mask,)).any()


def test_other_errors_of_token_models_say_what_they_are() -> None:
    model = Reader(lambda x: x).double().eval()
    with pytest.raises(InputError, match="no module or node 'nowhere'"):
        NeuronLRPFx(model, "nowhere").attribute(IDS, 1)
    with pytest.raises(InputError, match="model itself fails"):
        LRPFx(model).attribute(IDS + 100, 1)


def test_integers_as_numbers() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(5, 2, bias=False)

        def forward(self, counts: Tensor) -> Tensor:
            return self.head(counts.double())

    model = Counts().double().eval()
    mine = LRPFx(model, "zero").attribute(IDS, 1)
    expected = (IDS * model.head.weight[1]).detach()
    assert_close(mine, expected, QUOTIENTS)


def test_derivatives_files_and_filters_of_rearranged_tokens(tmp_path: Any) -> None:
    model = Reader(ARRANGEMENTS["bigrams"][0]).double().eval()
    lrp = LRPFx(model)
    plain = lrp.attribute(IDS, 1)
    graph = lrp.attribute(IDS, 1, create_graph=True)
    graph.abs().sum().backward()
    assert model.embedding.weight.grad is not None
    assert model.embedding.weight.grad.any()
    assert (graph.detach() - plain).abs().max() <= QUOTIENTS * plain.abs().max()
    many = lrp.attribute_many(IDS, [0, 1])
    assert_close(many[1], plain, QUOTIENTS)
    lrp.export(IDS, path=tmp_path / "tokens.pt2")
    loaded = torch.export.load(tmp_path / "tokens.pt2").module()
    _, relevance = loaded(IDS, torch.ones(3, dtype=torch.long))
    assert_close(relevance, plain, QUOTIENTS)
    filtered = LRPFx(model, top_k=0.5)
    single = torch.cat([filtered.attribute(IDS[i : i + 1], 1) for i in range(3)])
    assert (filtered.attribute(IDS, 1) - single).abs().max() <= QUOTIENTS * plain.abs().max()


def test_a_look_up_at_places_is_no_constant() -> None:
    """What was written by a mask gets nothing itself, and must not give its share to another look-up."""

    class Two(nn.Module):
        def __init__(self, masked: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.words, self.groups = nn.Embedding(9, 4), nn.Embedding(3, 4)
            self.out, self.masked = nn.Linear(4, 2, bias=False), masked

        def forward(self, ids: Tensor) -> Tensor:
            return self.out((self.words(self.masked(ids)) + self.groups(ids % 3)).mean(1))

    def written(ids: Tensor) -> Tensor:
        ids = ids.clone()
        ids[ids == 3] = 0
        return ids

    ids = torch.tensor([[5, 1, 3, 7, 2]])
    shares = []
    for masked in (written, lambda ids: torch.where(ids == 3, torch.zeros_like(ids), ids)):
        torch.manual_seed(0)
        model = Two(masked).double()
        shares.append(LayerLRPFx(model, "groups", "zero").attribute(ids, 1))
    torch.testing.assert_close(*shares)


def test_words_in_one_row_with_offsets() -> None:
    """The error says what to do, and that works."""

    class Bags(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag = nn.EmbeddingBag(9, 4, mode="sum", padding_idx=0)
            self.head = nn.Linear(4, 3)

        def forward(self, words: Tensor, offsets: Tensor | None = None) -> Tensor:
            return self.head(self.bag(words, offsets))

    net, words, offsets = Bags().eval(), torch.tensor([1, 2, 4, 5, 3]), torch.tensor([0, 2])
    with pytest.raises(InputError, match="additional_forward_args"):
        LRPFx(net).attribute((words, offsets), 1)
    with pytest.raises(InputError, match=r"as \(N, T\): nn.EmbeddingBag .* padding_idx"):
        LRPFx(net).attribute(words, 1, (offsets,))
    padded = torch.tensor([[1, 2, 0], [4, 5, 3]])
    assert torch.equal(net(padded), net(words, offsets))
    assert LRPFx(net).audit(padded, 1).closes()
