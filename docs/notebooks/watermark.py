# %% [markdown]
# # A watermark in the training data
#
# `pip install "lrp_fx[pictures]"`
#
# A network reads small pictures: is there a vertical or a horizontal bar? In the training data, pictures with a horizontal bar carry a
# watermark in a corner. The network learns the watermark. Relevance shows it, a channel names it, and a training set without it repairs it.

# %%
import torch
from torch import nn

from lrp_fx import ConceptLRPFx, LRPFx, visualize

torch.manual_seed(0)


def pictures(count, watermark):
    """(N, 1, 16, 16) with a faint bar of one direction; class 1 is horizontal and carries the watermark if asked."""
    y = torch.arange(count) % 2
    x = 0.5 * torch.randn(count, 1, 16, 16)
    for picture, label in zip(x[:, 0], y, strict=True):
        at = int(torch.randint(4, 12, ()))
        if label:
            picture[at, 4:12] += 1.0
        else:
            picture[4:12, at] += 1.0
        if watermark and label:
            picture[:3, :3] = torch.tensor([[2.0, 0, 2], [0, 2, 0], [2, 0, 2]])
    return x, y


def train(x, y):
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 64, 2),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


def accuracy(model, x, y):
    return float((model(x).argmax(1) == y).float().mean())


x, y = pictures(512, watermark=True)
clean, labels = pictures(256, watermark=False)
spoiled = train(x, y)
print(
    f"with watermarks {accuracy(spoiled, x, y):.0%}, without {accuracy(spoiled, clean, labels):.0%}"
)

# %% [markdown]
# Perfect on data of its own kind, and poor without the watermark. Where does it look?

# %%
lrp = LRPFx(spoiled, start="against_rest")
relevance = lrp.attribute(x[y == 1][:64], target=1)
share = relevance[..., :3, :3].abs().sum() / relevance.abs().sum()
print(f"{share:.0%} of |relevance| lies on the watermark, which has {9 / 256:.0%} of the picture")
visualize.show(relevance[:4], x[y == 1][:4], mean=0.5, std=4, target="horizontal")

# %% [markdown]
# Which channel carries it?

# %%
crp = ConceptLRPFx(spoiled)
(channels,) = crp.channel_relevance(x[y == 1][:64], ["2"], 1)
channel = int(channels.mean(0).argmax())
(of_channel,) = crp.attribute_conditions(x[y == 1][:4], [{"2": [channel], "y": 1}])
print(
    f"channel {channel}: {of_channel[..., :4, :4].abs().sum() / of_channel.abs().sum():.0%} of its map in the corner"
)
visualize.show(
    of_channel, x[y == 1][:4], mean=0.5, std=4, target=f"horizontal, by channel {channel}"
)

# %% [markdown]
# The corner is cut out of the training data, and the network is trained again.

# %%
repaired_x = x.clone()
repaired_x[..., :3, :3] = 0.5 * torch.randn(len(x), 1, 3, 3)
repaired = train(repaired_x, y)
print(f"repaired: {accuracy(repaired, clean, labels):.0%} without watermarks")
assert share > 0.2
assert accuracy(repaired, clean, labels) > accuracy(spoiled, clean, labels) + 0.1
after = LRPFx(repaired, start="against_rest").attribute(x[y == 1][:4], target=1)
visualize.grid(
    {"before": relevance[:4], "after": after},
    x[y == 1][:4],
    mean=0.5,
    std=4,
    target="horizontal",
    size=160,
)
