"""Data to train small networks on."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import torch
from torch import Tensor

FASHION = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist


def digits() -> tuple[Tensor, Tensor]:
    """The 1797 digits of scikit-learn, mixed, (N, 1, 8, 8) from 0 to 1, and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(data.images).float()[:, None] / 16
    return x[order], torch.from_numpy(data.target).long()[order]


def fashion() -> tuple[Tensor, Tensor]:
    """The first 12 000 clothes of Fashion-MNIST, (N, 1, 28, 28) from 0 to 1, and their labels."""
    files = {kind: sorted(FASHION.glob(f"**/train-{kind}*")) for kind in ("images", "labels")}
    if not all(files.values()):
        raise FileNotFoundError("Fashion-MNIST is missing: apt install dataset-fashion-mnist")
    x, labels = (_idx(found[0]) for found in files.values())
    return x[:12_000, None].float() / 255, labels[:12_000].long()


def _idx(file: Path) -> Tensor:
    """A tensor of bytes in the format of MNIST: a number of dimensions, the sizes, the bytes."""
    data = file.read_bytes()
    data = gzip.decompress(data) if file.suffix == ".gz" else data
    dimensions = data[3]
    sizes = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    return torch.frombuffer(bytearray(data[4 + 4 * dimensions :]), dtype=torch.uint8).view(sizes)
