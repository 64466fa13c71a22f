"""The identity of an attribution: digests that keep the results of different attributions apart."""

from __future__ import annotations

import dis
from collections.abc import Mapping
from dataclasses import fields
from itertools import pairwise
from types import CodeType

import torch

from lrp_fx._common import __version__, code_of, digest
from lrp_fx.attribution.base import Explaining
from lrp_fx.errors import RunError

IRRELEVANT = ("composite", "top_k", "filters", "filter_by", "renormalize", "verify", "cache")
"""Options that are counted with the composite, or that change no result."""


def identity_of(lrp: Explaining) -> dict[str, str]:
    """The causes of the relevance, by their names in a sentence: a digest of each part, or a version.

    The weights count by their values, functions and the classes of modules by their code.
    Relevance hooks that may change relevance count by their pattern and code, and by the numbers and
    texts that they hold.

    Args:
        lrp: the attribution.

    Raises:
        OptionError: for an option that does not say what it holds.
    """
    model, options, hooks = lrp._explainer.__getstate__()  # noqa: SLF001 its own class
    resolved = [options.resolved(attention=attention) for attention in (False, True)]
    composite = [options.composite is None, *((each.assignments, each.bias) for each in resolved)]
    others = {
        each.name: getattr(options, each.name)
        for each in fields(options)
        if each.name not in IRRELEVANT
    }
    return {
        "model": digest(model),
        "composite": digest(composite),
        "filter": digest([each.filters for each in resolved]),
        "options": digest(others, vars(lrp).get("channel_dim")),
        "list of relevance hooks": digest(
            [
                (each.matcher, code_of(each.function))
                for each in hooks.values()
                if not _observes(each.function)
            ]
        ),
        "version of lrp_fx": __version__,
        "version of torch": torch.__version__.partition("+")[0],
    }


def _observes(function: object) -> bool:
    """Whether a function always returns None, by its code: such a hook changes no relevance."""
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return False
    for before, each in pairwise(dis.get_instructions(code)):
        if each.opname == "RETURN_CONST" and each.argval is None:
            continue
        gives_none = before.opname == "LOAD_CONST" and before.argval is None
        if each.opname.startswith("RETURN_") and (not gives_none or each.is_jump_target):
            return False
    return True


def check_same(what: str, found: Mapping[str, object], expected: Mapping[str, object]) -> None:
    """Raise a ``RunError`` that names every part in which two identities differ.

    Args:
        what: the results on disk, as the subject of a sentence.
        found: their identity.
        expected: the identity of what is to be added.
    """
    keys = dict.fromkeys((*expected, *found))
    other = [key for key in keys if found.get(key) != expected.get(key)]
    if not other:
        return
    shown = [
        f"{key} ({found.get(key)}, now {expected.get(key)})"
        if key.startswith("version") or isinstance(expected.get(key), int)
        else key
        for key in other
    ]
    raise RunError(
        f"{what} was made with another {', '.join(shown)}: results of different explainers do not mix; "
        "use the same one, or another place"
    )
