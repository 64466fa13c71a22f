"""A network that knows voices: does the relevance of a speaker lie where that speaker talks?

The package ``Resemblyzer`` (Apache-2.0) ships the weights of three LSTMs that turn 1.6 seconds of speech,
a mel spectrogram of 160 frames, into an embedding of the speaker. Here it is a classifier of four
speakers: its outputs are 20 times the cosines with their embeddings, which come from other sentences.
In each of the explained recordings one speaker talks for the first 80 frames and another one for the
rest, so the place of each is known. Half of the explained speakers come first, half last.

The speech comes from ``flite``, whose voices were made from recordings of four people. The module of the
package itself cannot be imported with current versions of SciPy, so the network is written out; it
computes the same.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from arena.task import Suite, Task, measure_by
from arena.training import accuracy
from lrp_fx.evaluate import (
    SRG,
    CascadingRandomisation,
    ClassCorrelation,
    Constant,
    Mean,
    Metric,
    PointingGame,
    Positions,
    RelevanceShare,
    Sparseness,
)

PACKAGE = "resemblyzer"
SPEAKERS = ("kal16", "awb", "rms", "slt")
ENROLLED = (
    "please call stella and ask her to bring these things with her from the store",
    "when the sunlight strikes raindrops in the air they act as a prism and form a rainbow",
)
SENTENCES = (
    "the quick brown fox jumps over the lazy dog near the river bank every morning",
    "she sells sea shells by the sea shore while the sailors watch the ships go by",
    "a large size in stockings is hard to sell unless the winter is very cold",
    "the boy was there when the sun rose and a rod is used to catch pink salmon",
)
FRAMES, CHANNELS = 160, 40  # of 10 ms; of the mel scale
RATE, WINDOW, STEP = 16_000, 400, 160  # samples in a second, in a window, between two windows
START = 20  # frames of silence before a voice
LEAST = -30.0  # dB of the full scale: quieter recordings are made louder
SCALE = 20.0


class Encoder(nn.Module):
    """From spectrograms (N, frames, 40) to embeddings (N, 256) of length one."""

    def __init__(self, width: int = 256, layers: int = 3) -> None:
        super().__init__()
        self.lstm = nn.LSTM(CHANNELS, width, layers, batch_first=True)
        self.linear = nn.Linear(width, width)

    def forward(self, mels: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mels)
        raw = self.linear(hidden[-1]).relu()
        return raw / raw.norm(dim=1, keepdim=True)


class Speakers(nn.Module):
    """From spectrograms (N, frames, 40) to SCALE times the cosines with known speakers (N, K)."""

    def __init__(self, encoder: nn.Module, known: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("known", known)

    def forward(self, mels: Tensor) -> Tensor:
        return SCALE * self.encoder(mels) @ self.known.T


def pretrained() -> Encoder:
    """The network with the weights of the package.

    Raises:
        FileNotFoundError: if the package is missing.
    """
    package = importlib.util.find_spec(PACKAGE)  # found, not imported
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("the voices' network is missing: pip install --no-deps Resemblyzer")
    file = Path(package.submodule_search_locations[0], "pretrained.pt")
    state = torch.load(file, map_location="cpu", weights_only=True)["model_state"]
    network = Encoder()
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    return network.eval().requires_grad_(False)


def spoken(text: str, speaker: str) -> Tensor:
    """A sentence as samples from −1 to 1, 16 000 in a second.

    Raises:
        FileNotFoundError: if flite is missing.
    """
    program = shutil.which("flite")
    if program is None:
        raise FileNotFoundError("the program flite is missing: apt install flite")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "speech.wav")
        call = [program, "-voice", speaker, "-t", text, "-o", str(file)]
        subprocess.run(call, check=True, capture_output=True)
        with wave.open(str(file)) as speech:
            if speech.getframerate() != RATE:
                raise ValueError(f"{speaker} has {speech.getframerate()} samples in a second")
            data = speech.readframes(speech.getnframes())
    return torch.from_numpy(np.frombuffer(data, np.int16).astype(np.float32) / 2**15)


@cache
def mel_bands() -> Tensor:
    """The weights (40, frequencies) of Slaney's mel scale, linear up to 1 kHz, triangles of area one."""
    knee, slope = 15.0, math.log(6.4) / 27
    highest = knee + math.log(RATE / 2 / 1000) / slope
    mels = torch.linspace(0, highest, CHANNELS + 2, dtype=torch.float64)
    edges = torch.where(mels < knee, mels * 200 / 3, 1000 * ((mels - knee) * slope).exp())
    frequencies = torch.linspace(0, RATE / 2, WINDOW // 2 + 1, dtype=torch.float64)
    low, middle, high = (edges[k : k + CHANNELS, None] for k in range(3))
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return (torch.minimum(rising, falling).clamp(min=0) * 2 / (high - low)).float()


def spectrogram(samples: Tensor) -> Tensor:
    """The power in each band of each frame, (frames, 40), as the network was trained with."""
    loudness = 10 * math.log10(float(samples.square().mean()))
    samples = samples * 10 ** (max(0.0, LEAST - loudness) / 20)
    window = torch.hann_window(WINDOW)
    waves = torch.stft(
        samples, WINDOW, STEP, window=window, pad_mode="constant", return_complex=True
    )
    return (mel_bands() @ waves.abs().square()).T


def recordings(talking: dict[str, list[Tensor]]) -> Iterator[tuple[Tensor, int, Tensor]]:
    """Two speakers after each other (frames, 40), the explained one, and where that one talks."""
    half = FRAMES // 2
    pairs = itertools.product((0,), itertools.permutations(range(len(SPEAKERS)), 2))
    for sentence, (first, last) in pairs:
        parts = [
            talking[SPEAKERS[speaker]][(sentence + place) % len(SENTENCES)][START : START + half]
            for place, speaker in enumerate((first, last))
        ]
        for place, speaker in enumerate((first, last)):
            there = torch.arange(FRAMES) // half == place
            yield torch.cat(parts), speaker, there


def task(quick: bool) -> Task:
    encoder = pretrained()
    known, talking = [], {}
    for speaker in SPEAKERS:
        enrolled = [spectrogram(spoken(text, speaker)) for text in ENROLLED]
        pieces = torch.stack([each[START : START + FRAMES] for each in enrolled])
        known.append(nn.functional.normalize(encoder(pieces).mean(0), dim=0))
        talking[speaker] = [spectrogram(spoken(text, speaker)) for text in SENTENCES]
    model = Speakers(encoder, torch.stack(known)).eval().requires_grad_(False)
    alone = torch.stack([m[START : START + FRAMES] for each in talking.values() for m in each])
    speakers = torch.arange(len(SPEAKERS)).repeat_interleave(len(SENTENCES))
    inputs, explained, places = zip(*recordings(talking), strict=True)
    chosen = slice(0, 8 if quick else None)
    x, masks = torch.stack(inputs)[chosen], torch.stack(places)[chosen]
    targets = torch.tensor(explained)[chosen]
    frames = Positions(width=4)
    metrics: dict[str, Metric] = {
        "share at the voice": RelevanceShare(masks=masks),
        "pointing game": PointingGame(masks=masks),
        "SRG, silence": SRG(regions=frames, imputer=Constant(), output="logit", steps=5),
        "SRG, mean": SRG(regions=frames, imputer=Mean(), output="logit", steps=5),
        "random weights": CascadingRandomisation(model=model, regions=frames),
        "another class": ClassCorrelation(regions=frames),
        "sparseness": Sparseness(),
    }

    judging = ("share", "pointing", "SRG")
    measures = {
        title: measure_by(metric, title, model, x, targets, paired=title.startswith(judging))
        for title, metric in metrics.items()
    }
    return Task(
        "voices, three LSTMs",
        "dense",
        model,
        x,
        targets,
        measures,
        f"accuracy {accuracy(model, alone, speakers):.0%} on {len(alone)} recordings of one voice, "
        f"{len(x)} of two",
        0.0,
        float(x.max()),
        batch=32,
    )


SUITE = Suite("Voices", {"voices": task}, ("maps",))
