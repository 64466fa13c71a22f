# %% [markdown]
# # Simulated EEG: does the map find the sources?
#
# `pip install "lrp_fx[pictures]"`
#
# Two sources, each seen at some channels and in one window of time. A network learns which of them is active.

# %%
import math

import torch
from torch import nn

from lrp_fx import LRPFx, visualize

torch.manual_seed(0)
RATE, TIMES, CHANNELS = 128, 128, 8
seen = torch.zeros(2, CHANNELS)
seen[0, 1:3], seen[1, 5:7] = 1, 1
windows = torch.zeros(2, TIMES)
windows[0, 20:60], windows[1, 70:110] = 1, 1
truth = seen[:, :, None] * windows[:, None]  # (2, channels, times)
burst = torch.sin(2 * math.pi * 10 * torch.arange(TIMES) / RATE)


def trials(count):
    y = torch.arange(count) % 2
    return torch.randn(count, 1, CHANNELS, TIMES) + 1.5 * (truth[y] * burst)[:, None], y


model = nn.Sequential(  # in the form of EEGNet: times, then channels
    nn.Conv2d(1, 8, (1, 17), padding=(0, 8), bias=False), nn.BatchNorm2d(8),
    nn.Conv2d(8, 16, (CHANNELS, 1), groups=8, bias=False), nn.BatchNorm2d(16), nn.ELU(), nn.AvgPool2d((1, 8)),
    nn.Flatten(), nn.Linear(16 * 16, 2),
)  # fmt: skip
x, y = trials(256)
optimizer = torch.optim.Adam(model.parameters(), 5e-3)
for _ in range(40):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
model.eval()
new, labels = trials(64)
print(f"accuracy {(model(new).argmax(1) == labels).float().mean():.0%}")

# %%
area = truth[labels].mean()
for name in ("epsilon", "epsilon_gamma", "epsilon_plus"):
    relevance = LRPFx(model, name, start="against_rest").attribute(new, target=labels)
    share = (relevance[:, 0] * truth[labels]).abs().sum() / relevance.abs().sum()
    print(f"{name:14} {share:.0%} of |relevance| at the source, which has {area:.0%} of the trial")
    assert share > 1.5 * area
visualize.channel_map(relevance[0, 0], rate=RATE, names=[f"E{i}" for i in range(CHANNELS)])
