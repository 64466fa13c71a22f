"""Which models lrp_fx explains, and whether their relevance adds up.

Every model is built with random weights, its additive constants (biases, β, running means, position
tables, class tokens) are set to zero and its running variances are second moments of a batch, so that
with conserving rules the relevance of the input sums up to the explained output. Each model runs in a
process of its own; the page says of each whether it was explained, by which capture, in what time,
and where relevance was lost:

    python benchmarks/coverage.py --suite all --out docs/
    python benchmarks/coverage.py --suite timm --only swin_tiny_patch4_window7_224 --out docs/

The suites need ``timm`` and ``transformers``, whose models they read; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from lrp_fx import LRPFx
from lrp_fx.capture.captured import Arguments
from lrp_fx.plan.view import View
from lrp_fx.run.ledger import Ledger

BATCH = 2
PIXELS, SMALL = 224, 64  # sides of the images for classification and for segmentation
LARGE = 30_000_000  # parameters; from there on float32, for memory
CONSERVED = 0.01  # |Σ relevance / output − 1| up to which a sum counts as right
EXPLODED = 100.0  # largest |R| / |output| from which relevance counts as exploded
# of max |R|, the two engines; of Σ |terms|, each node of the ledger. Some models cast to float32
# whatever they are given: "mixed"
AGREED = {"float64": 1e-9, "mixed": 1e-6, "float32": 1e-3}
CLOSED = {"float64": 1e-9, "mixed": 1e-6, "float32": 1e-3}
MENTIONED = 0.01  # of the output: losses that the page names
ADDITIVE = re.compile(
    r"bias|beta$|pos_?emb|position|pos_table|(cls|class|dist|distillation|reg|mask)_?(token|emb)|cls_pos|register"
    r"|token_type|rel_embed|rel_pos|latent$|talking|wpe"
)


@dataclass(frozen=True)
class Sample:
    """A model with what is to be explained of it."""

    model: nn.Module
    inputs: tuple[Tensor, ...]
    output: str | None = None

    def to(self, dtype: torch.dtype) -> Sample:
        inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in self.inputs)
        return replace(self, model=self.model.to(dtype), inputs=inputs)

    @torch.no_grad()
    def outputs(self) -> Tensor:
        own = self.model(*self.inputs)
        return own if self.output is None else own[self.output]


@dataclass(frozen=True)
class Result:
    """What became of one model; relative figures are the worst over the batch."""

    suite: str
    name: str
    error: str = ""
    capture: str = ""
    composite: str = ""
    dtype: str = ""
    parameters: int = 0
    seconds: float = math.nan
    ratio: float = math.nan
    engines: float = math.nan
    largest: float = math.nan
    constant_path: float = math.nan
    gap: float = math.nan
    losses: dict[str, float] = field(default_factory=dict)

    @property
    def conserves(self) -> bool:
        return near_one(self.ratio)


# --- the suites ---------------------------------------------------------------------------------


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
TIMM_SIZES = {
    "deepseek_vit_412m": (168, 168),
    "convmixer_768_32": (64, 64),
    "gemma4_vit_167m": (192, 192),
    "inception_resnet_v2": (96, 96),
    "inception_v3": (96, 96),
    "inception_v4": (96, 96),
    "mobilenetv5_base": (128, 128),
    "naflexvit_base_patch16_parfac_gap": (64, 64),
    "nasnetalarge": (96, 96),
    "nextvit_small": (64, 64),
    "pnasnet5large": (96, 96),
    "qwen3_vit_88m": (192, 192),
    "sam2_hiera_tiny": (256, 256),
    "selecsls42": (64, 64),
    "tresnet_m": (64, 64),
    "vgg11": (64, 64),
}


def timm_names() -> list[str]:
    return TIMM.split()


def timm_sample(name: str) -> Sample:
    import timm

    model = timm.create_model(name, pretrained=False, **TIMM_OPTIONS.get(name, {}))
    _, height, width = model.pretrained_cfg.get("input_size", (3, 224, 224))
    size = TIMM_SIZES.get(name, (height, width))
    return Sample(model, (torch.randn(BATCH, 3, *size),))


_TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
}
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
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "vocab_size": 100,
    "use_cache": False,
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
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100, "use_cache": False},
        "causal",
    ),
    "GPT-NeoX": ("GPTNeoXConfig", {**_TEXT, "use_cache": False}, "causal"),
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
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "state_size": 8,
            "vocab_size": 100,
            "use_cache": False,
        },
        "causal",
    ),
    "T5": (
        "T5Config",
        {
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 64,
            "num_layers": 2,
            "num_heads": 4,
            "vocab_size": 100,
            "use_cache": False,
        },
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
}


# --- one model ----------------------------------------------------------------------------------


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
    flat = output.reshape(output.shape[0], -1).argmax(1)
    shape = output.shape[1:]
    places = []
    for index in flat.tolist():
        place: list[int] = []
        for size in reversed(shape):
            place.insert(0, index % size)
            index //= size
        places.append(tuple(place))
    return places


def twin(lrp: LRPFx, composite: Any = None, **options: Any) -> LRPFx:
    """Another attribution of the same model that does not read the model again."""
    other = LRPFx(lrp.forward_func, composite, **options)
    for key, readings in lrp._explainer._readings.items():
        other._explainer._readings[key] = [replace(each, programs={}) for each in readings]
    return other


def sample_of(suite: str, name: str) -> Sample:
    """A model of a suite without additive constants, in float64 where it can be; always the same."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    sample = SUITES[suite][1](name)
    if parameters_of(sample) < LARGE:
        sample = sample.to(torch.float64)
    try:
        without_additive_constants(sample)
    except RuntimeError:  # a model that makes float32 tensors itself
        sample = sample.to(torch.float32)
        without_additive_constants(sample)
    return sample


def parameters_of(sample: Sample) -> int:
    return sum(p.numel() for p in sample.model.parameters())


def measure(suite: str, name: str) -> Result:
    """Build a model, explain it, and compare."""
    result = Result(suite, name)
    try:
        sample = sample_of(suite, name)
        return explained(replace(result, parameters=parameters_of(sample)), sample)
    except Exception as error:
        if "-v" in sys.argv:
            raise
        return replace(result, error=f"{type(error).__name__}: {error}")


def explained(result: Result, sample: Sample) -> Result:
    output = sample.outputs()
    targets = strongest(output)
    y = torch.stack([output[i][place] for i, place in enumerate(targets)]).double()

    def attribute(lrp: LRPFx) -> Tensor:
        parts = lrp.attribute(sample.inputs, targets)
        return torch.cat([part.double().flatten(1) for part in parts], 1)

    lrp = LRPFx(sample.model, output=sample.output)
    began = time.perf_counter()
    relevance = attribute(lrp)
    seconds = time.perf_counter() - began
    arguments = Arguments.of(sample.inputs)
    program = lrp._explainer.program(arguments, len(sample.inputs), View())
    capture, composite, *_ = program.plan.notes
    ledger = lrp.audit(sample.inputs, targets)
    casts = output.dtype == torch.float64 and any(
        torch.float32 in (*step.node.args, *step.node.kwargs.values())
        for step in program.plan.steps
    )
    by_gradient = attribute(twin(lrp, output=sample.output, propagation="gradient"))
    result = replace(
        result,
        capture=capture.removeprefix("capture: "),
        composite=composite.removeprefix("composite: "),
        dtype="mixed" if casts else str(output.dtype).removeprefix("torch."),
        seconds=seconds,
        ratio=worst(relevance.sum(1) / y),
        engines=float((relevance - by_gradient).abs().max() / relevance.abs().max()),
        largest=float((relevance.abs().amax(1) / y.abs()).max()),
        gap=unexplained(ledger),
        losses=losses(ledger),
    )
    if "AttnLRP" in composite:
        constant_path = attribute(twin(lrp, "cp_lrp", output=sample.output))
        result = replace(result, constant_path=worst(constant_path.sum(1) / y))
    return result


def worst(ratios: Tensor) -> float:
    return float(ratios[(ratios - 1).abs().argmax()])


def losses(ledger: Ledger) -> dict[str, float]:
    """What operations took (positive) or made, by cause, as shares of the output; the mean."""
    taken: dict[str, float] = {}
    for entry in ledger.entries:
        for cause, amounts in entry.taken.items():
            shares = [amount / start for amount, start in zip(amounts, ledger.start, strict=True)]
            name = f"{entry.operation} {cause}"
            taken[name] = taken.get(name, 0.0) + sum(shares) / len(shares)
    ranked = sorted(taken.items(), key=lambda item: -abs(item[1]))
    return {name: loss for name, loss in ranked if abs(loss) > MENTIONED}


def unexplained(ledger: Ledger) -> float:
    """The largest gap in the ledger of any node, as a share of Σ |terms| there."""
    pairs = [
        (abs(gap), size)
        for entry in ledger.entries
        for gap, size in zip(entry.gap, entry.terms, strict=True)
    ]
    return max(gap / size for gap, size in pairs if size)


# --- all models ---------------------------------------------------------------------------------


def _work(connection: Any, suite: str, name: str) -> None:
    connection.send(measure(suite, name))


def run_all(jobs: Sequence[tuple[str, str]], timeout: float) -> Iterator[Result]:
    """Each model in its own process, which ends with it."""
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(
            ["torchvision", "captum.attr", "lrp_fx", "timm", "transformers"]
        )
    for suite, name in jobs:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(sender, suite, name))
        process.start()
        sender.close()
        try:
            if not receiver.poll(timeout):
                yield Result(suite, name, error=f"TimeoutError: more than {timeout:.0f} s")
            else:
                yield receiver.recv()
        except EOFError:
            process.join()
            yield Result(suite, name, error=f"the process ended with code {process.exitcode}")
        finally:
            process.kill()
            process.join()


# --- the page -----------------------------------------------------------------------------------


def line(result: Result) -> str:
    """For the terminal."""
    if result.error:
        return f"{result.suite}/{result.name}: {result.error}"
    lost = ", ".join(f"{k} {v:+.3g}" for k, v in list(result.losses.items())[:4])
    return (
        f"{result.suite}/{result.name}: {result.capture} {result.composite} {result.dtype} "
        f"{result.seconds:.1f} s, sum {result.ratio:.4g}, cp {result.constant_path:.4g}, "
        f"engines {result.engines:.1e}, ledger {result.gap:.1e}, largest {result.largest:.2g}; {lost}"
    )


TITLES = {
    "torchvision": "torchvision, classification",
    "timm": "timm, the smallest model of each module",
    "huggingface": "Hugging Face, small configurations",
    "heads": "Segmentation and detection",
}
# Where other tools stand, from a run of theirs outside this script (torch 2.14.1, torchvision 0.29.1,
# captum 0.9.0, zennit 1.0, autolrp 0.2.0; additive constants zeroed as here).
QUOTED = """\
Other tools, on 76 of the classification models of torchvision, measured once, not by this script:
Captum's LRP explained 36 without an error and 12 of them with the right sum; zennit with its best
canonizer 72 and 24; autolrp 74 and 44 (125 and 90 of 134 timm models). None of the 34 Hugging Face
architectures below can be read by `torch.fx.symbolic_trace`."""
WHY = """\
Where a sum is not 1, the last column says which operations took (+) or made (−) relevance, and for
which cause of the conservation ledger, as shares of the output. What is to be expected there:

- `softmax` (linearization): AttnLRP's linear expansion of the softmax does not conserve by itself
  (Achtibat et al. 2024, Prop. 3.1). With CP-LRP nothing goes through it; that sum is given beside.
- `conv` (empty_branch): z⁺ at a unit that has no positive contribution at all has nobody to give the
  relevance to. That happens in depthwise convolutions, whose units have few inputs, behind ReLU.
  Where relevance of both signs cancels in sums (depthwise convolutions on residual streams), such
  losses may be larger than the output, and the sum may exceed 1 by as much.
- `add`, `cat` (constant), `pad` (padding): constants that are not parameters, such as tables of
  positions or the ones that linear attention appends, take their share as a bias does."""


def write_page(results: Sequence[Result], path: Path) -> None:
    """All figures of the page come from the results."""
    lines = ["# Coverage", ""]
    lines += [
        "Written by `benchmarks/coverage.py`. Models with random weights, batch "
        f"{BATCH}, additive constants set to zero, the default composite. *sum* is Σ relevance / "
        "output, the worst sample; *CP-LRP* the same with the composite `cp_lrp`, for models with "
        "attention; *engines* the largest difference of the direct and the gradient engine, of "
        "max |R|; *ledger* the largest gap between what came into a node and what it passed on or took, "
        "of Σ |terms| there; *largest* max |R| / |output|; *seconds* the capture and the first "
        f"explanation, on one thread of {platform.machine()}, torch {torch.__version__}. All models "
        f"with less than {LARGE // 1_000_000} million parameters run in float64 where their code "
        "allows it.",
        "",
    ]
    lines += summary(results)
    lines += ["", QUOTED, "", WHY, ""]
    for suite, title in TITLES.items():
        mine = [result for result in results if result.suite == suite]
        if not mine:
            continue
        lines += [f"## {title}", ""]
        lines += [
            "| model | capture | seconds | sum | CP-LRP | engines | ledger | largest | taken by |"
        ]
        lines += ["|---|---|---:|---:|---:|---:|---:|---:|---|"]
        lines += [row(result) for result in sorted(mine, key=lambda result: result.name.lower())]
        lines.append("")
    path.write_text("\n".join(lines).rstrip() + "\n")


def summary(results: Sequence[Result]) -> list[str]:
    lines = ["| suite | models | explained | sum right within 1 % | with CP-LRP | exploded |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for suite, title in TITLES.items():
        mine = [result for result in results if result.suite == suite]
        done = [result for result in mine if not result.error]
        right = sum(result.conserves for result in done)
        best = sum(result.conserves or near_one(result.constant_path) for result in done)
        exploded = sum(result.largest > EXPLODED for result in done)
        if mine:
            known = len(list(SUITES[suite][0]()))
            models = str(known) if len(mine) == known else f"{len(mine)} run of {known}"
            lines.append(f"| {title} | {models} | {len(done)} | {right} | {best} | {exploded} |")
    done = [result for result in results if not result.error]
    apart = [result.name for result in done if result.engines > AGREED[result.dtype]]
    lines.append("")
    lines.append(
        f"The two engines agree on all {len(done)} models that were explained."
        if not apart
        else f"The two engines differ on {', '.join(apart)}."
    )
    open_books = [result.name for result in done if result.gap > CLOSED[result.dtype]]
    counts = {dtype: sum(result.dtype == dtype for result in done) for dtype in CLOSED}
    lines.append(
        f"The ledger closes at every node of all {len(done)} models: to {CLOSED['float64']:.0e} of "
        f"Σ |terms| on the {counts['float64']} that run in float64, to {CLOSED['mixed']:.0e} on the "
        f"{counts['mixed']} that cast to float32 by themselves, to {CLOSED['float32']:.0e} on the "
        f"{counts['float32']} in float32."
        if not open_books
        else f"The ledger does not close on {', '.join(open_books)}."
    )
    return lines


def row(result: Result) -> str:
    if result.error:
        first = result.error.strip().splitlines()
        text = " ".join(first[:2])[:160].replace("|", "/")
        return f"| {result.name} | **error** | | | | | | | {text} |"
    lost = ", ".join(f"{name} {loss:+.2g}" for name, loss in list(result.losses.items())[:3])
    constant_path = "" if math.isnan(result.constant_path) else figure(result.constant_path)
    return (
        f"| {result.name} | {result.capture} | {result.seconds:.1f} | {figure(result.ratio)} | "
        f"{constant_path} | {result.engines:.0e} | {result.gap:.0e} | {result.largest:.1g} | {lost} |"
    )


def figure(ratio: float) -> str:
    return "1" if abs(ratio - 1) < 5e-4 else f"{ratio:.3g}"


def near_one(ratio: float) -> bool:
    return abs(ratio - 1) <= CONSERVED


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--suite", choices=[*SUITES, "all"], default="all")
    parser.add_argument("--out", type=Path, help="directory of the page")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these models only")
    parser.add_argument("--missing", action="store_true", help="only those not in --results yet")
    parser.add_argument("-v", action="store_true", help="end at the first error, in this process")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for each model")
    parser.add_argument(
        "--results", type=Path, help="JSON file: read first, so that runs can be pieced together"
    )
    options = parser.parse_args(arguments)
    known: dict[tuple[str, str], Result] = {}
    if options.results is not None and options.results.exists():
        for entry in json.loads(options.results.read_text()):
            known[entry["suite"], entry["name"]] = Result(**entry)
    suites = list(SUITES) if options.suite == "all" else [options.suite]
    jobs = [(suite, name) for suite in suites for name in SUITES[suite][0]()]
    if options.missing:
        jobs = [job for job in jobs if job not in known or known[job].error]
    if options.only:
        jobs = [job for job in jobs if job[1] in options.only]
    here = (measure(suite, name) for suite, name in jobs)
    for result in here if options.v else run_all(jobs, options.timeout):
        print(line(result), flush=True)
        known[result.suite, result.name] = result
        if options.results is not None:
            options.results.write_text(json.dumps([asdict(each) for each in known.values()]))
    if options.out is not None:
        write_page(list(known.values()), options.out / "coverage.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
