"""The command ``lrp-fx explain-text``: the relevance of the tokens of a sentence, or of a pair."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from lrp_fx import LRPFx, explain
from lrp_fx._common import write_whole
from lrp_fx.cli.files import document, make_folder
from lrp_fx.cli.models import check_categories, device_of, read_categories
from lrp_fx.cli.options import MODEL, PREDICTED, RULES, Composite, TalkOptions, Target
from lrp_fx.cli.photographs import check_readable
from lrp_fx.cli.talk import SOME_FAILED, Talk, in_one_sentence, shown
from lrp_fx.cli.targets import resolve_target
from lrp_fx.errors import InputError, LRPError, OptionError, lacks_memory
from lrp_fx.visualize import Tokens, tokens
from lrp_fx.zoo import SENTENCES, Logits, TextModel, text_model

Text = tuple[str, ...]
"""One sentence, or a pair."""


@dataclass(frozen=True)
class TextExplained:
    """A text with the relevance of its tokens.

    Args:
        text: the sentence, or the pair.
        parts: the tokens with their relevance; two for a model that reads two sentences apart.
        output: the explained output.
        target: the class; None where there is only one output.
        name: of the class.
        delta: the output less the sum of the relevance.
    """

    text: Text
    parts: tuple[Tokens, ...]
    output: float
    target: int | None
    name: str
    delta: float

    @property
    def title(self) -> str:
        """The explained output, in a line."""
        return f"{self.name} {self.output:.3g}"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "text": list(self.text),
            "target": self.target,
            "target_name": self.name,
            "output": self.output,
            "delta": self.delta,
            "parts": [
                {"tokens": list(part.texts), "relevance": list(part.relevance)}
                for part in self.parts
            ],
        }


def explain_text(
    talk: TalkOptions,
    text: Annotated[
        list[str] | None,
        typer.Argument(help="A sentence, or two sentences for a pair.", show_default=False),
    ] = None,
    lines: Annotated[
        Path | None, typer.Option(help="A file with a text in each line; a tab separates a pair.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help=f"A folder with a classifier of sentences of Hugging Face, hf/NAME, or {SENTENCES}, "
            "which compares two sentences.",
            rich_help_panel=MODEL,
        ),
    ] = SENTENCES,
    categories: Annotated[
        Path | None,
        typer.Option(
            help="Names of the classes, one on each line, or JSON.", rich_help_panel=MODEL
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="The device: cpu, cuda, mps, ...", rich_help_panel=MODEL)
    ] = "cpu",
    composite: Composite = None,
    top_k: Annotated[
        float,
        typer.Option(
            help="Share of the relevance values that a filter keeps.", rich_help_panel=RULES
        ),
    ] = 1.0,
    target: Target = PREDICTED,
    page: Annotated[
        Path | None, typer.Option("--html", help="Write the coloured tokens to this file.")
    ] = None,
) -> None:
    """Explain which tokens of a sentence speak for its class, or why two sentences are similar.

    Tokens that speak for it are orange in the terminal and in the HTML file, those against it blue.

    Exit code: 0 all well, 1 some texts failed, 2 wrong usage.

    Examples:
      lrp-fx explain-text "A man plays the guitar." "Someone makes music."
      lrp-fx explain-text "What a film!" --model my_classifier/ --html film.html
      lrp-fx explain-text --lines texts.tsv --model hf/NAME --json
    """
    voice = Talk(talk)
    with voice.usage():
        texts = _texts(text or [], lines)
        if page is not None:
            make_folder(page.parent, "the page")
        place = device_of(device, voice)
        names = None if categories is None else read_categories(categories)
        loaded = text_model(model)
        loaded.model.to(place)
        named = loaded.categories if names is None else names
        wanted = resolve_target(target, named)
        for each in texts:
            if loaded.similarity and len(each) != 2:
                raise InputError(f"{loaded.name} compares two sentences: pass a pair")
        attributions = _Attributions(loaded, composite, top_k, place, named)
    results: list[dict[str, Any]] = []
    found: list[TextExplained] = []
    for each in texts:
        try:
            explained = attributions.explain(each, wanted)
        except Exception as error:
            if not isinstance(error, LRPError) and not lacks_memory(error):
                raise
            results.append({"text": list(each), "error": in_one_sentence(error)})
            voice.failure(f"{' / '.join(each)!r}: {in_one_sentence(error)}")
            continue
        found.append(explained)
        results.append(explained.to_dict())
        voice.result(shown(f"{explained.title}: {' / '.join(explained.text)}"))
        for part in explained.parts:
            if voice.output.color_system is None:  # colours would say nothing
                voice.say(in_numbers(part))
            else:
                voice.show(part)
    if page is not None and found:
        with voice.usage():
            write_whole(page, page_of(found).encode(errors="replace"), InputError)
        voice.result(f"written: {shown(page)}")
    voice.document(document("explain-text", results))
    failed = len(results) - len(found)
    if failed:
        voice.failure(f"{failed} of {len(results)} texts could not be explained", "")
        raise typer.Exit(SOME_FAILED)


def _texts(arguments: Sequence[str], lines: Path | None) -> list[Text]:
    """The texts of a call.

    Raises:
        InputError: if there are none, or more than a pair.
    """
    if lines is None:
        if len(arguments) not in (1, 2):
            raise InputError(
                "pass one sentence, or two for a pair; for several texts write them into a file and "
                "pass --lines FILE"
            )
        texts = [tuple(arguments)]
    else:
        if arguments:
            raise OptionError("--lines FILE takes the place of the sentences: pass one of them")
        check_readable(lines)
        try:
            read = lines.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"cannot read {shown(lines)}: it is not UTF-8 text") from error
        except OSError as error:
            raise InputError(f"cannot read {shown(lines)}: {error.strerror or error}") from error
        texts = [tuple(line.split("\t", 1)) for line in read if line.strip()]
        if not texts:
            raise InputError(f"there are no texts in {shown(lines)}")
    for each in texts:
        if not all(part.strip() for part in each):
            raise InputError("a sentence is empty")
    return texts


@dataclass(frozen=True)
class _Attributions:
    """Explains texts with one model."""

    loaded: TextModel
    composite: str | None
    top_k: float
    device: torch.device
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        self._lrp(("input_ids",))  # a wrong option is an error here

    def _lrp(self, names: tuple[str, ...]) -> LRPFx:
        model = self.loaded.model
        return LRPFx(
            model if self.loaded.similarity else Logits(model, names).eval(),
            self.composite,
            top_k=self.top_k,
        )

    def explain(self, text: Text, target: int | None) -> TextExplained:
        """Explain one text."""
        return self._similarity(text) if self.loaded.similarity else self._class(text, target)

    def _encoded(self, *text: str) -> dict[str, Tensor]:
        encoded: Any = self.loaded.tokenizer(*text, return_tensors="pt", truncation=True)
        return {name: each.to(self.device) for name, each in encoded.items()}

    def _words(self, ids: Tensor) -> list[str]:
        convert: Any = getattr(self.loaded.tokenizer, "convert_ids_to_tokens", None)
        return [str(word) for word in convert(ids[0].tolist())]

    def _similarity(self, text: Text) -> TextExplained:
        ids = tuple(self._encoded(sentence)["input_ids"] for sentence in text)
        lrp = self._lrp(())
        relevance, delta = lrp.attribute(ids, return_convergence_delta=True)
        with torch.no_grad():
            output = float(lrp.explained_output(ids))
        parts = tuple(
            tokens(self._words(each), r.cpu(), target="similar")
            for each, r in zip(ids, relevance, strict=True)
        )
        return TextExplained(text, parts, output, None, "similarity", float(delta))

    def _class(self, text: Text, target: int | None) -> TextExplained:
        encoded = self._encoded(*text)
        ids, others = encoded.pop("input_ids"), tuple(encoded.values())
        lrp = self._lrp(("input_ids", *encoded))
        words = self._words(ids)
        explanation = explain(
            lrp,
            ids,
            "predicted" if target is None else target,
            names=self.names,
            words=words,
            additional_forward_args=others or None,
        )
        with torch.no_grad():
            check_categories(self.names, lrp.explained_output(ids, others or None))
        chosen = explanation.target if isinstance(explanation.target, int) else None
        name = explanation.target_name or "output"
        part = tokens(words, explanation.relevance, target=name)
        output = float("nan") if explanation.output is None else explanation.output
        return TextExplained(text, (part,), output, chosen, name, explanation.delta)


def in_numbers(part: Tokens) -> str:
    """The tokens, each with its share of Σ |R|."""
    whole = sum(map(abs, part.relevance)) or 1.0
    pairs = zip(part.texts, part.relevance, strict=True)
    return " · ".join(f"{text} {value / whole:+.0%}" for text, value in pairs)


def page_of(found: Sequence[TextExplained]) -> str:
    """A page of HTML with all texts; every text is escaped."""
    bodies = "\n".join(
        f"<h3>{html.escape(each.title)}</h3>\n" + "\n".join(part.html() for part in each.parts)
        for each in found
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>lrp-fx</title></head>\n'
        f'<body style="font-family:sans-serif">\n{bodies}\n</body></html>\n'
    )
