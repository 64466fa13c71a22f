"""The suites of the fields: what their libraries build, in small configurations.

Each table has one line per model: how it is built, and an input. The libraries are the extra
``bench-domains``; each is imported when one of its models is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.sample import BATCH, Sample


def _image(*sides: int, channels: int = 1) -> Tensor:
    return torch.randn(BATCH, channels, *sides)


def _from(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


# --- EEG ----------------------------------------------------------------------------------------

# the model's class: channels, times, sampling rate, further arguments
_EEG: dict[str, tuple[int, int, int, dict[str, Any]]] = {
    **{
        name: (8, 400, 100, {})
        for name in (
            "ATCNet",
            "AttentionBaseNet",
            "BDTCN",
            "BIOT",
            "BrainModule",
            "CBraMod",
            "CTNet",
            "ContraWR",
            "Deep4Net",
            "EEGConformer",
            "EEGDINO",
            "EEGITNet",
            "EEGInceptionERP",
            "EEGInceptionMI",
            "EEGMiner",
            "EEGNeX",
            "EEGNet",
            "EEGSimpleConv",
            "EEGTCNet",
            "FBCNet",
            "FBLightConvNet",
            "FBMSNet",
            "IFNet",
            "LUNA",
            "MEDFormer",
            "MSVTNet",
            "MVPFormer",
            "PBT",
            "SCCNet",
            "SPARCNet",
            "SSTDPN",
            "ShallowFBCSPNet",
            "SignalJEPA_PostLocal",
            "SignalJEPA_PreLocal",
            "SincShallowNet",
            "SleepStagerChambon2018",
            "SyncNet",
            "TCFormer",
            "TIDNet",
            "TSception",
            "USleep",
        )
    },
    "AttnSleep": (1, 3000, 100, {}),
    "DGCNN": (8, 500, 250, {"chs_info": True}),
    "DeepSleepNet": (1, 3000, 100, {}),
    "EEGPT": (4, 400, 100, {"depth": 2, "embed_dim": 32, "num_heads": 4}),
    "EEGSym": (8, 500, 250, {"chs_info": True}),
    "SignalJEPA_Contextual": (8, 500, 250, {"chs_info": True}),
    "SleepStagerBlanco2020": (8, 1000, 250, {}),
    "STEEGFormer": (4, 400, 100, {"depth": 2, "embed_dim": 32, "num_heads": 4}),
}


def _eeg(name: str) -> Sample:
    channels, times, rate, options = _EEG[name]
    options = dict(options)
    if options.pop("chs_info", False):
        places = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2"][:channels]
        options["chs_info"] = [
            {"ch_name": place, "kind": "eeg", "loc": [0.01 * i] * 12}
            for i, place in enumerate(places)
        ]
    model = _from("braindecode.models", name)(
        n_chans=channels, n_times=times, sfreq=rate, n_outputs=3, **options
    )
    return Sample(model, (torch.randn(BATCH, channels, times),))


# --- medical images -----------------------------------------------------------------------------

_UNET = {"in_channels": 1, "out_channels": 2, "channels": (4, 8, 16), "strides": (2, 2)}
_FEATURES = {"features": (4, 4, 8, 8, 16, 4), "in_channels": 1, "out_channels": 2}
_ENDS = {"in_channels": 1, "out_channels": 2}
_DYNAMIC = {
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
    "filters": [4, 8, 16],
}
# the name on the page: the class, its arguments, the shape of the input, which output
_MONAI: dict[str, tuple[str, dict[str, Any], tuple[int, ...], int | None]] = {
    "UNet 3-D": ("UNet", {"spatial_dims": 3, **_UNET, "num_res_units": 2}, (1, 16, 16, 16), None),
    "UNet 2-D": ("UNet", {"spatial_dims": 2, **_UNET, "norm": "batch"}, (1, 32, 32), None),
    "AttentionUnet 3-D": ("AttentionUnet", {"spatial_dims": 3, **_UNET}, (1, 16, 16, 16), None),
    "BasicUNet 3-D": ("BasicUNet", {"spatial_dims": 3, **_FEATURES}, (1, 32, 32, 32), None),
    "BasicUNetPlusPlus": ("BasicUNetPlusPlus", {"spatial_dims": 2, **_FEATURES}, (1, 32, 32), 0),
    "DynUNet 3-D": ("DynUNet", {"spatial_dims": 3, **_ENDS, **_DYNAMIC}, (1, 16, 16, 16), None),
    "SegResNet 3-D": ("SegResNet", {"init_filters": 8, **_ENDS}, (1, 16, 16, 16), None),
    "VNet 3-D": ("VNet", {**_ENDS}, (1, 16, 16, 16), None),
    "HighResNet 3-D": ("HighResNet", {**_ENDS}, (1, 12, 12, 12), None),
    "AHNet 2-D": (
        "AHNet",
        {"spatial_dims": 2, **_ENDS, "upsample_mode": "bilinear", "layers": (1, 1, 1, 1)},
        (1, 128, 128),
        None,
    ),
    "UNETR 3-D": (
        "UNETR",
        {
            **_ENDS,
            "img_size": 32,
            "feature_size": 4,
            "hidden_size": 24,
            "mlp_dim": 32,
            "num_heads": 3,
        },
        (1, 32, 32, 32),
        None,
    ),
    "SwinUNETR 2-D": (
        "SwinUNETR",
        {
            **_ENDS,
            "spatial_dims": 2,
            "feature_size": 12,
            "depths": (1, 1, 1, 1),
            "num_heads": (1, 1, 2, 2),
        },
        (1, 64, 64),
        None,
    ),
    "MedNeXt 3-D": (
        "MedNeXt",
        {
            **_ENDS,
            "spatial_dims": 3,
            "init_filters": 4,
            "blocks_down": (1, 1),
            "blocks_bottleneck": 1,
            "blocks_up": (1, 1),
        },
        (1, 16, 16, 16),
        None,
    ),
    "FlexibleUNet": (
        "FlexibleUNet",
        {"in_channels": 3, "out_channels": 2, "backbone": "resnet18"},
        (3, 64, 64),
        None,
    ),
    "ViT 3-D": (
        "ViT",
        {
            "in_channels": 1,
            "img_size": 16,
            "patch_size": 8,
            "hidden_size": 24,
            "mlp_dim": 32,
            "num_layers": 2,
            "num_heads": 3,
            "classification": True,
        },
        (1, 16, 16, 16),
        0,
    ),
    "ResNet 3-D": (
        "ResNet",
        {
            "block": "basic",
            "layers": [1, 1, 1, 1],
            "block_inplanes": [4, 8, 8, 16],
            "n_input_channels": 1,
            "num_classes": 3,
        },
        (1, 24, 24, 24),
        None,
    ),
    "DenseNet 3-D": (
        "DenseNet",
        {"spatial_dims": 3, **_ENDS, "init_features": 8, "growth_rate": 4, "block_config": (2, 2)},
        (1, 24, 24, 24),
        None,
    ),
    "SENet 2-D": (
        "SENet",
        {
            "spatial_dims": 2,
            "in_channels": 1,
            "block": "se_resnet_bottleneck",
            "layers": (1, 1, 1, 1),
            "groups": 1,
            "reduction": 16,
            "num_classes": 3,
        },
        (1, 48, 48),
        None,
    ),
    "EfficientNetBN 2-D": (
        "EfficientNetBN",
        {"model_name": "efficientnet-b0", "in_channels": 1, "num_classes": 3, "pretrained": False},
        (1, 64, 64),
        None,
    ),
    "MILModel": (
        "MILModel",
        {"num_classes": 3, "mil_mode": "att_trans", "pretrained": False, "backbone": "resnet18"},
        (4, 3, 64, 64),
        None,
    ),
    "AutoencoderKL 2-D": (
        "AutoencoderKL",
        {
            "spatial_dims": 2,
            **_ENDS,
            "num_res_blocks": (1, 1),
            "channels": (8, 8),
            "attention_levels": (False, True),
            "latent_channels": 4,
            "norm_num_groups": 4,
        },
        (1, 16, 16),
        1,
    ),
    "VQVAE 2-D": (
        "VQVAE",
        {
            "spatial_dims": 2,
            **_ENDS,
            "channels": (8, 8),
            "num_res_layers": 1,
            "num_res_channels": (8, 8),
            "num_embeddings": 16,
            "embedding_dim": 8,
            "downsample_parameters": ((2, 4, 1, 1), (2, 4, 1, 1)),
            "upsample_parameters": ((2, 4, 1, 1, 0), (2, 4, 1, 1, 0)),
        },
        (1, 16, 16),
        0,
    ),
    "AutoEncoder 2-D": (
        "AutoEncoder",
        {"spatial_dims": 2, **_UNET, "strides": (2, 2, 2)},
        (1, 32, 32),
        None,
    ),
    "Regressor": (
        "Regressor",
        {"in_shape": (1, 16, 16), "out_shape": (2,), "channels": (4, 8), "strides": (2, 2)},
        (1, 16, 16),
        None,
    ),
    "Discriminator": (
        "Discriminator",
        {"in_shape": (1, 16, 16), "channels": (4, 8), "strides": (2, 2), "last_act": None},
        (1, 16, 16),
        None,
    ),
    "DiffusionModelUNet": (
        "DiffusionModelUNet",
        {
            "spatial_dims": 2,
            **_ENDS,
            "num_res_blocks": 1,
            "channels": (8, 8),
            "attention_levels": (False, True),
            "norm_num_groups": 4,
            "num_head_channels": 8,
        },
        (1, 16, 16),
        None,
    ),
    "VoxelMorphUNet 2-D": (
        "VoxelMorphUNet",
        {
            "spatial_dims": 2,
            "in_channels": 2,
            "unet_out_channels": 8,
            "channels": (8, 8, 8, 8),
            "final_conv_channels": (8, 8),
        },
        (2, 32, 32),
        None,
    ),
}


class _AtStep(nn.Module):
    """A denoiser at a step of the diffusion."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("step", torch.tensor([3] * BATCH))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x, self.step)


def _monai(name: str) -> Sample:
    kind, options, shape, output = _MONAI[name]
    model = _from("monai.networks.nets", kind)(**options)
    if kind == "DiffusionModelUNet":
        model = _AtStep(model)
    return Sample(model, (torch.randn(BATCH, *shape),), output)


# --- segmentation -------------------------------------------------------------------------------

_MASKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Unet, resnet18": ("Unet", "resnet18", {}),
    "Unet, scSE": ("Unet", "mobilenet_v2", {"decoder_attention_type": "scse"}),
    "UnetPlusPlus, vgg11_bn": (
        "UnetPlusPlus",
        "vgg11_bn",
        {"decoder_channels": (32, 16, 16, 8, 8)},
    ),
    "MAnet, resnet18": ("MAnet", "resnet18", {}),
    "Linknet, efficientnet-b0": ("Linknet", "efficientnet-b0", {}),
    "FPN, se_resnet50": ("FPN", "se_resnet50", {}),
    "PSPNet, densenet121": ("PSPNet", "densenet121", {}),
    "DeepLabV3, resnet18": ("DeepLabV3", "resnet18", {}),
    "DeepLabV3Plus, dpn68": ("DeepLabV3Plus", "dpn68", {}),
    "PAN, resnet18": ("PAN", "resnet18", {}),
    "UPerNet, mobileone_s0": ("UPerNet", "mobileone_s0", {}),
    "Segformer, mit_b0": ("Segformer", "mit_b0", {}),
    "DPT, vit_tiny": ("DPT", "tu-vit_tiny_patch16_224", {"encoder_weights": None}),
}


def _masks(name: str) -> Sample:
    kind, encoder, options = _MASKS[name]
    options = {"encoder_weights": None, "classes": 3, **options}
    side = 128 if kind == "PAN" else 64
    if kind == "DPT":
        options["dynamic_img_size"] = True
    model = _from("segmentation_models_pytorch", kind)(encoder, **options)
    return Sample(model, (_image(side, side, channels=3),))


# --- graphs -------------------------------------------------------------------------------------

NODES, FEATURES = 6, 5
_RING = [[1, 3, 5, 0, 2, 1, 3, 0, 2, 4, 3, 5, 0, 4], [0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 5]]


class Graphs(nn.Module):
    """A network for graphs on a batch of graphs that have the same edges: (N, nodes, features) in.

    Args:
        network: called with the nodes of all graphs, their edges, and further arguments.
        pool: from the nodes and the graph of each to one row per graph.
        width: how many features the network returns.
        sparse: the edges are a sparse matrix.
        further: arguments of the network by name, one row per edge.
    """

    def __init__(
        self,
        network: nn.Module,
        pool: Callable[..., Tensor],
        width: int,
        sparse: bool = False,
        **further: Tensor,
    ) -> None:
        super().__init__()
        self.network, self.pool, self.head = network, pool, nn.Linear(width, 3)
        edges = torch.tensor(_RING)
        edges = torch.cat([edges + i * NODES for i in range(BATCH)], 1)
        if sparse:
            ones, size = torch.ones(edges.shape[1]), BATCH * NODES
            edges = torch.sparse_coo_tensor(edges.flip(0), ones, (size, size)).to_sparse_csr()
        self.register_buffer("edges", edges)
        self.register_buffer("graph", torch.arange(BATCH).repeat_interleave(NODES))
        self.names = list(further)
        for name, value in further.items():
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        further = {name: getattr(self, name) for name in self.names}
        y = self.network(x.flatten(0, 1), self.edges, **further)
        return self.head(self.pool(y[0] if isinstance(y, tuple) else y, self.graph))


class Pairs(nn.Module):
    """All pairs of atoms of a molecule, with their distances."""

    def __init__(self) -> None:
        super().__init__()
        pairs = torch.combinations(torch.arange(NODES)).T
        pairs = torch.cat([pairs, pairs.flip(0)], 1)
        self.register_buffer("pairs", torch.cat([pairs + i * NODES for i in range(BATCH)], 1))

    def forward(self, places: Tensor, graph: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self.pairs
        return self.pairs, (places[first] - places[second]).norm(dim=-1)


class Poses(nn.Module):
    """The energy of molecules as a function of the places of their atoms: (N, atoms, 3) in."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("atoms", torch.tensor([6, 1, 1, 8, 1, 6] * BATCH))
        self.register_buffer("graph", torch.arange(BATCH).repeat_interleave(NODES))

    def forward(self, places: Tensor) -> Tensor:
        y = self.network(self.atoms, places.flatten(0, 1), self.graph)
        return y[0] if isinstance(y, tuple) else y


_EDGES = len(_RING[0]) * BATCH
_BASIC = {"in_channels": FEATURES, "hidden_channels": 8, "num_layers": 2, "out_channels": 8}
_LAYER = {"in_channels": FEATURES, "out_channels": 8}


def _weights() -> Tensor:
    return torch.rand(_EDGES)


def _attributes(width: int = 4) -> Tensor:
    return torch.rand(_EDGES, width)


def _mlp(first: int = FEATURES) -> nn.Module:
    return nn.Sequential(nn.Linear(first, 8), nn.ReLU(), nn.Linear(8, 8))


# name: module of PyG, class, arguments, pooling, further arguments of forward
_GRAPHS: dict[str, Callable[[], tuple[str, str, dict[str, Any], str, dict[str, Tensor]]]] = {
    "GCN": lambda: ("models", "GCN", _BASIC, "global_mean_pool", {}),
    "GraphSAGE": lambda: ("models", "GraphSAGE", _BASIC, "global_add_pool", {}),
    "GraphSAGE, max": lambda: (
        "models",
        "GraphSAGE",
        {**_BASIC, "aggr": "max"},
        "global_max_pool",
        {},
    ),
    "GraphSAGE, LSTM": lambda: (
        "conv",
        "SAGEConv",
        {**_LAYER, "aggr": "lstm"},
        "global_mean_pool",
        {},
    ),
    "GIN": lambda: ("models", "GIN", {**_BASIC, "jk": "cat"}, "global_add_pool", {}),
    "GAT": lambda: ("models", "GAT", {**_BASIC, "heads": 2}, "global_mean_pool", {}),
    "GATv2": lambda: ("models", "GAT", {**_BASIC, "v2": True}, "global_mean_pool", {}),
    "PNA": lambda: (
        "models",
        "PNA",
        {
            **_BASIC,
            "aggregators": ["mean", "min", "max", "std"],
            "scalers": ["identity", "amplification"],
            "deg": torch.tensor([0, 2, 8, 4]),
        },
        "global_add_pool",
        {},
    ),
    "EdgeCNN": lambda: ("models", "EdgeCNN", _BASIC, "global_max_pool", {}),
    "GraphUNet": lambda: (
        "models",
        "GraphUNet",
        {"in_channels": FEATURES, "hidden_channels": 8, "out_channels": 8, "depth": 1},
        "global_mean_pool",
        {},
    ),
    "GCN, sparse matrix": lambda: ("models", "GCN", _BASIC, "global_mean_pool", {}),
    "GIN, sparse matrix": lambda: ("models", "GIN", _BASIC, "global_mean_pool", {}),
    "ChebConv": lambda: ("conv", "ChebConv", {**_LAYER, "K": 3}, "global_mean_pool", {}),
    "GraphConv": lambda: (
        "conv",
        "GraphConv",
        _LAYER,
        "global_mean_pool",
        {"edge_weight": _weights()},
    ),
    "GatedGraphConv": lambda: (
        "conv",
        "GatedGraphConv",
        {"out_channels": 8, "num_layers": 2},
        "global_mean_pool",
        {},
    ),
    "ResGatedGraphConv": lambda: ("conv", "ResGatedGraphConv", _LAYER, "global_mean_pool", {}),
    "TransformerConv": lambda: (
        "conv",
        "TransformerConv",
        {**_LAYER, "edge_dim": 4},
        "global_mean_pool",
        {"edge_attr": _attributes()},
    ),
    "AGNNConv": lambda: ("conv", "AGNNConv", {}, "global_mean_pool", {}),
    "TAGConv": lambda: ("conv", "TAGConv", _LAYER, "global_mean_pool", {}),
    "GINEConv": lambda: (
        "conv",
        "GINEConv",
        {"nn": _mlp(), "edge_dim": 4},
        "global_add_pool",
        {"edge_attr": _attributes()},
    ),
    "ARMAConv": lambda: ("conv", "ARMAConv", {**_LAYER, "num_stacks": 2}, "global_mean_pool", {}),
    "SGConv": lambda: ("conv", "SGConv", {**_LAYER, "K": 2}, "global_mean_pool", {}),
    "APPNP": lambda: ("conv", "APPNP", {"K": 3, "alpha": 0.1}, "global_mean_pool", {}),
    "MFConv": lambda: ("conv", "MFConv", _LAYER, "global_mean_pool", {}),
    "RGCNConv": lambda: (
        "conv",
        "RGCNConv",
        {**_LAYER, "num_relations": 2},
        "global_mean_pool",
        {"edge_type": torch.arange(_EDGES) % 2},
    ),
    "RGATConv": lambda: (
        "conv",
        "RGATConv",
        {**_LAYER, "num_relations": 2},
        "global_mean_pool",
        {"edge_type": torch.arange(_EDGES) % 2},
    ),
    "NNConv": lambda: (
        "conv",
        "NNConv",
        {**_LAYER, "nn": nn.Linear(4, FEATURES * 8)},
        "global_mean_pool",
        {"edge_attr": _attributes()},
    ),
    "GMMConv": lambda: (
        "conv",
        "GMMConv",
        {**_LAYER, "dim": 2, "kernel_size": 3},
        "global_mean_pool",
        {"edge_attr": _attributes(2)},
    ),
    "CGConv": lambda: ("conv", "CGConv", {"channels": FEATURES}, "global_mean_pool", {}),
    "EdgeConv": lambda: ("conv", "EdgeConv", {"nn": _mlp(2 * FEATURES)}, "global_max_pool", {}),
    "FeaStConv": lambda: ("conv", "FeaStConv", {**_LAYER, "heads": 2}, "global_mean_pool", {}),
    "LEConv": lambda: ("conv", "LEConv", _LAYER, "global_mean_pool", {}),
    "ClusterGCNConv": lambda: ("conv", "ClusterGCNConv", _LAYER, "global_mean_pool", {}),
    "GENConv": lambda: ("conv", "GENConv", {**_LAYER, "aggr": "softmax"}, "global_mean_pool", {}),
    "GENConv, power": lambda: (
        "conv",
        "GENConv",
        {**_LAYER, "aggr": "powermean"},
        "global_mean_pool",
        {},
    ),
    "FiLMConv": lambda: ("conv", "FiLMConv", _LAYER, "global_mean_pool", {}),
    "SuperGATConv": lambda: ("conv", "SuperGATConv", _LAYER, "global_mean_pool", {}),
    "EGConv": lambda: (
        "conv",
        "EGConv",
        {**_LAYER, "aggregators": ["sum", "var", "max"]},
        "global_mean_pool",
        {},
    ),
    "GeneralConv": lambda: (
        "conv",
        "GeneralConv",
        {**_LAYER, "attention": True, "l2_normalize": True},
        "global_mean_pool",
        {},
    ),
    "HypergraphConv": lambda: ("conv", "HypergraphConv", _LAYER, "global_mean_pool", {}),
    "LGConv": lambda: ("conv", "LGConv", {}, "global_mean_pool", {}),
    "GPSConv": lambda: (
        "conv",
        "GPSConv",
        {"channels": FEATURES, "conv": None, "heads": 1},
        "global_mean_pool",
        {},
    ),
    "MixHopConv": lambda: (
        "conv",
        "MixHopConv",
        {**_LAYER, "powers": [0, 1]},
        "global_mean_pool",
        {},
    ),
    "AntiSymmetricConv": lambda: (
        "conv",
        "AntiSymmetricConv",
        {"in_channels": FEATURES},
        "global_mean_pool",
        {},
    ),
    "DirGNNConv": lambda: ("conv", "DirGNNConv", {"conv": None}, "global_mean_pool", {}),
}
_POSES: dict[str, dict[str, Any]] = {
    "SchNet": {"hidden_channels": 8, "num_filters": 8, "num_interactions": 2, "num_gaussians": 8},
}


def _graphs(name: str) -> Sample:
    if name in _POSES:
        network = _from("torch_geometric.nn.models", name)(
            **_POSES[name], interaction_graph=Pairs()
        )
        return Sample(Poses(network), (torch.randn(BATCH, NODES, 3),))
    module, kind, options, pool, further = _GRAPHS[name]()
    gcn = _from("torch_geometric.nn.conv", "GCNConv")
    if name == "GPSConv":
        options = {**options, "conv": gcn(FEATURES, FEATURES)}
    if name == "DirGNNConv":
        options = {**options, "conv": gcn(FEATURES, 8)}
    network = _from(f"torch_geometric.nn.{module}", kind)(**options)
    pooling = _from("torch_geometric.nn", pool)
    x = torch.randn(BATCH, NODES, FEATURES)
    edges = Graphs(network, pooling, 8, **further)
    with torch.no_grad():
        y = network(x.flatten(0, 1), edges.edges, **further)
    width = (y[0] if isinstance(y, tuple) else y).shape[-1]
    return Sample(Graphs(network, pooling, width, "sparse" in name, **further), (x,))


# --- reinforcement learning ---------------------------------------------------------------------


class Choices(nn.Module):
    """The scores, or the means, of a policy's actions."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: Tensor) -> Tensor:
        distribution = self.policy.get_distribution(observation).distribution
        return distribution.mean if hasattr(distribution, "loc") else distribution.logits


class States(nn.Module):
    """The value of a state, as a policy predicts it."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: Tensor) -> Tensor:
        return self.policy.predict_values(observation)


class Recurrent(nn.Module):
    """The scores of a policy with memory, from its first state."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: Tensor) -> Tensor:
        zeros = observation.new_zeros(1, BATCH, 16)
        starts = observation.new_zeros(BATCH)
        found, _ = self.policy.get_distribution(observation, (zeros, zeros), starts)
        return found.distribution.logits


class Named(nn.Module):
    """A policy whose observation is a picture and a vector."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, image: Tensor, vector: Tensor) -> Tensor:
        found = self.policy.get_distribution({"image": image, "vector": vector})
        return found.distribution.logits


_RL = [
    "PPO, actions",
    "PPO, means",
    "PPO, values",
    "PPO, pictures",
    "PPO, dictionary",
    "DQN",
    "DQN, pictures",
    "SAC, actor",
    "SAC, critic",
    "TD3, actor",
    "QR-DQN",
    "TQC, critic",
    "RecurrentPPO",
    "MaskablePPO",
]


def _rl(name: str) -> Sample:
    from gymnasium import spaces

    def rate(_: float) -> float:
        return 1e-3

    vector = spaces.Box(-1, 1, (6,))
    pixels = spaces.Box(0, 255, (3, 36, 36), dtype="uint8")
    few, motion = spaces.Discrete(4), spaces.Box(-1, 1, (2,))
    x = torch.randn(BATCH, 6)
    picture = torch.rand(BATCH, 3, 36, 36) * 255
    common, dqn = "stable_baselines3.common.policies", "stable_baselines3.dqn.policies"
    if name == "PPO, actions":
        return Sample(Choices(_from(common, "ActorCriticPolicy")(vector, few, rate)), (x,))
    if name == "PPO, means":
        return Sample(Choices(_from(common, "ActorCriticPolicy")(vector, motion, rate)), (x,))
    if name == "PPO, values":
        return Sample(States(_from(common, "ActorCriticPolicy")(vector, few, rate)), (x,))
    if name == "PPO, pictures":
        policy = _from(common, "ActorCriticCnnPolicy")(pixels, few, rate)
        return Sample(Choices(policy), (picture,))
    if name == "PPO, dictionary":
        space = spaces.Dict({"image": pixels, "vector": vector})
        policy = _from(common, "MultiInputActorCriticPolicy")(space, few, rate)
        return Sample(Named(policy), (picture, x))
    if name == "DQN":
        return Sample(_from(dqn, "DQNPolicy")(vector, few, rate).q_net, (x,))
    if name == "DQN, pictures":
        return Sample(_from(dqn, "CnnPolicy")(pixels, few, rate).q_net, (picture,))
    if name.startswith("SAC"):
        policy = _from("stable_baselines3.sac.policies", "SACPolicy")(vector, motion, rate)
        if name == "SAC, actor":
            return Sample(Actor(policy.actor), (x,))
        return Sample(policy.critic, (x, torch.rand(BATCH, 2)), 0)
    if name == "TD3, actor":
        policy = _from("stable_baselines3.td3.policies", "TD3Policy")(vector, motion, rate)
        return Sample(policy.actor, (x,))
    contrib = "sb3_contrib"
    if name == "QR-DQN":
        policy = _from(f"{contrib}.qrdqn.policies", "QRDQNPolicy")(vector, few, rate)
        return Sample(policy.quantile_net, (x,))
    if name == "TQC, critic":
        policy = _from(f"{contrib}.tqc.policies", "TQCPolicy")(vector, motion, rate)
        return Sample(policy.critic, (x, torch.rand(BATCH, 2)))
    if name == "RecurrentPPO":
        kind = _from(f"{contrib}.common.recurrent.policies", "RecurrentActorCriticPolicy")
        return Sample(Recurrent(kind(vector, few, rate, lstm_hidden_size=16)), (x,))
    kind = _from(f"{contrib}.common.maskable.policies", "MaskableActorCriticPolicy")
    return Sample(Choices(kind(vector, few, rate)), (x,))


class Actor(nn.Module):
    """What an actor does if it does not explore."""

    def __init__(self, actor: nn.Module) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, observation: Tensor) -> Tensor:
        return self.actor(observation, deterministic=True)


# --- tables -------------------------------------------------------------------------------------

COLUMNS, CATEGORIES = 5, [3, 4]


class Embedded(nn.Module):
    """Numbers that are embedded one by one, and then read by a network."""

    def __init__(self, embeddings: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.embeddings, self.network = embeddings, network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.embeddings(x).flatten(1))


def _bins() -> list[Tensor]:
    return [torch.linspace(-2, 2, 5) for _ in range(COLUMNS)]


_TABLES = [
    "MLP",
    "ResNet",
    "FTTransformer",
    "linear embeddings",
    "periodic embeddings",
    "piecewise linear embeddings",
    "TabNet",
    "TabNet, entmax",
    "TabM",
    "TabM, packed",
    "TabM, mini",
]


def _tables(name: str) -> Sample:
    x = torch.randn(BATCH, COLUMNS)
    codes = torch.stack([torch.randint(0, count, (BATCH,)) for count in CATEGORIES], 1)
    rtdl, numbers = "rtdl_revisiting_models", "rtdl_num_embeddings"
    mlp = _from(rtdl, "MLP")
    if name == "MLP":
        return Sample(mlp(d_in=5, d_out=3, n_blocks=2, d_block=16, dropout=0.1), (x,))
    if name == "ResNet":
        options = {"d_hidden": None, "d_hidden_multiplier": 2.0, "dropout1": 0.1, "dropout2": 0.1}
        kind = _from(rtdl, "ResNet")
        return Sample(kind(d_in=5, d_out=3, n_blocks=2, d_block=16, **options), (x,))
    if name == "FTTransformer":
        kind = _from(rtdl, "FTTransformer")
        options = {**kind.get_default_kwargs(n_blocks=1), "d_block": 16}
        model = kind(n_cont_features=5, cat_cardinalities=CATEGORIES, d_out=3, **options)
        return Sample(model, (x, codes))
    if name.endswith("embeddings"):
        embeddings = {
            "linear embeddings": lambda: _from(numbers, "LinearReLUEmbeddings")(COLUMNS, 4),
            "periodic embeddings": lambda: _from(numbers, "PeriodicEmbeddings")(
                COLUMNS, 4, lite=False
            ),
            "piecewise linear embeddings": lambda: _from(numbers, "PiecewiseLinearEmbeddings")(
                _bins(), 4, activation=False, version="B"
            ),
        }[name]()
        network = mlp(d_in=COLUMNS * 4, d_out=3, n_blocks=2, d_block=16, dropout=0.0)
        return Sample(Embedded(embeddings, network), (x,))
    if name.startswith("TabNet"):
        columns = torch.cat([x, codes.float()], 1)
        kind = _from("pytorch_tabnet.tab_network", "TabNet")
        model = kind(
            *(7, 3),
            cat_idxs=[5, 6],
            cat_dims=CATEGORIES,
            cat_emb_dim=[2, 2],
            mask_type="entmax" if "entmax" in name else "sparsemax",
            group_attention_matrix=torch.eye(7),
        )
        return Sample(model, (columns,), 0)
    arch = {"TabM": "tabm", "TabM, packed": "tabm-packed", "TabM, mini": "tabm-mini"}[name]
    model = _from("tabm", "TabM")(
        n_num_features=COLUMNS,
        cat_cardinalities=CATEGORIES,
        d_out=3,
        n_blocks=2,
        d_block=16,
        dropout=0.0,
        arch_type=arch,
        k=4,
        start_scaling_init=None if arch == "tabm-packed" else "normal",
    )
    return Sample(model, (x, codes))


# --- audio --------------------------------------------------------------------------------------


class Heard(nn.Module):
    """Features of a sound, and a small classifier of them."""

    def __init__(self, features: nn.Module, channels: int, decibels: bool = False) -> None:
        super().__init__()
        self.features, self.decibels = features, decibels
        self.head = nn.Sequential(
            nn.Conv1d(channels, 8, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        )

    def forward(self, sound: Tensor) -> Tensor:
        found = self.features(sound)
        return self.head((found + 1e-6).log() if self.decibels else found)


class Swapped(nn.Module):
    """Features of (N, time, channels) as (N, channels, time)."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, sound: Tensor) -> Tensor:
        return self.features(sound).transpose(1, 2)


class Counted(nn.Module):
    """A model of sequences that wants their lengths, here all full."""

    def __init__(self, model: nn.Module, length: int) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("lengths", torch.full((BATCH,), length))

    def forward(self, x: Tensor) -> Tensor:
        found = self.model(x, self.lengths)
        return found[0] if isinstance(found, tuple) else found


_AUDIO: dict[str, Callable[[], Sample]] = {}


def _audio_model(name: str) -> Callable[[Callable[[], Sample]], Callable[[], Sample]]:
    def put(build: Callable[[], Sample]) -> Callable[[], Sample]:
        _AUDIO[name] = build
        return build

    return put


def _sound(length: int = 800) -> Tensor:
    return torch.randn(BATCH, length)


def _put_audio() -> None:
    transforms, models = "torchaudio.transforms", "torchaudio.models"
    nnet, lobes = "speechbrain.nnet", "speechbrain.lobes"
    fft = {"n_fft": 64, "hop_length": 32}

    def heard(name: str, kind: str, channels: int, decibels: bool, **options: Any) -> None:
        _AUDIO[name] = lambda: Sample(
            Heard(_from(transforms, kind)(**options), channels, decibels), (_sound(),)
        )

    heard("Spectrogram", "Spectrogram", 33, False, **fft)
    heard("Spectrogram, magnitude, logarithm", "Spectrogram", 33, True, power=1.0, **fft)
    heard("MelSpectrogram, logarithm", "MelSpectrogram", 8, True, sample_rate=8000, n_mels=8, **fft)
    heard("MFCC", "MFCC", 6, False, sample_rate=8000, n_mfcc=6, melkwargs={"n_mels": 8, **fft})
    heard("LFCC", "LFCC", 6, False, sample_rate=8000, n_filter=8, n_lfcc=6, speckwargs=fft)
    _AUDIO["AmplitudeToDB"] = lambda: Sample(
        Heard(
            nn.Sequential(
                _from(transforms, "MelSpectrogram")(sample_rate=8000, n_mels=8, **fft),
                _from(transforms, "AmplitudeToDB")(top_db=80.0),
            ),
            8,
        ),
        (_sound(),),
    )
    _AUDIO["Conformer"] = lambda: Sample(
        Counted(
            _from(models, "Conformer")(
                input_dim=8, num_heads=2, ffn_dim=16, num_layers=1, depthwise_conv_kernel_size=5
            ),
            10,
        ),
        (torch.randn(BATCH, 10, 8),),
    )
    _AUDIO["ConvTasNet"] = lambda: Sample(
        _from(models, "ConvTasNet")(
            enc_num_feats=8,
            msk_num_feats=8,
            msk_num_hidden_feats=8,
            msk_num_layers=2,
            msk_num_stacks=1,
        ),
        (torch.randn(BATCH, 1, 400),),
    )
    _AUDIO["DeepSpeech"] = lambda: Sample(
        _from(models, "DeepSpeech")(n_feature=8, n_hidden=16, n_class=4),
        (torch.randn(BATCH, 1, 10, 8),),
    )
    _AUDIO["Wav2Letter"] = lambda: Sample(
        _from(models, "Wav2Letter")(num_classes=4, input_type="mfcc", num_features=8),
        (torch.randn(BATCH, 8, 60),),
    )
    _AUDIO["wav2vec 2"] = lambda: Sample(
        _from(models, "wav2vec2_model")(
            extractor_mode="group_norm",
            extractor_conv_layer_config=[(8, 10, 5), (8, 3, 2)],
            extractor_conv_bias=False,
            encoder_embed_dim=16,
            encoder_projection_dropout=0.0,
            encoder_pos_conv_kernel=8,
            encoder_pos_conv_groups=2,
            encoder_num_layers=1,
            encoder_num_heads=2,
            encoder_attention_dropout=0.0,
            encoder_ff_interm_features=16,
            encoder_ff_interm_dropout=0.0,
            encoder_dropout=0.0,
            encoder_layer_norm_first=False,
            encoder_layer_drop=0.0,
            aux_num_out=4,
        ),
        (_sound(),),
        0,
    )
    _AUDIO["WaveRNN"] = lambda: Sample(
        _WaveRNN(
            _from(models, "WaveRNN")(
                upsample_scales=[2, 2],
                n_classes=4,
                hop_length=4,
                n_res_block=1,
                n_rnn=8,
                n_fc=8,
                n_freq=8,
                n_hidden=8,
                n_output=8,
            )
        ),
        (torch.randn(BATCH, 1, (10 - 5 + 1) * 4), torch.randn(BATCH, 1, 8, 10)),
    )
    _AUDIO["HDemucs"] = lambda: Sample(
        _from(models, "HDemucs")(
            sources=["a", "b"], nfft=256, depth=3, channels=4, audio_channels=1
        ),
        (torch.randn(BATCH, 1, 2048),),
    )
    _AUDIO["Emformer"] = lambda: Sample(
        Counted(
            _from(models, "Emformer")(
                input_dim=8,
                num_heads=2,
                ffn_dim=16,
                num_layers=1,
                segment_length=4,
                right_context_length=1,
            ),
            8,
        ),
        (torch.randn(BATCH, 9, 8),),
    )
    _AUDIO["ECAPA-TDNN"] = lambda: Sample(
        _from(f"{lobes}.models.ECAPA_TDNN", "ECAPA_TDNN")(
            8,
            lin_neurons=8,
            channels=[16] * 5,
            attention_channels=8,
            res2net_scale=4,
            se_channels=8,
        ),
        (torch.randn(BATCH, 30, 8),),
    )
    _AUDIO["CRDNN"] = lambda: Sample(
        _from(f"{lobes}.models.CRDNN", "CRDNN")(
            input_shape=[BATCH, 20, 8],
            cnn_blocks=1,
            cnn_channels=(4,),
            rnn_layers=1,
            rnn_neurons=8,
            dnn_neurons=8,
        ),
        (torch.randn(BATCH, 20, 8),),
    )
    _AUDIO["Fbank"] = lambda: Sample(
        Heard(Swapped(_from(f"{lobes}.features", "Fbank")(n_mels=8, sample_rate=8000)), 8),
        (_sound(1600),),
    )
    _AUDIO["SincConv"] = lambda: Sample(
        Heard(Swapped(_from(f"{nnet}.CNN", "SincConv")(8, 33, input_shape=(BATCH, 800))), 8),
        (_sound(),),
    )
    _AUDIO["Dual path, SepFormer"] = lambda: Sample(_dual_path(), (_sound(320),))
    for kind in ("ParamSincFB", "FreeFB", "STFTFB", "AnalyticFreeFB"):
        _AUDIO[f"filterbank {kind}"] = lambda kind=kind: _filterbank(kind)


class _WaveRNN(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, wave: Tensor, spectrum: Tensor) -> Tensor:
        return self.model(wave, spectrum)[:, 0]


class _Separated(nn.Module):
    """A separation by masks: encoder, masks, decoder."""

    def __init__(self, encoder: nn.Module, masks: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.masks, self.decoder = encoder, masks, decoder

    def forward(self, sound: Tensor) -> Tensor:
        found = self.encoder(sound)
        masks = self.masks(found)
        return torch.stack([self.decoder(found * mask) for mask in masks], 1)


def _dual_path() -> nn.Module:
    dual = "speechbrain.lobes.models.dual_path"

    def block() -> nn.Module:
        return _from(dual, "SBTransformerBlock")(
            num_layers=1, d_model=8, nhead=2, d_ffn=16, use_positional_encoding=True
        )

    masks = _from(dual, "Dual_Path_Model")(
        in_channels=8, out_channels=8, intra_model=block(), inter_model=block(), num_layers=1, K=8
    )
    encoder = _from(dual, "Encoder")(kernel_size=8, out_channels=8)
    decoder = _from(dual, "Decoder")(in_channels=8, out_channels=1, kernel_size=8, stride=4)
    return _Separated(encoder, masks, decoder)


def _filterbank(kind: str) -> Sample:
    filters = _from("asteroid_filterbanks", kind)
    options = {"n_filters": 16, "kernel_size": 33 if kind == "ParamSincFB" else 32, "stride": 16}
    if kind == "STFTFB":
        options["n_filters"] = 32
    encoder = _from("asteroid_filterbanks", "Encoder")(filters(**options))
    with torch.no_grad():
        channels = encoder(_sound()).shape[1]
    return Sample(Heard(encoder, channels), (_sound(),))


def _audio(name: str) -> Sample:
    _put_audio()
    return _AUDIO[name]()


def _audio_names() -> list[str]:
    _put_audio()
    return list(_AUDIO)


# --- recommendation -----------------------------------------------------------------------------

_CLICKS = [
    "DeepFM",
    "WDL",
    "DCN",
    "DCNMix",
    "xDeepFM",
    "AutoInt",
    "NFM",
    "AFM",
    "PNN",
    "FiBiNET",
    "CCPM",
    "ONN",
    "MLR",
    "IFM",
    "DIFM",
    "AFN",
    "DIN",
    "DIEN",
    "MMOE",
    "PLE",
    "ESMM",
    "SharedBottom",
]


def _clicks(name: str) -> Sample:
    dense, sparse = "deepctr_torch.inputs", {"embedding_dim": 4}
    columns = [
        *(_from(dense, "SparseFeat")(f"c{i}", 5, **sparse) for i in range(3)),
        *(_from(dense, "DenseFeat")(f"d{i}", 1) for i in range(2)),
    ]
    x = torch.cat([torch.randint(0, 5, (BATCH, 3)).float(), torch.rand(BATCH, 2)], 1)
    kind = _from("deepctr_torch.models", name)
    small = {"dnn_hidden_units": (8, 8)}
    if name in ("DIN", "DIEN"):
        features = _from(dense, "VarLenSparseFeat")
        item = _from(dense, "SparseFeat")("item", 6, embedding_dim=4)
        lengths = {"length_name": "length"}
        history = [
            features(
                _from(dense, "SparseFeat")("hist_item", 6, embedding_dim=4, embedding_name="item"),
                4,
                **lengths,
            )
        ]
        columns = [*columns, item, *history]
        behaviour = torch.tensor([[1.0, 2, 3, 0], [4, 5, 0, 0]])
        x = torch.cat([x, torch.tensor([[2.0], [3.0]]), behaviour, torch.tensor([[3.0], [2.0]])], 1)
        return Sample(kind(columns, ["item"], att_weight_normalization=True, **small), (x,))
    if name in ("MMOE", "PLE", "ESMM", "SharedBottom"):
        tasks = {"task_types": ["binary", "binary"]}
        if name != "ESMM":
            tasks["task_names"] = ["click", "buy"]
        return Sample(kind(columns, **tasks), (x,))
    if name == "PNN":
        return Sample(kind(columns, use_outter=True, **small), (x,))
    if name == "AFN":
        return Sample(kind(columns, columns, ltl_hidden_size=8, afn_dnn_hidden_units=(8, 8)), (x,))
    if name == "MLR":
        return Sample(kind(columns), (x,))
    if name == "AFM":
        return Sample(kind(columns[:3], columns[:3]), (x[:, :3],))
    if name == "CCPM":
        return Sample(
            kind(columns[:3], columns[:3], conv_kernel_width=(2, 2), conv_filters=(2, 2), **small),
            (x[:, :3],),
        )
    return Sample(kind(columns, columns, **small), (x,))


# --- pictures and words -------------------------------------------------------------------------

_TOWER = {"width": 32, "layers": 2, "heads": 2, "context_length": 8, "vocab_size": 50}
_VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}


class Similarity(nn.Module):
    """The similarity of each picture and each of some texts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        pictures = self.model.encode_image(image, normalize=True)
        return (pictures * self.model.encode_text(text, normalize=True)).sum(-1, keepdim=True)


_PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ViT": (_VISION, _TOWER),
    "ViT, pooled": ({**_VISION, "pool_type": "avg", "final_ln_after_pool": True}, _TOWER),
    "ViT, attentional pooling": (
        {**_VISION, "attentional_pool": True, "attn_pooler_heads": 2},
        _TOWER,
    ),
    "ResNet": (
        {
            "image_size": 64,
            "layers": [1, 1, 1, 1],
            "width": 8,
            "patch_size": None,
            "head_width": 16,
        },
        _TOWER,
    ),
    "timm": (
        {
            "timm_model_name": "test_convnext",
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": 32,
        },
        _TOWER,
    ),
}


def _pairs(name: str) -> Sample:
    vision, text = _PAIRS[name.removesuffix(", logits")]
    model = _from("open_clip.model", "CLIP")(16, vision, text)
    side = vision["image_size"]
    words = torch.randint(1, 50, (BATCH, 8))
    return Sample(Similarity(model), (_image(side, side, channels=3), words))


DOMAINS: dict[str, tuple[Callable[[], list[str]], Callable[[str], Sample]]] = {
    "braindecode": (lambda: list(_EEG), _eeg),
    "monai": (lambda: list(_MONAI), _monai),
    "segmentation": (lambda: list(_MASKS), _masks),
    "graphs": (lambda: [*_GRAPHS, *_POSES], _graphs),
    "reinforcement": (lambda: list(_RL), _rl),
    "tables": (lambda: list(_TABLES), _tables),
    "audio": (_audio_names, _audio),
    "recommendation": (lambda: list(_CLICKS), _clicks),
    "clip": (lambda: list(_PAIRS), _pairs),
}
