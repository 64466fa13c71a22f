"""Ray Data gives the same bits; it is tested where it is installed."""

from pathlib import Path

import pytest
import torch

from lrp_fx import LRPFx
from lrp_fx.dataset import attribute_dataset
from tests.dataset.helpers import classifier, same, samples


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_gives_the_same_bits(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    torch.set_num_threads(1)
    lrp, x = LRPFx(classifier()), samples(40)
    x[7] = float("nan")
    local = attribute_dataset(lrp, x, tmp_path / "local", batch_size=4, part_size=8)
    ray = attribute_dataset(
        lrp, x, tmp_path / "ray", batch_size=4, part_size=8, engine="ray", explainers=2
    )
    assert local is not None
    assert ray is not None
    assert same(ray, local)
