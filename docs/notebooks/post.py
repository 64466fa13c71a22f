# %% [markdown]
# # The post retold
#
# `pip install "lrp_fx[cli]" scikit-image`
#
# The figures of the blog post of 2021, on EfficientNet-Lite0 and photographs in the public domain: maps of positive weights, the same with the
# filter, and what the library adds.

# %%
from PIL import Image
from skimage import data

from lrp_fx import LRPFx, composites, visualize, zoo

network = zoo.load("efficientnet-lite0")
photographs = [Image.fromarray(each) for each in (data.chelsea(), data.coffee())]
inputs = [network.preprocess(photograph)[None] for photograph in photographs]

# %% [markdown]
# The post's algorithm: W⁺ without a bias, all classes at once, black for zero.

# %%
blog = LRPFx(network.model, composites.compat.blog(), start="softmax")
for x in inputs:
    figure = visualize.show(blog.attribute(x), x, mean=0.5, std=0.5, colors="black-red-yellow")

# %% [markdown]
# The filter: of the relevance that enters each layer, only the largest share goes on.

# %%
for x in inputs:
    shares = {f"{share:.0%}": share for share in (1.0, 0.2, 0.05)}
    maps = {
        name: LRPFx(network.model, composites.compat.blog(share), start="softmax").attribute(x)
        for name, share in shares.items()
    }
    figure = visualize.grid(maps, x, mean=0.5, std=0.5, colors="black-red-yellow", titles=[""])

# %% [markdown]
# One class, with both signs, against all others:

# %%
lrp = LRPFx(network.model, start="against_rest")
for x in inputs:
    target = int(network.model(x).argmax())
    relevance = lrp.attribute(x, target=target)
    figure = visualize.show(
        relevance, x, mean=0.5, std=0.5, target=network.categories[target], smooth=1.5
    )
    assert lrp.audit(x, target=target).closes()
