"""The data of the arena hold what their truth says."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from arena.task import pearson, precision, share, spearman
from arena.truth import deletion, eeg, geoscience, logic, patching, tetrominoes
from torch import Tensor, nn

CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # sums in float32
GATES = {"and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b}


def draw() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("gate", GATES)
def test_gates_compute_their_table(gate: logic.Gate) -> None:
    weights = torch.tensor([[2.0, -3.0]])
    bits = torch.tensor(list(itertools.product((0, 1), repeat=4)))
    outputs = [GATES[gate](bits[:, place], bits[:, place + 1]) for place in (0, 2)]
    expected = 2 * outputs[0] - 3 * outputs[1]
    found = logic.network(gate, weights)(bits.float())
    torch.testing.assert_close(found[:, 0], expected.float())


@pytest.mark.parametrize("gate", GATES)
def test_shares_are_shapley_values(gate: logic.Gate) -> None:
    """By their definition, over both orders in which the bits of a gate may come."""
    bits = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    function = GATES[gate]

    def value(a: int, b: int) -> int:
        return int(function(a, b) - function(0, 0))

    expected = [
        [
            (value(a, 0) + value(a, b) - value(0, b)) / 2,
            (value(0, b) + value(a, b) - value(a, 0)) / 2,
        ]
        for a, b in bits.tolist()
    ]
    found = logic.shares(gate, bits.float(), torch.ones(1, 1))
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("layers", [1, 2])
def test_contributions_of_linear_models_add_up(layers: int) -> None:
    task = logic.linear(20, layers)
    zeros = torch.zeros_like(task.inputs)
    output = task.model(task.inputs).gather(1, task.targets[:, None])[:, 0]
    alone = [
        task.model(zeros.index_copy(1, torch.tensor([place]), task.inputs[:, [place]]))
        for place in range(logic.FEATURES)
    ]
    truth = torch.stack([each.gather(1, task.targets[:, None])[:, 0] for each in alone], 1)
    torch.testing.assert_close(truth.sum(1), output, **CLOSE)
    score = task.measures["pearson"].score
    torch.testing.assert_close(score(lambda x, target: truth), torch.ones(20, dtype=torch.float64))
    assert score(lambda x, target: x).abs().max() < 0.999


def test_local_functions_are_continuous_and_zero_at_zero() -> None:
    local = geoscience.Local.draw(6, draw())
    assert not local(torch.zeros(1, 6)).any()
    breaks = local.breaks.T
    torch.testing.assert_close(local(breaks - 1e-4), local(breaks + 1e-4), rtol=0, atol=1e-3)


def test_local_functions_have_their_slopes() -> None:
    """Between two breaks, and beyond the last ones."""
    local = geoscience.Local.draw(6, draw())
    ends = local.breaks[:, :1] - 2, local.breaks[:, -1:] + 2
    places = torch.cat([ends[0], local.breaks, ends[1]], 1)
    values = torch.stack([local(each) for each in places.T[:, None]], 2)[0]
    torch.testing.assert_close(
        values.diff(dim=1) / places.diff(dim=1), local.slopes, atol=1e-3, rtol=1e-3
    )


def test_fields_are_correlated_as_they_should_be() -> None:
    cells = geoscience.field(20_000, draw())
    correlation = torch.corrcoef(cells.T)
    neighbours, far = correlation[0, [1, geoscience.COLUMNS - 1]].tolist()
    assert neighbours == pytest.approx(math.exp(-1 / geoscience.LENGTH), abs=0.02)
    assert far == pytest.approx(math.exp(-7 / geoscience.LENGTH), abs=0.03)


@pytest.mark.parametrize(("scenario", "noise"), tetrominoes.STRENGTH)
def test_true_pixels_are_those_that_the_label_changes(
    scenario: tetrominoes.Scenario, noise: tetrominoes.Noise
) -> None:
    """Without noise all that is there is true; without the pattern nothing tells the classes apart."""
    only = {"strength": 1.0} if scenario != "multiplicative" else {}
    data = tetrominoes.pictures(scenario, noise, 400, draw(), **only)
    sizes = data.truth.flatten(1).sum(1).unique()
    assert sizes.tolist() == [4 if scenario == "rigid" else 8]
    if scenario != "multiplicative":
        assert not data.x[data.truth == 0].any()
        for label in (0, 1):
            mean = data.x[data.labels == label].mean(0)
            assert bool(mean.abs().amax() > 0.5) == (scenario == "linear")
    assert data.x.abs().max() == 1


def test_xor_depends_on_both_shapes_together() -> None:
    x, labels, _ = tetrominoes.pictures("xor", "white", 400, draw(), strength=1.0)
    (row, column), (other_row, other_column) = tetrominoes.PLACES
    product = x[:, 0, row, column] * x[:, 0, other_row, other_column]
    assert torch.equal(product < 0, labels == 1)


def test_strong_multiplicative_patterns_quiet_the_noise() -> None:
    x, labels, truth = tetrominoes.pictures("multiplicative", "white", 400, draw(), strength=1.0)
    pixels = x[labels == 0, 0, 1, 1]
    assert not pixels.any()  # of the T
    assert x[labels == 1, 0, 1, 1].std() > 0.1
    assert truth[0, 0, 1, 1] == 1


def test_movers_score_of_known_distances() -> None:
    truth = torch.zeros(3, 1, 8, 8)
    truth[:, :, 0, 0] = 1
    relevance = torch.zeros(3, 1, 8, 8)
    relevance[0, 0, 0, 0], relevance[1, 0, 7, 7], relevance[2, 0, 0, 3] = 2.0, -1.0, 5.0
    found = tetrominoes.movers_score(relevance, truth)
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 1 - 3 / 98**0.5]).double())


def test_movers_score_moves_to_several_pixels() -> None:
    """A uniform map half on the one true pixel, half three pixels away, where the other one lies."""
    truth = torch.zeros(1, 1, 8, 8)
    truth[..., 0, 0] = truth[..., 0, 3] = 1
    relevance = torch.zeros(1, 1, 8, 8)
    relevance[..., 0, 0] = 1
    assert tetrominoes.movers_score(relevance, truth).item() == pytest.approx(1 - 1.5 / 98**0.5)


def test_planted_sources_lie_where_the_truth_says() -> None:
    data = eeg.trials(40, draw())
    energy = data.planted.square()
    inside = (energy * data.truth).flatten(1).sum(1) / energy.flatten(1).sum(1)
    assert inside.min() > 0.6
    times = data.truth.amax((1, 2)).bool()
    assert not data.planted.abs().amax((1, 2))[~times].any()
    assert data.truth.mean() < 0.1


def test_bursts_have_the_frequency_of_their_class() -> None:
    labels = torch.arange(eeg.CLASSES)
    spectrum = torch.fft.rfft(eeg.bursts(labels, draw())).abs()
    hertz = spectrum.argmax(1) * eeg.RATE / eeg.LENGTH
    torch.testing.assert_close(hertz, torch.tensor(eeg.FREQUENCIES), atol=1, rtol=0)


def test_forward_matrix_has_the_average_reference_and_sees_near_sources_most() -> None:
    sources = eeg.half_sphere(eeg.CHANNELS)
    matrix = eeg.forward_matrix(sources)
    torch.testing.assert_close(matrix.sum(0), torch.zeros(eeg.CHANNELS), **CLOSE)
    assert torch.equal(matrix.argmax(0), torch.arange(eeg.CHANNELS))


@pytest.mark.parametrize("name", eeg.NETWORKS)
def test_networks_of_trials_give_logits(name: str) -> None:
    x = eeg.trials(2, draw()).x
    assert eeg.NETWORKS[name]().eval()(x).shape == (2, eeg.CLASSES)


def test_pink_noise_falls_with_the_frequency() -> None:
    power = torch.fft.rfft(eeg.pink(200, 1, draw())).abs().square().mean((0, 1))
    assert (power[4] / power[32]).item() == pytest.approx(8, rel=0.3)


def test_deleted_patches_are_zero_and_the_others_are_not() -> None:
    x = torch.rand(2, 3, 8, 8) + 1
    found = deletion.deleted(x, torch.tensor([0, 7]))
    expected = x.clone()
    expected[0, :, :2, :2], expected[1, :, 2:4, 6:8] = 0, 0
    torch.testing.assert_close(found, expected)


def test_drops_of_a_linear_model_are_its_contributions() -> None:
    """So the relevance of its patches has rank correlation 1."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).requires_grad_(False)
    x, targets = torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1])
    contributions = x * model[1].weight[targets].view(5, 1, 8, 8)
    worth = deletion.drops(model, x, targets)
    torch.testing.assert_close(deletion.by_patch(contributions), worth, **CLOSE)
    torch.testing.assert_close(deletion.patchwise(contributions, worth), torch.ones(5).double())


def test_half_of_the_pictures_miss_a_patch_in_training() -> None:
    found = deletion.some_deleted(torch.ones(2000, 1, 8, 8), draw())
    missing = (found == 0).flatten(1).sum(1)
    assert set(missing.tolist()) == {0, 4}
    assert (missing > 0).double().mean() == pytest.approx(0.5, abs=0.05)


def test_answers_stand_behind_the_asked_key() -> None:
    tokens, answers = patching.sequences(50, draw())
    for row, answer in zip(tokens.tolist(), answers.tolist(), strict=True):
        (place,) = (each for each in range(0, patching.LENGTH - 1, 2) if row[each] == row[-1])
        assert row[place + 1] == patching.KEYS + answer


def test_exchanged_tokens_differ_and_are_of_the_same_kind() -> None:
    tokens, _ = patching.sequences(50, draw())
    found = patching.others(tokens, draw())
    assert (found != tokens).all()
    assert torch.equal(found < patching.KEYS, tokens < patching.KEYS)


class Sum(nn.Module):
    """Linear in its input, so that contributions foretell every patch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 5 * 3))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


@pytest.mark.parametrize("removed", [True, False])
def test_estimates_of_a_linear_model_are_its_drops(removed: bool) -> None:
    model, x, targets = Sum().requires_grad_(False), torch.randn(6, 5, 3), torch.arange(6) % 4
    patch = torch.zeros_like(x) if removed else torch.randn_like(x)
    relevance = x * model.weight[targets].view(6, 5, 3)
    expected = patching.drops(model, x, targets, patch)
    torch.testing.assert_close(patching.estimates(relevance, x, patch), expected, **CLOSE)


def test_scores_of_known_maps() -> None:
    truth = torch.tensor([[1.0, 0.0, 0.0, 2.0]])
    assert share(torch.tensor([[1.0, -1.0, 0.0, -2.0]]), truth).item() == pytest.approx(0.75)
    assert precision(torch.tensor([[1.0, -3.0, 0.0, -2.0]]), truth).item() == 0.5
    assert pearson(3 * truth + 1, truth).item() == pytest.approx(1)
    assert pearson(torch.ones(1, 4), truth).item() == 0
    assert spearman(torch.tensor([[3.0, 1.0, 1.0, 9.0]]), truth).item() == pytest.approx(1)
