"""The pictures show what the relevance says: right sums, fair colours, the right panels."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from lrp_fx.errors import InputError
from lrp_fx.visualize import color_limit, explanation_figure, heatmap


def test_heatmap_sums_channels() -> None:
    """A heatmap is the plain sum over channels: no absolute values, no scaling, per sample."""
    relevance = torch.tensor([[[[1.0, -2.0]], [[3.0, -4.0]]], [[[5.0, 0.0]], [[-5.0, 0.5]]]])
    assert torch.equal(heatmap(relevance), torch.tensor([[[4.0, -6.0]], [[0.0, 0.5]]]))
    assert torch.equal(heatmap(relevance[0]), torch.tensor([[4.0, -6.0]]))


def test_heatmap_refuses_other_shapes() -> None:
    """A map that was already summed must not be summed again over its rows."""
    with pytest.raises(InputError, match=r"\(C, H, W\).*not \(4, 4\)"):
        heatmap(torch.zeros(4, 4))


def test_one_pixel_cannot_blank_the_map() -> None:
    """The colour limit follows the bulk of the map, not its extreme pixel."""
    heat = torch.ones(100, 100)
    heat[0, 0] = -1e6
    assert color_limit(heat) == 1.0


def test_zeros_do_not_blank_a_filtered_map() -> None:
    """A map of which few pixels survived a filter is scaled by those pixels."""
    heat = torch.zeros(100, 100)
    heat[0, :3] = torch.tensor([2.0, -2.0, 2.0])
    assert color_limit(heat) == 2.0
    assert color_limit(torch.zeros(4, 4)) == 1.0


def test_figure_has_three_panels_and_its_title() -> None:
    """Photograph, map and filtered map stand in one row under the explained class."""
    figure = explanation_figure(
        Image.new("RGB", (6, 4)),
        {"relevance": torch.randn(3, 4, 6), "top 5 %": torch.randn(3, 4, 6)},
        title="tiger cat (39.5%)",
    )
    assert [axes.get_title() for axes in figure.axes] == ["photograph", "relevance", "top 5 %"]
    assert figure.get_suptitle() == "tiger cat (39.5%)"


def test_colours_are_symmetric_and_unsmoothed() -> None:
    """Zero is the middle of the scale even if all relevance is positive; pixels stay pixels."""
    relevance = torch.rand(3, 4, 6) + 1
    figure = explanation_figure(Image.new("RGB", (6, 4)), {"relevance": relevance})
    heat = figure.axes[1].images[0]
    low, high = heat.get_clim()
    assert low == -high < 0
    assert heat.get_interpolation() == "none"
    assert np.array_equal(heat.get_array(), relevance.sum(0).numpy())


def test_positive_is_red_negative_is_blue_zero_is_white() -> None:
    """The colours mean what the module's first sentence says."""
    relevance = torch.zeros(3, 1, 3)
    relevance[0, 0] = torch.tensor([1.0, -1.0, 0.0])
    figure = explanation_figure(Image.new("RGB", (3, 1)), {"relevance": relevance})
    heat = figure.axes[1].images[0]
    colours = heat.to_rgba(heat.get_array())[0, :, :3]
    assert np.allclose(colours, [[1, 0, 0], [0, 0, 1], [1, 1, 1]], atol=0.01)


def test_every_pixel_is_equally_large() -> None:
    """A saved map is the relevance, each pixel a square of the same size: no uneven resampling."""
    relevance = torch.zeros(3, 64, 64)
    relevance[:, ::2, ::2] = 1
    drawn = io.BytesIO()
    explanation_figure(Image.new("RGB", (64, 64)), {"relevance": relevance}).savefig(drawn)
    red = np.asarray(Image.open(drawn).convert("RGB")).astype(int)
    is_red = red[..., 0] - red[..., 1] > 100
    edges = np.flatnonzero(np.diff(is_red.any(0)))
    assert len(edges) == 64
    # The frame of the panel is drawn over the outermost dots.
    assert set(np.diff(edges)[1:].tolist()) == {7}


def test_figure_is_drawn_without_pyplot() -> None:
    """A figure can be saved and leaves nothing in pyplot's list of open figures."""
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    relevance = torch.randn(3, 4, 6, dtype=torch.bfloat16, requires_grad=True)
    figure = explanation_figure(Image.new("RGB", (6, 4)), {"relevance": relevance})
    buffer = io.BytesIO()
    figure.savefig(buffer)
    assert Image.open(buffer).format == "PNG"
    assert pyplot.get_fignums() == before


def test_a_map_of_another_size_is_refused() -> None:
    """A map is never stretched over a photograph that the network did not see."""
    with pytest.raises(InputError, match=r"'relevance'.*\(C, 4, 6\)"):
        explanation_figure(Image.new("RGB", (6, 4)), {"relevance": torch.zeros(3, 6, 4)})
