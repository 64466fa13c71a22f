# %% [markdown]
# # The post retold
#
# `pip install "lrp_fx[cli]" scikit-image`
#
# The figures of the blog post of 2021, on EfficientNet-Lite0 and photographs in the public domain: maps of positive weights, the same with the
# filter, and what the library adds.

# %%
import torch
from PIL import Image
from skimage import data

from lrp_fx import LRPFx, composites, visualize, zoo

network = zoo.load("efficientnet-lite0")
photographs = [Image.fromarray(each) for each in (data.chelsea(), data.coffee())]
x = torch.stack([network.preprocess(photograph) for photograph in photographs])

# %% [markdown]
# The post's algorithm: W⁺ without a bias, all classes at once, black for zero.

# %%
blog = LRPFx(network.model, composites.compat.blog(), start="softmax")
visualize.show(blog.attribute(x), x, mean=0.5, std=0.5, colors="black-red-yellow")

# %% [markdown]
# The filter: of the relevance that enters each layer, only the largest share goes on.

# %%
maps = {
    f"{share:.0%}": blog.with_composite(composites.compat.blog(share)).attribute(x)
    for share in (1.0, 0.2, 0.05)
}
visualize.grid(maps, x, mean=0.5, std=0.5, colors="black-red-yellow")

# %% [markdown]
# One class, with both signs, against all others:

# %%
lrp = LRPFx(network.model, start="against_rest")
targets = network.model(x).argmax(1)
ledger = lrp.audit(x, target=targets)
assert ledger.closes()
named = [network.categories[target] for target in targets]
visualize.show(lrp.attribute(x, target=targets), x, mean=0.5, std=0.5, target=named, smooth=1.5)

# %% [markdown]
# What is new since the post: the program of the propagation can be read, and its ledger says where the relevance went.

# %%
visualize.ledger_figure(ledger)
