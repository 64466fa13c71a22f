"""The recipe of docs/adapters.md for Lightning: a callback that draws maps while a module trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx, visualize


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


class Maps:
    """The body of the recipe's callback."""

    def __init__(self, x: Tensor, target: int, folder: Path) -> None:
        self.x, self.target, self.folder, self.lrp = x, target, folder, None

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.lrp is None:
            self.lrp = LRPFx(pl_module.model)
        relevance = self.lrp.attribute(self.x.to(pl_module.device), self.target)
        visualize.save_heatmap(relevance, self.folder / f"epoch {trainer.current_epoch}.png")


def test_maps_follow_the_weights_without_lightning(tmp_path: Path) -> None:
    """The same calls in the same order, with train and inference mode as Lightning sets them."""

    class Module:
        model, device = classifier(), torch.device("cpu")

    class Trainer:
        current_epoch = 0

    callback = Maps(torch.rand(1, 1, 8, 8), 2, tmp_path)
    for Trainer.current_epoch in range(2):
        Module.model.eval()
        with torch.inference_mode():
            callback.on_validation_epoch_end(Trainer, Module)
        Module.model.train()
        with torch.no_grad():
            for parameter in Module.model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    pictures = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert len(pictures) == 2
    assert pictures[0] != pictures[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Lightning, about loggers, workers and paths
@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_the_callback_in_a_real_trainer(package: str, tmp_path: Path) -> None:
    """Lightning is a framework of its own, so it is no package of the tests."""
    lightning: Any = pytest.importorskip(package)

    class Classifier(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = classifier()

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x)

        def training_step(self, batch: Any, index: int) -> Tensor:
            x, y = batch
            return nn.functional.cross_entropy(self(x), y)

        def validation_step(self, batch: Any, index: int) -> None:
            pass

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    class Callback(Maps, lightning.Callback):  # type: ignore[misc]
        pass

    x, y = torch.rand(8, 1, 8, 8), torch.arange(8) % 3
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 4)
    module, callback = Classifier(), Callback(x[:1], 2, tmp_path)
    whole = LRPFx(module).attribute(x, y)  # the module itself, before it holds a trainer
    assert torch.equal(whole, LRPFx(module.model).attribute(x, y))
    trainer = lightning.Trainer(
        max_epochs=2, callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        accelerator="cpu", default_root_dir=tmp_path / "root",
    )  # fmt: skip
    trainer.fit(module, data, data)
    pictures = [path.read_bytes() for path in sorted(tmp_path.glob("*.png"))]
    assert len(pictures) == 2
    assert pictures[0] != pictures[1]
