"""Small models: odd networks with what is known of them, and some that several files explain."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import StochasticDepth

from tests.helpers.numbers import numbers


def without_shifts(model: nn.Module, *inputs: Tensor) -> nn.Module:
    """The model in eval mode without additive constants: biases, β and running means are zero.

    Running variances are those of the inputs' batch; random ones would make logits of 1e-8.
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _BatchNorm) and module.affine:
                module.weight.uniform_(0.5, 1.5)
        for name, parameter in model.named_parameters():
            if name.rpartition(".")[2] == "bias":
                parameter.zero_()
        momenta = {m: m.momentum for m in model.modules() if isinstance(m, _BatchNorm)}
        random = (nn.Dropout, StochasticDepth)
        dropouts = {m: m.p for m in model.modules() if isinstance(m, random)}
        for norm in momenta:
            norm.momentum = 1.0
        for dropout in dropouts:
            dropout.p = 0.0
        model.train()(*inputs)
        for norm, momentum in momenta.items():
            norm.momentum = momentum
            norm.running_mean.zero_()
        for dropout, p in dropouts.items():
            dropout.p = p
    return model.eval()


def everything(output: Tensor) -> Tensor:
    """A start: all of the output is explained at once."""
    return output


def input_x_gradient(logit: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Input × gradient of each sample's ``logit(*inputs)``, (N,)."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    gradients = torch.autograd.grad(logit(*leaves).sum(), leaves)
    return tuple(x * g for x, g in zip(inputs, gradients, strict=True))


# The networks. Each is a page of somebody's code in small.


class Functional(nn.Module):
    """No module but itself: parameters, and functions on them."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(6, 3, 3, 3) * 0.3)
        self.bias = nn.Parameter(torch.randn(6))
        self.matrix = nn.Parameter(torch.randn(6 * 9, 4) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.kernel, self.bias, padding=1))
        x = F.max_pool2d(x, 3, 2, 1)
        x = torch.relu_(x * 2)
        x = x.reshape(x.shape[0], x.shape[1], -1)
        return F.adaptive_avg_pool1d(x, 9).flatten(1) @ self.matrix


class Reused(nn.Module):
    """One convolution, one ReLU and one pooling for all depths, ``copies`` apart where asked for."""

    def __init__(self, *, unrolled: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        conv = nn.Conv2d(4, 4, 3, padding=1)
        self.convs = nn.ModuleList([conv] * 3)
        if unrolled:
            copies = [nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)]
            for copy in copies:
                copy.load_state_dict(conv.state_dict())
            self.convs = nn.ModuleList(copies)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for conv in self.convs:
            x = self.relu(conv(x) + x)
        return self.head(self.pool(self.pool(x)).mean((2, 3)))


class SqueezeExcitation(nn.Module):
    """A gate made of channel means."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.down, self.up = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.conv(x))
        gate = F.relu(self.down(x.mean((2, 3), keepdim=True)))
        x = x * torch.sigmoid(self.up(gate))
        return self.head(F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1))


class TiedWeights(nn.Module):
    """An autoencoder whose decoder is the encoder transposed; its outputs are the reconstruction."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(8, 12)
        self.again = nn.Linear(8, 12)
        self.again.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        code = F.relu(self.encoder(x)) - F.relu(self.again(x.flip(-1)))
        return F.linear(code, self.encoder.weight.t())


class UNet(nn.Module):
    """Down and up again, with skip connections by cat and both ways to interpolate."""

    def __init__(self, *, nearest: bool = True) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.middle = nn.Conv2d(6, 6, 3, padding=1)
        self.up2, self.up1 = nn.Conv2d(12, 4, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)
        self.head = nn.Conv2d(4, 2, 1)
        self.nearest = nearest

    def forward(self, x: Tensor) -> Tensor:
        one = F.relu(self.down1(x))
        two = F.relu(self.down2(F.max_pool2d(one, 2)))
        x = F.relu(self.middle(F.avg_pool2d(two, 2)))
        x = F.interpolate(x, scale_factor=2, mode="nearest" if self.nearest else "bilinear")
        x = F.relu(self.up2(torch.cat([x, two], dim=1)))
        x = F.interpolate(x, size=one.shape[-2:], mode="bilinear", align_corners=True)
        return self.head(F.relu(self.up1(torch.cat((x, one), 1)))).mean((2, 3))


class TwoInputs(nn.Module):
    """An image and a vector; the vector joins late."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dense = nn.Conv2d(3, 4, 3), nn.Linear(5, 4)
        self.head = nn.Linear(8, 3)

    def forward(self, image: Tensor, vector: Tensor) -> Tensor:
        image = F.relu(self.conv(image)).mean((-2, -1))
        return self.head(torch.cat([image, F.relu(self.dense(vector))], -1))


class DictOutput(nn.Module):
    """Two heads with names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 3), "b": nn.Linear(4, 2)})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.leaky_relu(self.conv(x), 0.2).amax(dim=(2, 3))
        return {name: head(x) for name, head in self.heads.items()}


class DeepResidual(nn.Module):
    """Residual blocks with batch norm and stochastic depth."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(nn.Conv2d(4, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
                *(nn.Conv2d(4, 4, 3, 1, 1, groups=2), nn.BatchNorm2d(4)),
                StochasticDepth(0.5, "row"),
            )
            for _ in range(2)
        )
        self.shortcut = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            out = block(x)
            out += self.shortcut(x)
            x = F.relu(out, inplace=True)
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


class DenselyConnected(nn.Module):
    """Each layer reads all the former ones; batch norm comes before the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4 + 3 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(4 + 3 * i, 3, 3, padding=1) for i in range(3))
        self.last = nn.BatchNorm2d(13)
        self.head = nn.Linear(13, 4)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(F.relu(norm(torch.cat(features, 1)))))
        return self.head(F.relu(self.last(torch.cat(features, 1))).mean((2, 3)))


class Gates(nn.Module):
    """A WaveNet's gate, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(2, 4, 1)
        self.dilated = nn.ModuleList(
            nn.Conv1d(4, 8, 2, dilation=2**i, padding=2**i, bias=False) for i in range(3)
        )
        self.out = nn.Conv1d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[-1]
        x = self.stem(x)
        for conv in self.dilated:
            signal, gate = conv(x)[..., :length].chunk(2, dim=1)
            x = x + torch.tanh(signal) * gate.sigmoid()
        return self.out(x).sum(dim=-1)


class Layouts(nn.Module):
    """Channels last for the dense layers, back for the depthwise convolution; a learned scale."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 2, stride=2)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.wide, self.narrow = nn.Linear(6, 12), nn.Linear(12, 6)
        self.scale = nn.Parameter(torch.rand(6) + 0.5)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = self.narrow(self.wide(y).relu()) * self.scale
        x = x + y.permute(0, 3, 1, 2).contiguous()
        n, c, h, w = x.size()
        return self.head(x.view(n, c, h * w).transpose(1, 2).mean(1))


class Slopes(nn.Module):
    """Leaky activations of all kinds, and a maximum over groups of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Conv2d(3, 6, 3)])
        self.prelu, self.one = nn.PReLU(6, init=0.3), nn.PReLU()
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.convs[0](x))
        x = F.leaky_relu(self.convs[1](x), 0.1, inplace=True)
        x = torch.unflatten(x, 1, (3, 2)).amax(2)
        return self.head(self.one(self.convs[2](x)).mean((2, 3)))


class CeilPooling(nn.Module):
    """Pooling windows that hang over the border, with and without the padding counted."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.pools = nn.Sequential(
            nn.MaxPool2d(3, 2, 1, ceil_mode=True),
            nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
            nn.Conv2d(4, 6, 1),
            nn.ReLU(),
            nn.AvgPool2d(2, 2, ceil_mode=True),
            nn.AdaptiveMaxPool2d((2, 1)),
        )
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pools(F.relu(self.conv(x))).flatten(1))


class Decoder(nn.Module):
    """Transposed convolutions, grouped and strided, with batch norm behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(7, 4 * 3 * 3)
        self.up = nn.Sequential(
            nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1, groups=2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.ConvTranspose2d(4, 2, 3, dilation=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.dense(x).unflatten(1, (4, 3, 3))).flatten(2).sum(-1)


class Signals(nn.Module):
    """A 1-D network with batch norm behind the ReLU, where it cannot be folded into the padded one."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv1d(2, 4, 5, padding=2), nn.ReLU(), nn.BatchNorm1d(4), nn.MaxPool1d(2)),
            *(nn.Conv1d(4, 6, 3, padding=1), nn.ReLU(), nn.BatchNorm1d(6), nn.AvgPool1d(2)),
            *(nn.Conv1d(6, 6, 3), nn.ReLU(), nn.BatchNorm1d(6), nn.AdaptiveAvgPool1d(2)),
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Volumes(nn.Module):
    """A 3-D network."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2)),
            *(nn.Conv3d(4, 4, (1, 3, 2), groups=2), nn.ReLU(), nn.AdaptiveAvgPool3d((1, 2, 1))),
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(start_dim=1))


class Branches(nn.Module):
    """An Inception block: four ways side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 2, 1)
        self.three = nn.Sequential(
            nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, (1, 3), 1, (0, 1))
        )
        self.pooled = nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.Conv2d(3, 2, 1))
        self.maximal = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(3, 2, 3, 1, 1))
        self.norm = nn.BatchNorm2d(9, eps=1e-3)
        self.head = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.one(x), self.three(x), self.pooled(x), self.maximal(x)]
        return self.head(F.relu(self.norm(torch.concat(branches, dim=1))).mean([2, 3]))


class Standardized(nn.Module):
    """Convolutions whose weights are computed in the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = nn.ParameterList([torch.randn(4, 3, 3, 3), torch.randn(4, 4, 3, 3)])
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for kernel in self.kernels:
            mean = kernel.mean(dim=(1, 2, 3), keepdim=True)
            std = kernel.std(dim=(1, 2, 3), keepdim=True)
            x = F.relu(self.norm(F.conv2d(x, (kernel - mean) / (std + 1e-5), padding="same")))
        return self.head(x.mean((2, 3)))


class Parametrized(nn.Module):
    """Weight norm as a parametrization, a mask in a buffer, a plain tensor as an attribute."""

    def __init__(self) -> None:
        super().__init__()
        weight_norm = nn.utils.parametrizations.weight_norm
        self.conv = weight_norm(nn.Conv2d(3, 4, 3, padding=1, bias=False))
        self.dense = nn.Linear(4, 3, bias=False)
        self.register_buffer("mask", (torch.rand(3, 4) > 0.3).double())
        self.kernel = torch.randn(4, 1, 3, 3, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        x = F.relu(F.conv2d(x, self.kernel, groups=4))
        return F.linear(x.mean((2, 3)), self.dense.weight * self.mask)


class Rearranged(nn.Module):
    """Values moved in every way."""

    def __init__(self) -> None:
        super().__init__()
        self.focus = nn.Conv2d(12, 8, 3, padding=1, padding_mode="circular")
        self.shuffle, self.unshuffle = nn.PixelShuffle(2), nn.PixelUnshuffle(2)
        self.mix = nn.Conv2d(8, 8, 3, groups=2, padding=1, padding_mode="reflect")
        self.register_buffer("order", torch.tensor([3, 1, 0, 2]))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
        x = F.relu(self.focus(torch.cat(corners, 1)))
        x = self.unshuffle(F.relu(self.shuffle(x)))
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = F.relu(self.mix(F.pad(x, (1, 0, 0, 1), mode="replicate")))
        first, *others = x.split([4, 2, 2], dim=1)
        x = torch.cat([first[:, self.order].flip(2), torch.stack(others, 1).flatten(1, 2)], 1)
        return self.head(x.roll(1, dims=3).mean((2, 3)))


class Bottlenecks(nn.Module):
    """MobileNet's inverted bottleneck with saturating activations."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 6, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(6, 6, 3, 2, 1, groups=6, bias=False), nn.BatchNorm2d(6), nn.Hardswish()
        )
        self.project = nn.Sequential(nn.Conv2d(6, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Hardsigmoid())
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(self.depthwise(self.expand(x)))
        x = self.gate(x) * F.gelu(x)
        return self.head(F.softplus(x).mean((2, 3)))


@dataclass(frozen=True)
class Network:
    """A network to test with.

    Args:
        make: builds it in float32, with PyTorch's initial weights.
        shapes: of each input, without the batch.
        homogeneous: whether f(c x) = c f(x) for c > 0 once all shifts are zero.
        output: which output is explained.
    """

    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...] = ((3, 12, 12),)
    homogeneous: bool = True
    output: str | None = None

    def model(self, seed: int = 0) -> nn.Module:
        """The network in float64 and eval mode, with batch norms that do something."""
        torch.manual_seed(seed)
        model = self.make().double().eval()
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                for tensor in (module.weight.data, module.running_var):
                    tensor.uniform_(0.5, 1.5)
                for tensor in (module.bias.data, module.running_mean):
                    tensor.normal_(std=0.3)
        return model

    def inputs(self, samples: int = 2, seed: int = 0) -> tuple[Tensor, ...]:
        """A batch."""
        return tuple(numbers(samples, *shape, seed=seed + i) for i, shape in enumerate(self.shapes))

    def logit(self, model: nn.Module, target: int) -> Callable[..., Tensor]:
        """The function whose value is explained, (N,)."""

        def logit(*inputs: Tensor) -> Tensor:
            output: Any = model(*inputs)
            return (output if self.output is None else output[self.output])[:, target]

        return logit


NETWORKS = {
    "functional": Network(Functional),
    "reused": Network(Reused),
    "squeeze-excitation": Network(SqueezeExcitation, homogeneous=False),
    "tied": Network(TiedWeights, ((8,),)),
    "unet": Network(UNet),
    "unet, bilinear": Network(lambda: UNet(nearest=False)),
    "two inputs": Network(TwoInputs, ((3, 7, 7), (5,))),
    "dict": Network(DictOutput, output="b"),
    "residual": Network(DeepResidual),
    "dense": Network(DenselyConnected),
    "gates": Network(Gates, ((2, 11),), homogeneous=False),
    "layouts": Network(Layouts),
    "slopes": Network(Slopes),
    "ceil pooling": Network(CeilPooling, ((3, 10, 11),)),
    "decoder": Network(Decoder, ((7,),)),
    "1-d": Network(Signals, ((2, 21),)),
    "3-d": Network(Volumes, ((1, 5, 6, 7),)),
    "branches": Network(Branches),
    "standardized": Network(Standardized),
    "parametrized": Network(Parametrized),
    "rearranged": Network(Rearranged),
    "bottlenecks": Network(Bottlenecks, homogeneous=False),
}


def normed_cnn(bias: bool = True) -> nn.Sequential:
    """Images (N, 2, 8, 8) to four classes; batch norm has seen a batch, so that its scale is sane."""
    model = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(2, 4, 3, padding=1, bias=bias),
            norm1=nn.BatchNorm2d(4),
            relu1=nn.ReLU(inplace=True),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(4, 5, 3, bias=bias),
            relu2=nn.ReLU(),
            pool2=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(0.5),
            classifier=nn.Linear(5, 4, bias=bias),
        )
    ).double()
    model(numbers(16, 2, 8, 8, seed=9))
    if not bias:
        assert model.norm1.running_mean is not None
        model.norm1.running_mean.zero_()
    return model.eval()


class Skipping(nn.Module):
    """Two convolutions with a skip connection around the second, no additive constants."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.branch = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.act = nn.ReLU()
        self.head = nn.Linear(3, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        x = self.act(x + self.branch(x))
        return self.head(x.mean((2, 3)))


class TwoVectors(nn.Module):
    """Vectors of 3 and 5 numbers to four classes."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 6), nn.Linear(5, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(F.relu(self.left(a) + self.right(b)))


class PerPixel(nn.Module):
    """Every class of every place: (N, 2, H, W) to (N, 3, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu()


def cnn(side: int = 8) -> nn.Sequential:
    """Images (N, 2, side, side) to four classes; each kind of layer that rules and filters choose by."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(2, 4, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(4, 6, 3),
            relu2=nn.ReLU(),
            pool2=nn.AvgPool2d(2),
            flatten=nn.Flatten(),
            hidden=nn.Linear(6 * ((side // 2 - 2) // 2) ** 2, 10),
            relu3=nn.ReLU(),
            classifier=nn.Linear(10, 4),
        )
    ).double()


def unnamed_cnn() -> nn.Sequential:
    """Images (N, 3, 12, 12) to three classes; no pooling, so that each layer is a plain matrix."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(320, 3),
    ).double()


class Apply(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class Function(nn.Module):
    """A function as a model, with modules and tensors that the function reads: it is given the model."""

    def __init__(self, function: Callable[..., Tensor], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self, *inputs)


class Applied(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6, bias=False), nn.Linear(6, 2, bias=False)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x).relu()))  # type: ignore[no-any-return]


class Configured(nn.Module):
    """Takes what Captum may pass: tensors, numbers, strings, None, nested tuples, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3, bias=False)

    def forward(
        self,
        x: Tensor,
        shift: Tensor | None = None,
        factor: float = 1.0,
        act: str = "relu",
        more: Any = None,
    ) -> Tensor:
        x = self.linear(x) * factor
        if shift is not None:
            x = x + shift
        if more is not None:
            (scale, (power,)) = more
            x = x * scale * power
        return x.relu() if act == "relu" else x.tanh()


class Exotic(nn.Module):
    """An operation that nobody described, below a layer of which the relevance is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.lgamma(self.first(x)).relu())


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module in float64 and eval mode with the same random parameters at each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().double().eval()
