# %% [markdown]
# # Regression with a known attribution
#
# `pip install lrp_fx`
#
# The target is a sum of functions of single inputs, y = Σ Cᵢ(xᵢ) with Cᵢ(0) = 0. So Cᵢ(xᵢ) is what input i adds, exactly. A network learns y
# from samples; does relevance find the parts? (After Mamalakis et al. 2022; `docs/evaluation.md` has the full comparison.)

# %%
import torch
from torch import nn

from lrp_fx import LRPFx

torch.manual_seed(0)
INPUTS = 8
slopes = torch.randn(INPUTS, 2)


def parts(x):
    """Cᵢ(xᵢ): another slope on each side of zero, (N, INPUTS)."""
    return slopes[:, 0] * x.clamp(max=0) + slopes[:, 1] * x.clamp(min=0)


x = torch.randn(4096, INPUTS)
y = parts(x).sum(1, keepdim=True)
model = nn.Sequential(
    nn.Linear(INPUTS, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
)
optimizer = torch.optim.Adam(model.parameters(), 3e-3)
for _ in range(400):
    optimizer.zero_grad()
    nn.functional.mse_loss(model(x), y).backward()
    optimizer.step()
model.eval()

new = torch.randn(256, INPUTS)
print(
    f"error of the network: {nn.functional.mse_loss(model(new), parts(new).sum(1, keepdim=True)):.4f}"
)

# %% [markdown]
# The correlation of relevance and truth, sample by sample:


# %%
def agreement(relevance):
    truth = parts(new)
    a, b = (v - v.mean(1, keepdim=True) for v in (relevance, truth))
    return float(((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).mean())


scores = {name: agreement(LRPFx(model, name).attribute(new)) for name in ("epsilon", "z_plus")}
print(scores)
assert scores["epsilon"] > 0.8

# %% [markdown]
# ε keeps the sign of each part. z⁺ shows only what speaks for a large output, so it agrees less: it answers another question.
