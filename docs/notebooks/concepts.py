# %% [markdown]
# # Concepts of a network with ImageNet weights
#
# `pip install "lrp_fx[cli]" scikit-image`
#
# Which channels made "tiger cat", where are they, and what are they made of?

# %%
import torch
from PIL import Image
from skimage import data

from lrp_fx import ConceptLRPFx, visualize, zoo

network = zoo.load("efficientnet-lite0")
photograph = Image.fromarray(data.chelsea())
x = network.preprocess(photograph)[None]
target = int(network.model(x).argmax())
layers = [
    name for name, module in network.model.named_modules() if isinstance(module, torch.nn.Conv2d)
][-8::3]
print(network.categories[target], layers)

# %%
crp = ConceptLRPFx(network.model, "epsilon_plus_flat")
(channels,) = crp.channel_relevance(x, [layers[-1]], target)
strongest = channels[0].topk(3).indices.tolist()
maps = crp.attribute_conditions(x, [{layers[-1]: [channel], "y": target} for channel in strongest])
names = {f"channel {channel}": each for channel, each in zip(strongest, maps, strict=True)}
visualize.grid(names, x, mean=0.5, std=0.5, titles=["cat"])

# %%
graph = crp.attribution_graph(x, target, layers[::-1], width=3)
visualize.concept_figure(graph)
