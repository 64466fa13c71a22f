"""Whether the tests notice a fault in the places where a fault gives a wrong map and no error.

    python benchmarks/mutations.py
    python benchmarks/mutations.py --only gates --jobs 2
    python benchmarks/mutations.py --only gates --tests tests/meaning/test_value_ranges.py
    python benchmarks/mutations.py --seconds 60     # first those that are found soon

One after the other, a fault is committed in the package, in memory, and the tests that should notice
run on it. In the rules: a branch's sign is flipped, a branch dropped, W⁺ and W⁻ (or x⁺ and x⁻, or b⁺
and b⁻) swapped, a group's coefficient negated, its mask swapped, a favoured part turned round.
Elsewhere, of the definitions that decide what an operation means: an entry of a table dropped, a
condition negated, an operand of ``and`` or ``or`` dropped, a bound moved. In what decides whether a
reading of the model still holds also: a statement dropped, a part of a tuple, a list or a sum dropped.
A mutant that passes is a gap in the tests, and the script ends with an error; those that no test can
show are left out, each with the reason.

The tests are collected once. They first run on the package as it is, and note where each fault would
have made a difference: a condition is asked, an operand of ``and`` is false, a number lies between a
bound and the moved one. A fault is then committed in a fork of the process, by new code of the changed
functions, and only tests in which it makes a difference run, the quickest first. Both what was noted
and what was caught is kept in ``.mutations/``: the next run goes on where the last one ended, and tries
again what passed and what stands in a file that has changed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import hashlib
import importlib.util
import json
import math
import operator
import os
import signal
import sys
import time
import traceback
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.machinery import ModuleSpec, SourceFileLoader
from itertools import accumulate
from pathlib import Path
from typing import Any

# imported once, here: the tests run in forks of this process
import captum.attr  # noqa: F401
import pytest
import sympy  # noqa: F401
import torch._dynamo
import torch.export

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / ".mutations"
LIMIT = 1800  # seconds at most
LONGER = 10  # a mutant that takes so many times as long runs for ever, and is noticed by that
SWAPPED = {"PLUS": "MINUS", "MINUS": "PLUS", "up": "down", "down": "up"}
MASKS = {"positive": "negative", "negative": "positive"}


@dataclass(frozen=True)
class Fault:
    """A fault that fits a node.

    Args:
        words: what is changed.
        commit: commits it on a copy of the node.
        child: the field of the node with the part of it that runs where the fault makes a difference.
        place: its index, if the field is a list.
        when: the truth of that part where the fault makes a difference; None for any.
    """

    words: str
    commit: Callable[[Any], object]
    child: str
    place: int | None = None
    when: bool | None = None


@dataclass(frozen=True)
class Target:
    """A file, which of its definitions are changed (none named: all), and the tests that run.

    Args:
        file: its path.
        tests: paths of tests, and options of pytest.
        definitions: names that the file or one of its classes defines.
        left_out: why a mutant whose words contain this text cannot show in any test.
    """

    file: str
    tests: tuple[str, ...]
    definitions: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


MEANINGS = (
    *("tests/meaning", "tests/relevance/test_norms_and_products.py", "tests/canonize"),
    "tests/relevance/test_sums_and_products.py",
    *("tests/plan/test_final_probabilities.py", "tests/relevance/test_recurrent.py"),
    *("tests/capture/test_forms.py", "tests/capture/test_in_place_code.py"),
    *("tests/capture/test_verify.py", "tests/capture/test_outputs_and_arguments.py"),
    *("tests/capture/test_refusals.py", "tests/capture/test_paths_and_lines.py"),
    *("tests/promises/test_rewrites.py", "tests/promises/test_pairs.py"),
    "tests/promises/test_encoder_layers.py",
)
RULES = (
    *("tests/promises/test_golden_values.py", "tests/run/test_ledger.py"),
    *("tests/relevance/test_linear.py", "tests/relevance/test_pooling.py"),
    *("tests/relevance/test_routing.py", "tests/relevance/test_sums_and_products.py"),
    "tests/relevance/test_bounds.py",
)
SEEN = ("tests/capture/test_signature.py",)
FOLLOWED = (
    *("tests/capture/test_traces.py", *SEEN, "tests/capture/test_model_state.py"),
    # edits at random find most faults too, but not which change is missing
    "--deselect=tests/capture/test_model_state.py::test_random_edits",
)
SUITES: dict[str, tuple[Target, ...]] = {
    "rules": (
        Target("lrp_fx/rules/tables.py", RULES),
        Target("lrp_fx/rules/linear.py", RULES),
        Target("lrp_fx/rules/without_weights.py", RULES),
    ),
    "canonize": (
        Target("lrp_fx/canonize/attention.py", MEANINGS),
        Target("lrp_fx/canonize/recurrent_cells.py", MEANINGS),
        Target(
            "lrp_fx/canonize/affine.py",
            MEANINGS,
            ("fold_affine", "scale_and_shift", "_units", "fits", "fits_units"),
            {
                "weight is None": "then there are no parts either",
                "_stays(node, parts)": "a number alone changes no map, wherever it stands",
            },
        ),
        Target("lrp_fx/canonize/sums.py", MEANINGS),
        Target(
            "lrp_fx/canonize/common_factor.py",
            MEANINGS,
            left_out={
                "'not isinstance(base, fx.Node)' dropped": "a power of numbers is a number, no call",
            },
        ),
        Target(
            "lrp_fx/canonize/products.py",
            MEANINGS,
            left_out={
                "'constant is None' dropped: values": "its shape is known before the input's"
            },
        ),
        Target("lrp_fx/canonize/arithmetic_forms.py", MEANINGS),
        Target("lrp_fx/canonize/call_writer.py", MEANINGS),
        Target(
            "lrp_fx/canonize/layer_forms.py",
            MEANINGS,
            ("_convolution", "_convolution_padding", "_instance_norm"),
        ),
        Target("lrp_fx/canonize/padding.py", MEANINGS, ("cut_surplus",)),
        Target(
            "lrp_fx/canonize/vocabulary.py",
            MEANINGS,
            ("one_vocabulary", "_dropout"),
        ),
    ),
    "gates": (
        Target(
            "lrp_fx/meaning/value_ranges.py",
            MEANINGS,
            left_out={"x < 700": "it only keeps the exponential from overflowing"},
        ),
        Target("lrp_fx/meaning/shares.py", MEANINGS),
        Target("lrp_fx/meaning/signs.py", MEANINGS),
        Target("lrp_fx/meaning/factors.py", MEANINGS),
        Target(
            "lrp_fx/relevance/product.py",
            MEANINGS,
            left_out={"bound moved: share == 1": "it only saves time"},
        ),
        Target(
            "lrp_fx/canonize/sigmoids.py",
            MEANINGS,
            ("shifted", "_with_number", "_in_a_sum", "_taker", "_needed"),
        ),
        Target(
            "lrp_fx/canonize/exponentials.py",
            MEANINGS,
            left_out={"'depth' dropped": "it only bounds how far is looked"},
        ),
        Target("lrp_fx/canonize/quotients.py", MEANINGS),
        Target("lrp_fx/canonize/log_space.py", MEANINGS, ("exponential_of", "_without_log")),
        Target(
            "lrp_fx/canonize/signs.py",
            MEANINGS,
            ("signed",),
            {"'beta is None' dropped": "torch takes numbers alone there"},
        ),
        Target(
            "lrp_fx/canonize/softmaxes.py",
            MEANINGS,
            ("_masked", "logits_of", "without_shift"),
            {
                "'not depth' dropped": "it only bounds how far is looked",
                "'isinstance(first, fx.Node)' dropped": "a number is no exponential either way",
            },
        ),
        Target("lrp_fx/canonize/pieces.py", MEANINGS, ("_unpadded",)),
        Target("lrp_fx/plan/final_probabilities.py", MEANINGS, ("_final", "_is_for_safety")),
    ),
    "signatures": (
        Target("lrp_fx/capture/watch.py", SEEN),
        Target(
            "lrp_fx/capture/signature.py",
            SEEN,
            left_out={
                "'__": "what Python itself writes into a class is the same as long as the class is",
                "'self._hash == other._hash' dropped": "it only saves time",
                "'self._waiting' dropped": "it only saves time",
                "'nn.Module not in mro_of(kind)' dropped": "more is looked at, which takes time",
                "'registered' dropped": "no other entry is a number alone",
                "'again' dropped": "no other entry is a number alone",
                "'refers' dropped": "no other entry is a number alone, at the end",
                "'class' dropped": "the other word tells the two kinds of numbers apart",
                "'definitions' dropped": "the other word tells the two kinds of numbers apart",
                "'float' dropped": "no other entry is such a text alone",
                "'complex' dropped": "no other entry is a pair of such texts",
                "target if number is None else number": "both name the one target",
                "_visit_identity(value)' dropped: if types.": "its attributes are signed by themselves",
                "'type(own[n]) in DICTS' dropped": "PyTorch puts nothing else there",
                "'not is_standard(base)' dropped": "more is looked at, which takes time",
                "'not is_installed(base)' dropped": "more is looked at, which takes time",
            },
        ),
        Target(
            "lrp_fx/capture/contents.py",
            SEEN,
            left_out={
                "'deque' dropped": "no other container has a number in that place",
                "'torch.Stream' dropped": "there are none without an accelerator",
            },
        ),
        Target(
            "lrp_fx/capture/origin.py",
            ("tests/capture/test_origin.py",),
            left_out={
                "lib' dropped": "the two are one folder on most machines",
                "'file.startswith(_INSTALLED)' dropped": "most of these have site-packages in their path",
            },
        ),
        Target(
            "lrp_fx/capture/functions.py",
            ("tests/capture/test_functions.py", *SEEN),
            left_out={
                "'_GLOBALS' dropped": "only Python 3.12 and later have such an instruction",
                "update_wrapper": "it only says what a function is called",
            },
        ),
        Target(
            "lrp_fx/capture/outside.py",
            ("tests/capture/test_functions.py", "tests/capture/test_outside.py", *SEEN),
            ("reads_outside", "_leads_outside", "_is_outside", "_is_member_outside"),
        ),
        Target("lrp_fx/capture/model_state.py", SEEN),
        Target(
            "lrp_fx/capture/traces.py",
            FOLLOWED,
            left_out={
                "'tensor.device' dropped": "tensors do not change it but with their place",
                "\"tensor.device.type == 'cpu'\" dropped": "it needs another device with memory",
                "dropped: {2: 'H'": "bytes are looked at instead, in each place of an item in turn",
            },
        ),
    ),
}


# --- faults ---------------------------------------------------------------------------------------


def name_of(node: ast.AST) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def faults_of_a_rule(node: ast.AST) -> Iterator[Fault]:
    """Faults in a table of branches."""
    if name_of(node) == "Branch":
        for place, word in enumerate(("x⁺ and x⁻", "W⁺ and W⁻", "b⁺ and b⁻")):
            argument = node.args[place]
            if isinstance(argument, ast.Name) and argument.id in SWAPPED:
                yield Fault(f"{word} swapped", lambda n, p=place: swap(n.args[p]), "args", place)
    if isinstance(node, ast.Tuple) and len(node.elts) > 1:
        for place, each in enumerate(node.elts):
            if name_of(each) in ("Branch", "Group"):
                words = f"{name_of(each).lower()} {place} dropped"
                yield Fault(words, lambda n, p=place: n.elts.pop(p), "elts", place)
            if name_of(each) == "Branch":  # of a branch alone the sign cancels: s x Wᵀ R / S(s z)
                words = f"sign of branch {place} flipped"
                yield Fault(words, lambda n, p=place: flip_sign(n.elts[p]), "elts", place)
    if name_of(node) == "Group":
        for place, keyword in enumerate(node.keywords):
            at = ("keywords", place)
            if keyword.arg == "coefficient":
                yield Fault("coefficient negated", lambda n, p=place: negate(n.keywords[p]), *at)
            if keyword.arg == "mask":
                yield Fault("mask swapped", lambda n, p=place: swap_mask(n.keywords[p]), *at)
    if name_of(node) == "Part" and "gamma" in ast.unparse(node):
        yield Fault("turned round", lambda n: n.args.reverse(), "args", 0)


def flip_sign(branch: ast.Call) -> None:
    for keyword in branch.keywords:
        if keyword.arg == "sign":
            keyword.value = ast.Constant(1.0)
            return
    branch.keywords.append(ast.keyword("sign", ast.UnaryOp(ast.USub(), ast.Constant(1.0))))


def swap(name: ast.Name) -> None:
    name.id = SWAPPED[name.id]


def negate(keyword: ast.keyword) -> None:
    keyword.value = ast.UnaryOp(ast.USub(), keyword.value)


def swap_mask(keyword: ast.keyword) -> None:
    assert isinstance(keyword.value, ast.Constant)
    keyword.value = ast.Constant(MASKS[keyword.value.value])


def faults_of_a_definition(node: ast.AST) -> Iterator[Fault]:
    """Faults in what decides: tables, conditions, bounds."""
    if isinstance(node, (ast.Set, ast.List, ast.Tuple)) and len(node.elts) > 1:
        for place, each in enumerate(node.elts):
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                words = f"{each.value!r} dropped"
                yield Fault(words, lambda n, p=place: n.elts.pop(p), "elts", place)
    if isinstance(node, ast.Dict) and len(node.keys) > 1:
        for place, key in enumerate(node.keys):
            if key is not None:
                words = f"{ast.unparse(key)} dropped"
                yield Fault(words, lambda n, p=place: drop_key(n, p), "values", place)
    if isinstance(node, (ast.If, ast.IfExp)) and not only_raises(node):
        yield Fault("condition negated", lambda n: setattr(n, "test", inverse(n.test)), "test")
    if isinstance(node, ast.BoolOp):
        for place, each in enumerate(node.values):
            words = f"{ast.unparse(each)[:50]!r} dropped"
            decides = isinstance(node.op, ast.Or)
            yield Fault(words, lambda n, p=place: n.values.pop(p), "values", place, decides)
    if isinstance(node, ast.Compare):
        for place, each in enumerate(node.comparators):
            if isinstance(each, ast.Constant) and type(each.value) in (int, float):
                yield Fault(
                    "bound moved", lambda n, p=place: move(n.comparators[p]), "comparators", place
                )


def faults_of_a_watch(node: ast.AST) -> Iterator[Fault]:
    """Faults in what looks at a model: those of a definition, and something that is not looked at."""
    yield from faults_of_a_definition(node)
    for name in ("body", "orelse"):
        statements = getattr(node, name, [])
        for place, each in enumerate(statements if isinstance(statements, list) else []):
            if has_effect(each):
                words = f"{' '.join(ast.unparse(each).split())[:50]!r} dropped"
                commit = lambda n, c=name, p=place: drop_statement(n, c, p)  # noqa: E731
                yield Fault(words, commit, name, place)
    table = node.value if isinstance(node, ast.Starred) else node  # of pairs only those in tables
    if isinstance(table, (ast.List, ast.Tuple)) and (table is node) == (len(table.elts) > 2):
        for place, each in enumerate(table.elts if isinstance(table.ctx, ast.Load) else []):
            if not isinstance(each, ast.Constant):
                words = f"{ast.unparse(each)[:50]!r} dropped"
                yield Fault(
                    words, lambda n, p=place: getattr(n, "value", n).elts.pop(p), "elts", place
                )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        words = f"{ast.unparse(node.left)[:50]!r} dropped"
        yield Fault(words, lambda n: n.__dict__.update(op=ast.Mult(), left=ast.Constant(1)), "left")


def has_effect(statement: ast.stmt) -> bool:
    """Whether a statement changes something that was there before it."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call)
    if isinstance(statement, ast.Assign):
        return isinstance(statement.targets[0], ast.Attribute)
    return isinstance(statement, ast.AugAssign)


def drop_statement(node: ast.AST, name: str, place: int) -> None:
    getattr(node, name)[place] = ast.Pass()


def only_raises(node: ast.AST) -> bool:
    """Whether a branch ends in an error: what is refused is not computed wrongly."""
    return isinstance(node, ast.If) and any(isinstance(each, ast.Raise) for each in node.body)


def drop_key(table: ast.Dict, place: int) -> None:
    table.keys.pop(place)
    table.values.pop(place)


def inverse(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def move(bound: ast.Constant) -> None:
    bound.value += 1


@dataclass(frozen=True)
class Mutant:
    """A file with one fault.

    Args:
        file: its path.
        words: what was changed.
        node: the index of the changed node, in the order of ``ast.walk``.
        fault: the fault.
        in_a_function: whether the changed node stands in a function; else it runs once, on import.
        source: the changed file.
    """

    file: str
    words: str
    node: int
    fault: Fault
    in_a_function: bool
    source: str

    @property
    def digest(self) -> str:
        """What names it, and the whole file that it stands in, from one run to the next."""
        return hashlib.sha256(f"{self.file} {self.words} {self.source}".encode()).hexdigest()[:16]


def mutants_of(suite: str, target: Target) -> Iterator[Mutant]:
    """The mutants of a target that a test can show.

    Raises:
        ValueError: if the file does not define what the target names.
    """
    tree = ast.parse((ROOT / target.file).read_text())
    classes = [each for each in tree.body if isinstance(each, ast.ClassDef)]
    body = [*tree.body, *(each for parts in classes for each in parts.body)]
    if missing := set(target.definitions).difference(*map(defined_by, body)):
        raise ValueError(f"{target.file} does not define {sorted(missing)}: correct SUITES")
    nodes = list(ast.walk(tree))
    hints = {id(part) for node in nodes for each in hints_of(node) for part in ast.walk(each)}
    wanted = {
        id(node)
        for each in body
        if not target.definitions or set(target.definitions) & defined_by(each)
        for node in ast.walk(each)
    }
    functions = [each for each in nodes if isinstance(each, ast.FunctionDef)]
    inside = {id(n) for each in functions for part in each.body for n in ast.walk(part)}
    inside |= set(map(id, functions))
    for index, node in enumerate(nodes):
        if id(node) not in wanted or id(node) in hints:
            continue
        for fault in FAULTS[suite](node):
            text = " ".join(ast.unparse(node).split())
            words = f"line {getattr(node, 'lineno', 0)}, {fault.words}: {text[:70]}"
            if any(each in words for each in target.left_out):
                continue
            changed = copy.deepcopy(tree)
            fault.commit(list(ast.walk(changed))[index])
            source = ast.unparse(ast.fix_missing_locations(changed))
            yield Mutant(target.file, words, index, fault, id(node) in inside, source)


def hints_of(node: ast.AST) -> list[ast.AST]:
    """The types that a node states, which nobody runs."""
    found = [getattr(node, name, None) for name in ("annotation", "returns")]
    if isinstance(node, ast.Subscript) and isinstance(node.slice, (ast.Tuple, ast.List)):
        found.append(node.slice)
    return [each for each in found if each is not None]


def defined_by(node: ast.stmt) -> set[str]:
    """The names that a statement of a module defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} & {
        target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)
    }


FAULTS: dict[str, Callable[[Any], Iterator[Fault]]] = {
    "rules": faults_of_a_rule,
    "canonize": faults_of_a_definition,
    "gates": faults_of_a_definition,
    "signatures": faults_of_a_watch,
}


# --- where a fault makes a difference --------------------------------------------------------------


NOTED: set[str] = set()
"""The digests of mutants that would have made a difference."""
LAST: list[Any] = [None]
"""The left side of the comparison that runs."""
COMPARISONS: dict[type[ast.cmpop], str] = {
    **{ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"},
    **{ast.Is: "is_", ast.IsNot: "is_not"},
}


def noted(value: Any, digest: str, when: bool | None) -> Any:
    """A value; notes a mutant if the value is true, or false, as it has to be."""
    if when is None or bool(value) is when:
        NOTED.add(digest)
    return value


def left(value: Any) -> Any:
    """A value, which the next bound is compared with."""
    LAST[0] = value
    return value


def bound(number: float, digest: str, name: str) -> float:
    """A number; notes a mutant if the number moved by one compares otherwise."""
    compare = getattr(operator, name)
    before, after = compare(LAST[0], number), compare(LAST[0], number + 1)
    if isinstance(before, bool) and before == after:
        return number
    NOTED.add(digest)
    return number


NOTES = {"_mutant_noted": noted, "_mutant_left": left, "_mutant_bound": bound}


def call_of(name: str, *args: Any) -> ast.Call:
    parts = [each if isinstance(each, ast.expr) else ast.Constant(each) for each in args]
    return ast.Call(ast.Name(f"_mutant_{name}", ast.Load()), parts, [])


def with_notes(source: str, many: Sequence[Mutant]) -> str:
    """The source of a file that notes where each of some mutants would have made a difference."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    truths = {id(each) for each in truths_in(nodes)}
    for mutant in many:
        fault, node = mutant.fault, nodes[mutant.node]
        holder = node.value if fault.child == "elts" and isinstance(node, ast.Starred) else node
        parts = getattr(holder, fault.child)
        if fault.place is None:
            setattr(holder, fault.child, call_of("noted", parts, mutant.digest, None))
            continue
        part = parts[fault.place]
        if isinstance(node, ast.Compare):
            before = (node.__dict__, "left") if fault.place == 0 else (parts, fault.place - 1)
            before[0][before[1]] = call_of("left", before[0][before[1]])
            name = COMPARISONS[type(node.ops[fault.place])]
            parts[fault.place] = call_of("bound", part, mutant.digest, name)
        elif isinstance(part, ast.stmt):
            note = call_of("noted", True, mutant.digest, None)
            parts[fault.place] = ast.If(note, [part], [])
        elif isinstance(part, (ast.Starred, ast.keyword)):
            part.value = call_of("noted", part.value, mutant.digest, None)
        else:  # the last operand is also the value, which matters unless only its truth does
            is_value = fault.place == len(parts) - 1 and id(node) not in truths
            when = None if is_value else fault.when
            parts[fault.place] = call_of("noted", part, mutant.digest, when)
    return ast.unparse(ast.fix_missing_locations(tree))


def truths_in(nodes: Sequence[ast.AST]) -> list[ast.AST]:
    """The expressions of which only the truth matters."""
    found: list[ast.AST] = []
    for node in nodes:
        if isinstance(node, (ast.If, ast.IfExp, ast.While)):
            found.append(node.test)
        if isinstance(node, ast.comprehension):
            found += node.ifs
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            found.append(node.operand)
        if isinstance(node, ast.FunctionDef) and ast.unparse(node.returns or node) == "bool":
            returned = [each for each in ast.walk(node) if isinstance(each, ast.Return)]
            found += [each.value for each in returned if each.value is not None]
        if isinstance(node, ast.BoolOp) and any(each is node for each in found):
            found += node.values
    return found


# --- other code -----------------------------------------------------------------------------------


def codes(source: str, file: Path) -> dict[str, list[types.CodeType]]:
    """The code of the functions and methods of a file, nested ones too, by name, in order."""
    found: dict[str, list[types.CodeType]] = defaultdict(list)
    waiting = [compile(source, str(file), "exec")]
    while waiting:
        for each in waiting.pop().co_consts:
            if isinstance(each, types.CodeType):
                waiting.append(each)
                if each.co_flags & 1:  # of a function, not of a class
                    found[each.co_qualname].append(each)
    return {name: sorted(many, key=lambda c: c.co_firstlineno) for name, many in found.items()}


def functions_in(files: Iterable[str]) -> dict[str, list[types.FunctionType]]:
    """The functions and methods of imported files."""
    paths = {str(ROOT / file): file for file in files}
    found: dict[str, list[types.FunctionType]] = defaultdict(list)
    for each in gc.get_objects():
        if type(each) is types.FunctionType and each.__code__.co_filename in paths:
            found[paths[each.__code__.co_filename]].append(each)
    return found


def give_code(file: str, source: str, functions: Iterable[types.FunctionType]) -> None:
    """Give the functions of an imported file the code that they have in another version of it."""
    path = ROOT / file
    old, new = codes(path.read_text(), path), codes(source, path)
    for function in functions:
        code = function.__code__
        lines = [each.co_firstlineno for each in old.get(code.co_qualname, ())]
        if code.co_firstlineno not in lines:
            continue
        other = new[code.co_qualname][lines.index(code.co_firstlineno)]
        if other.co_freevars == code.co_freevars:  # of a nested function they may not change
            function.__globals__.update(NOTES)
            function.__code__ = other


class Importer(SourceFileLoader):
    """Imports a mutant in place of its file."""

    def __init__(self, mutant: Mutant) -> None:
        name = mutant.file.removesuffix(".py").replace("/", ".")
        super().__init__(name, str(ROOT / mutant.file))
        self.source = mutant.source

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """How to import the changed file."""
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def get_code(self, fullname: str) -> types.CodeType:
        """The changed code."""
        return compile(self.source, self.path, "exec")


# --- running --------------------------------------------------------------------------------------


OUT = os.fdopen(os.dup(1), "w")  # where the tests cannot write


@dataclass(frozen=True)
class Fork:
    """A function that runs in a fork of this process."""

    child: int
    pipe: int

    @classmethod
    def start(cls, work: Callable[[], object], seconds: float = LIMIT * 1000) -> Fork:
        """Start it; it is ended when its time is over."""
        OUT.flush()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(math.ceil(seconds))
                result = json.dumps(work())
                with os.fdopen(write, "w") as pipe:
                    pipe.write(result)
                OUT.flush()
                os._exit(0)
            except BaseException:
                traceback.print_exc(file=OUT)
                OUT.flush()
                os._exit(1)
        os.close(write)
        return cls(child, read)

    def end(self) -> Any:
        """What it returned; None if it was ended."""
        with os.fdopen(self.pipe) as pipe:
            text = pipe.read()
        status = os.waitpid(self.child, 0)[1]
        if status and status != signal.SIGALRM:
            raise RuntimeError(f"a fork ended with the status {status}")
        return json.loads(text) if text else None


def over_jobs(
    work: Callable[[Sequence[Mutant]], object], many: list[Mutant], jobs: int
) -> list[Any]:
    """What several forks return together, each of which gets a part of a list."""
    forks = [Fork.start(lambda job=job: work(many[job::jobs])) for job in range(jobs)]
    return [each for fork in forks for each in fork.end()]


Seen = dict[str, tuple[float, list[str]]]
"""By test: its seconds, and the digests of the mutants that make a difference in it."""


class Session:
    """A pytest plugin that gives the collected tests to a function, and notes which test fails first."""

    def __init__(self, work: Callable[[Session], object]) -> None:
        self.work, self.items, self.failed = work, {}, ""
        self.result: Any = None

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Work in place of running them all."""
        self.items = {item.nodeid: item for item in session.items}
        if not session.testsfailed:
            try:
                self.result = self.work(self)
            except Exception:  # pytest would write it where nobody sees it
                traceback.print_exc(file=OUT)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure."""
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def run(self, names: Sequence[str], after: Callable[[str], object] = lambda name: None) -> str:
        """Run tests until one fails, and return its name."""
        items = [self.items[name] for name in names if name in self.items]
        for item, next_item in zip(items, [*items[1:], None], strict=True):
            try:
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=next_item)
            except BaseException:  # no error that a test would report
                self.failed = self.failed or item.nodeid
            after(item.nodeid)
            if self.failed:
                break
        return self.failed


def collected(tests: Sequence[str], work: Callable[[Session], object]) -> Any:
    """What a function makes of tests, in this process."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    torch.set_num_threads(1)
    plugin = Session(work)
    without = ("no:cacheprovider", "no:xdist", "no:hypothesispytest")
    options = ["-q", "-s", "--tb=native", "-m", "not slow", *(f"-p{each}" for each in without)]
    pytest.main([*options, *tests], plugins=[plugin])
    if plugin.result is None:
        raise RuntimeError(f"pytest cannot collect {tests}")
    return plugin.result


def digest_of(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def seen_by(session: Session, every: Sequence[Mutant]) -> Seen:
    """In which tests mutants make a difference; kept for each file of tests."""
    files: dict[Path, list[str]] = defaultdict(list)
    for name, item in session.items.items():
        files[item.path].append(name)
    shared = [
        *sorted((ROOT / "lrp_fx").rglob("*.py")),
        *sorted((ROOT / "tests/helpers").glob("*.py")),
    ]
    package = [path.read_text() for path in (*shared, ROOT / "tests/conftest.py")]
    package += [mutant.digest for mutant in every]
    found: Seen = {}
    for file, names in files.items():
        kept = KEPT / f"seen-{digest_of(*package, file.read_text(), *names)}.json"
        if not kept.exists():
            fork = Fork.start(lambda names=names: _noting(session, names, every))
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(json.dumps(fork.end()))
        found |= json.loads(kept.read_text())
    return found


def _noting(session: Session, names: Sequence[str], every: Sequence[Mutant]) -> Seen:
    functions = functions_in(mutant.file for mutant in every)
    for file in dict.fromkeys(mutant.file for mutant in every):
        many = [each for each in every if each.file == file and each.in_a_function]
        give_code(file, with_notes((ROOT / file).read_text(), many), functions[file])
    found: Seen = {}
    start = time.perf_counter()

    def note(name: str) -> None:
        nonlocal start
        found[name] = (time.perf_counter() - start, sorted(NOTED))
        NOTED.clear()
        start = time.perf_counter()

    if failed := session.run(names, note):
        raise RuntimeError(f"{failed} fails on the package as it is")
    return found


@dataclass(frozen=True)
class Trial:
    """Mutants are tried one after the other, on the tests that find a fault soonest.

    Args:
        seen: in which tests mutants make a difference.
        most: how many seconds of tests are tried on a mutant.
    """

    seen: Seen
    most: float
    caught: Counter[str] = field(default_factory=Counter)

    def within(self, tests: Sequence[str]) -> list[str]:
        """The first of some tests, that take no longer than a mutant may."""
        tests = sorted(tests, key=lambda test: (-self.caught[test], self.seen[test][0]))
        together = accumulate(self.seen[test][0] for test in tests)
        return [test for test, seconds in zip(tests, together, strict=True) if seconds < self.most]

    def limit(self, tests: Sequence[str]) -> float:
        """When tests run for ever."""
        return min(LIMIT, 30 + LONGER * sum(self.seen[test][0] for test in tests))

    def in_functions(self, session: Session, many: Sequence[Mutant]) -> list[str]:
        """The mutants that change functions, and that no test catches."""
        missed = []
        functions = functions_in(mutant.file for mutant in many)
        gc.freeze()  # else each fork copies all pages that the collector visits
        for mutant in many:
            showing = [test for test, (_, shown) in self.seen.items() if mutant.digest in shown]
            tests = self.within(showing)

            def work(mutant: Mutant = mutant, tests: list[str] = tests) -> str:
                give_code(mutant.file, mutant.source, functions[mutant.file])
                return session.run(tests)

            missed += self._tried(mutant, tests, work, showing)
        return missed

    def on_import(self, many: Sequence[Mutant]) -> list[str]:
        """The mutants that change what runs on import, and that no test catches."""
        missed = []
        for mutant in many:
            # a fault in a table may show in any test: another file may read it
            tests = self.within(list(self.seen))

            def work(mutant: Mutant = mutant, tests: list[str] = tests) -> str:
                sys.meta_path.insert(0, Importer(mutant))
                files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
                try:
                    return str(collected(files, lambda session: session.run(tests)))
                except RuntimeError:
                    return "the collection of tests"

            missed += self._tried(mutant, tests, work, tests)
        return missed

    def _tried(
        self, mutant: Mutant, tests: Sequence[str], work: Callable[[], str], showing: Sequence[str]
    ) -> list[str]:
        start = time.perf_counter()
        failed = Fork.start(work, self.limit(tests)).end() if tests else ""
        seconds = time.perf_counter() - start
        how = "never ends" if failed is None else "caught" if failed else "MISSED"
        self.caught[failed or ""] += 1
        print(f"{how} {mutant.file} {mutant.words} ({seconds:.1f} s)", file=OUT, flush=True)
        if how != "MISSED":
            KEPT.mkdir(exist_ok=True)
            with (KEPT / "outcomes.jsonl").open("a") as kept:
                outcome = {"mutant": mutant.digest, "how": how, "words": mutant.words}
                kept.write(json.dumps({**outcome, "by": failed}) + "\n")
            return []
        quickest = ", ".join(self.within(showing)[:2])
        return [f"{mutant.file} {mutant.words} (it shows in {len(showing)} tests: {quickest})"]


def known() -> set[str]:
    """The mutants that an earlier run caught."""
    kept = KEPT / "outcomes.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    return {json.loads(line)["mutant"] for line in lines}


def missed_by(
    tests: Sequence[str], every: Sequence[Mutant], many: Sequence[Mutant], most: float, jobs: int
) -> list[str]:
    """Those of many mutants that tests do not catch."""

    def work(session: Session) -> tuple[Seen, list[str]]:
        trial = Trial(seen_by(session, every), most)
        changed = [mutant for mutant in many if mutant.in_a_function]
        return trial.seen, over_jobs(lambda some: trial.in_functions(session, some), changed, jobs)

    seen, missed = Fork.start(lambda: collected(tests, work)).end()
    rest = [mutant for mutant in many if not mutant.in_a_function]
    return [*missed, *over_jobs(Trial(seen, most).on_import, rest, jobs)]


def is_wanted(suite: str, file: str, only: Sequence[str]) -> bool:
    """Whether a kind of fault in a file is asked for."""
    return any(each in (suite, "") or each in file for each in only)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", nargs="+", default=[""], help="kinds of faults, or files: parts of their paths"
    )
    parser.add_argument(
        "--tests", nargs="+", help="try these tests alone, such as direct ones, which take seconds"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many processes try mutants")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="of tests, at most, on each mutant"
    )
    parser.add_argument("--again", action="store_true", help="forget what was caught before")
    options = parser.parse_args()
    if options.again:
        (KEPT / "outcomes.jsonl").unlink(missing_ok=True)
    before = known()
    missed: list[str] = []
    total = 0
    pairs = [(suite, target) for suite, targets in SUITES.items() for target in targets]
    if options.tests:
        pairs = [
            (suite, replace(target, tests=tuple(options.tests)))
            for suite, target in pairs
            if is_wanted(suite, target.file, options.only)
        ]
    for tests in dict.fromkeys(target.tests for _, target in pairs):
        served = [(suite, target) for suite, target in pairs if target.tests == tests]
        made = [(suite, list(mutants_of(suite, target))) for suite, target in served]
        every = [each for _, many in made for each in many]
        wanted = [
            each
            for suite, many in made
            for each in many
            if is_wanted(suite, each.file, options.only)
        ]
        rest = [each for each in wanted if each.digest not in before]
        total += len(wanted)
        if wanted:
            print(
                f"{len(wanted)} faults, {len(wanted) - len(rest)} of them caught before", flush=True
            )
        if rest:
            missed += missed_by(tests, every, rest, options.seconds, options.jobs)
    for each in missed:
        print("MISSED", each)
    print(f"{total - len(missed)} of {total} faults are caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
