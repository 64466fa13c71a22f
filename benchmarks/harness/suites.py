"""The suites of models of the coverage benchmark, without additive constants.

Every model has random weights. Its additive constants (biases, β, running means, position tables, class
tokens) are zero and its running variances are second moments of a batch, so that with conserving rules
the relevance of the input sums up to the explained output.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from harness.domains import DOMAINS
from harness.sample import BATCH, Sample

SIDES = (64, 96, 128)  # tried where small images are asked for
PIXELS, SMALL = 224, 64  # sides of the images for classification and for segmentation
LARGE = 30_000_000  # parameters; from there on float32, for memory
ADDITIVE = re.compile(
    r"bias|beta$|pos_?emb|position|pos_table|(cls|class|dist|distillation|reg|mask)_?(token|emb)|cls_pos|register"
    r"|token_type|rel_embed|rel_pos|latent$|talking|wpe"
)


def torchvision_names() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models)


def torchvision_sample(name: str) -> Sample:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, **options)
    return Sample(model, (torch.randn(BATCH, 3, PIXELS, PIXELS),))


# The smallest model of each module of timm 1.0.31.
TIMM = """
    beit_base_patch16_224 cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32 cpubone_nano
    crossvit_tiny_240 cs3darknet_focus_s csatv2 cspnext_tiny davit_tiny deepseek_vit_412m
    deit_tiny_patch16_224 densenet121 dla46x_c dpn48b edgenext_xx_small efficientformer_l1
    efficientformerv2_s0 efficientvim_m1 efficientvit_b0 efficientvit_m0 ese_vovnet19b_slim_dw
    fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny gemma4_vit_167m ghostnet_050
    gmlp_ti16_224 halonet_h1 hardcorenas_b hgnetv2_b0 hiera_tiny_224 hrnet_w18_small iformer_t
    inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small
    legacy_seresnet18 legacy_xception levit_128s lowformer_b0 mobilenetv3_small_050 mobilenetv5_base
    mobilevit_xxs mvitv2_tiny naflexvit_base_patch16_parfac_gap nasnetalarge nest_tiny nextvit_small
    pit_ti_224 pnasnet5large poolformerv2_s12 pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetx_002
    repghostnet_050 repvit_m1 res2next50 resnest14d resnetv2_18 rexnet_100 sam2_hiera_tiny
    samvit_base_patch16_224 selecsls42 sequencer2d_s shvit_s1 skresnet18 starnet_s050 swiftformer_xs
    swin_tiny_patch4_window7_224 swinv2_cr_tiny_224 swinv2_tiny_window8_256 test_byobnet
    test_coatnet test_convnext test_efficientnet test_mambaout test_nfnet test_resnet test_vit
    test_vit_relpos tiny_vit_5m_224 tnt_s_legacy_patch16_224 tresnet_m twins_svt_small vgg11
    visformer_tiny vit_tiny_patch16_dinov3_qkvb vit_tiny_r_s16_p8_224 vitamin_small_224 volo_d1_224
    xception41p xcit_nano_12_p8_224
"""


# The largest of them with fewer blocks, and convolutional ones on smaller images.
TIMM_OPTIONS: dict[str, dict[str, Any]] = {
    "beit_base_patch16_224": {"depth": 2},
    "deepseek_vit_412m": {"depth": 2, "img_size": 168},
    "gemma4_vit_167m": {"depth": 2, "img_size": 192},
    "naflexvit_base_patch16_parfac_gap": {"depth": 2, "img_size": 64},
    "qwen3_vit_88m": {"depth": 2, "img_size": 192},
}
TIMM_SIDES = {
    64: "convmixer_768_32 naflexvit_base_patch16_parfac_gap nextvit_small selecsls42 tresnet_m vgg11",
    96: "inception_resnet_v2 inception_v3 inception_v4 nasnetalarge pnasnet5large",
    128: "mobilenetv5_base",
    168: "deepseek_vit_412m",
    192: "gemma4_vit_167m qwen3_vit_88m",
    256: "sam2_hiera_tiny",
}


def timm_names() -> list[str]:
    return TIMM.split()


def timm_sample(name: str) -> Sample:
    import timm

    model = timm.create_model(name, pretrained=False, **TIMM_OPTIONS.get(name, {}))
    _, height, width = model.pretrained_cfg.get("input_size", (3, 224, 224))
    for side, names in TIMM_SIDES.items():
        if name in names.split():
            height = width = side
    return Sample(model, (torch.randn(BATCH, 3, height, width),))


_TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
}
_DECODER = {"vocab_size": 100, "use_cache": False}
_GROUPED = {**_TEXT, "num_key_value_heads": 2, "head_dim": 8, "use_cache": False}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_IMAGE = {k: v for k, v in _TEXT.items() if k != "vocab_size"} | {"image_size": 32, "patch_size": 8}
_STAGES = {"num_channels": 3, "hidden_sizes": [16, 32], "depths": [1, 1]}
_AUDIO = {
    **_TEXT,
    "conv_dim": (16, 16),
    "conv_kernel": (10, 3),
    "conv_stride": (5, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 16,
    "apply_spec_augment": False,
}
_SEQ2SEQ = {
    **_DECODER,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}

# name: (configuration class, its arguments, what the model is for)
HUGGING_FACE: dict[str, tuple[str, dict[str, Any], str]] = {
    "BERT": ("BertConfig", _TEXT, "text"),
    "RoBERTa": ("RobertaConfig", _TEXT, "text"),
    "DistilBERT": (
        "DistilBertConfig",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 100},
        "text",
    ),
    "ALBERT": ("AlbertConfig", {**_TEXT, "embedding_size": 16}, "text"),
    "ELECTRA": ("ElectraConfig", {**_TEXT, "embedding_size": 16}, "text"),
    "DeBERTa-v2": (
        "DebertaV2Config",
        {**_TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        "text",
    ),
    "ModernBERT": (
        "ModernBertConfig",
        {**_TEXT, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2},
        "text",
    ),
    "GPT-2": (
        "GPT2Config",
        {**_DECODER, "n_embd": 32, "n_layer": 2, "n_head": 4},
        "causal",
    ),
    "GPT-NeoX": ("GPTNeoXConfig", {**_TEXT, **_DECODER}, "causal"),
    "OPT": (
        "OPTConfig",
        {**_TEXT, "ffn_dim": 64, "word_embed_proj_dim": 32, "use_cache": False},
        "causal",
    ),
    "Llama": ("LlamaConfig", _GROUPED, "causal"),
    "Mistral": ("MistralConfig", _GROUPED, "causal"),
    "Qwen2": ("Qwen2Config", _GROUPED, "causal"),
    "Qwen3": ("Qwen3Config", _GROUPED, "causal"),
    "Gemma2": ("Gemma2Config", _GROUPED, "causal"),
    "Gemma3": ("Gemma3TextConfig", _GROUPED, "causal"),
    "Phi3": ("Phi3Config", {**_GROUPED, "pad_token_id": 0}, "causal"),
    "Mixtral": ("MixtralConfig", {**_GROUPED, "num_local_experts": 4}, "causal"),
    "Qwen3-MoE": ("Qwen3MoeConfig", {**_GROUPED, **_EXPERTS}, "causal"),
    "Mamba": (
        "MambaConfig",
        {**_DECODER, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
        "causal",
    ),
    "T5": (
        "T5Config",
        {**_DECODER, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
        "seq2seq",
    ),
    "BART": ("BartConfig", _SEQ2SEQ, "seq2seq"),
    "ViT": ("ViTConfig", _IMAGE, "image"),
    "DeiT": ("DeiTConfig", _IMAGE, "DeiTForImageClassification"),
    "BEiT": ("BeitConfig", {**_IMAGE, "use_relative_position_bias": True}, "image"),
    "DINOv2": ("Dinov2Config", _IMAGE, "image"),
    "Swin": (
        "SwinConfig",
        {
            "image_size": 32,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
        },
        "image",
    ),
    "ConvNeXt": ("ConvNextConfig", {**_STAGES, "num_stages": 2}, "image"),
    "Segformer": (
        "SegformerConfig",
        {
            "num_encoder_blocks": 2,
            "depths": [1, 1],
            "sr_ratios": [2, 1],
            "hidden_sizes": [16, 32],
            "patch_sizes": [7, 3],
            "strides": [4, 2],
            "num_attention_heads": [1, 2],
            "mlp_ratios": [2, 2],
            "decoder_hidden_size": 16,
        },
        "segmentation",
    ),
    "CLIP vision": ("CLIPVisionConfig", _IMAGE, "vision tower"),
    "SigLIP vision": ("SiglipVisionConfig", _IMAGE, "vision tower"),
    "wav2vec2": ("Wav2Vec2Config", _AUDIO, "audio"),
    "HuBERT": ("HubertConfig", _AUDIO, "audio"),
    "Whisper": (
        "WhisperConfig",
        {
            **_SEQ2SEQ,
            "num_mel_bins": 16,
            "max_source_positions": 20,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
        "speech",
    ),
}
AUTO_CLASSES = {
    "text": "AutoModelForSequenceClassification",
    "causal": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "image": "AutoModelForImageClassification",
    "segmentation": "AutoModelForSemanticSegmentation",
    "vision tower": "AutoModel",
    "audio": "AutoModelForAudioClassification",
    "speech": "AutoModelForSpeechSeq2Seq",
}


def hugging_face_sample(name: str) -> Sample:
    import transformers

    config_class, options, purpose = HUGGING_FACE[name]
    config = getattr(transformers, config_class)(**options)
    if purpose not in ("causal", "seq2seq", "speech"):
        config.num_labels = 10
    model = (
        getattr(transformers, AUTO_CLASSES[purpose]).from_config(config)
        if purpose in AUTO_CLASSES
        else getattr(transformers, purpose)(config)
    )
    tokens = torch.randint(3, 100, (BATCH, 7))
    decoder = torch.randint(3, 100, (BATCH, 5))
    if purpose in ("text", "causal"):
        return Sample(model, (tokens,), "logits")
    if purpose == "seq2seq":
        return Sample(EncoderDecoder(model), (tokens, decoder))
    if purpose == "speech":
        return Sample(EncoderDecoder(model), (torch.randn(BATCH, 16, 40), decoder))
    if purpose == "audio":
        return Sample(model, (torch.randn(BATCH, 800),), "logits")
    size = 64 if purpose == "segmentation" else 32
    output = "pooler_output" if purpose == "vision tower" else "logits"
    return Sample(model, (torch.randn(BATCH, 3, size, size),), output)


class EncoderDecoder(nn.Module):
    """A model of two sequences as a function of both, to explain both."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.model(source, decoder_input_ids=target).logits


class BoxScores(nn.Module):
    """The class scores of all boxes of a detector: (N, boxes, classes)."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(list(self.backbone(x).values()))["cls_logits"]


HEADS = {
    "fcn_resnet50": "out",
    "deeplabv3_resnet50": "out",
    "deeplabv3_mobilenet_v3_large": "out",
    "lraspp_mobilenet_v3_large": "out",
    "retinanet_resnet50_fpn": None,
}


def head_sample(name: str) -> Sample:
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    if name.startswith("retinanet"):
        return Sample(BoxScores(model), (torch.randn(BATCH, 3, 128, 128),))
    return Sample(model, (torch.randn(BATCH, 3, SMALL, SMALL),), HEADS[name])


SUITES: dict[str, tuple[Callable[[], Iterable[str]], Callable[[str], Sample]]] = {
    "torchvision": (torchvision_names, torchvision_sample),
    "timm": (timm_names, timm_sample),
    "huggingface": (lambda: HUGGING_FACE, hugging_face_sample),
    "heads": (lambda: HEADS, head_sample),
    **DOMAINS,
}


# --- without additive constants ---------------------------------------------------------------


@torch.no_grad()
def without_additive_constants(sample: Sample) -> None:
    """Zero what is added; give weights to what was initialized to zero; variances from the batch."""
    model = sample.model.eval()
    for name, parameter in model.named_parameters():
        if ADDITIVE.search(name):
            parameter.zero_()
        elif parameter.abs().max() < 1e-3:  # zero-initialized heads, layer scales, residual gammas
            if parameter.dim() > 1 and "gamma" not in name and "scale" not in name:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
            else:
                parameter.uniform_(0.5, 1.5)
    norms = [m for m in model.modules() if isinstance(m, _NormBase) and m.running_var is not None]
    handles = [norm.register_forward_pre_hook(_measure) for norm in norms]
    sample.outputs()
    for handle in handles:
        handle.remove()
    if not sample.outputs().any():  # where all hangs on the class token
        for name, parameter in model.named_parameters():
            if re.search(r"_token\d*$", name):
                parameter.normal_(std=0.1)


def _measure(norm: _NormBase, inputs: tuple[Tensor, ...]) -> None:
    """A norm without a mean, whose output has the size of one: or the network blows up rounding."""
    x = inputs[0]
    norm.running_mean.zero_()
    norm.running_var.copy_(x.square().mean([d for d in range(x.dim()) if d != 1]))


def strongest(output: Tensor) -> list[tuple[int, ...]]:
    """Of each sample the place of the largest output."""
    largest = output.reshape(output.shape[0], -1).argmax(1)
    places = torch.unravel_index(largest, output.shape[1:])
    return list(zip(*(each.tolist() for each in places), strict=True))


@torch.no_grad()
def smaller(sample: Sample) -> Sample:
    """The first of its samples alone and, of square images, the smallest corner that the model takes."""
    first = replace(sample, inputs=tuple(x[:1] for x in sample.inputs), model=sample.model.eval())
    image, *others = first.inputs
    corners: list[Sample] = []
    if not others and image.dim() == 4 and image.shape[2] == image.shape[3]:
        sides = (side for side in SIDES if side < image.shape[3])
        corners = [replace(first, inputs=(image[..., :side, :side],)) for side in sides]
    return next((each for each in [*corners, first] if fits(each)), sample)


def fits(sample: Sample) -> bool:
    """Whether the model takes these inputs."""
    try:
        sample.outputs()
    except Exception:  # models refuse sizes in many words
        return False
    return True


def sample_of(suite: str, name: str, *, small: bool = False) -> Sample:
    """A model of a suite without additive constants, in float64 where possible; always the same.

    Args:
        suite: its name.
        name: of the model.
        small: of one sample, and images as small as the model takes.
    """
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    sample = SUITES[suite][1](name)
    if small:
        sample = smaller(sample)
    if parameters_of(sample) < LARGE:
        sample = sample.to(torch.float64)
    try:
        without_additive_constants(sample)
    except (RuntimeError, ValueError):  # a model that makes float32 tensors itself
        sample = sample.to(torch.float32)
        without_additive_constants(sample)
    return sample


def parameters_of(sample: Sample) -> int:
    return sum(p.numel() for p in sample.model.parameters())
