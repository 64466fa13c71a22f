"""Whether the tests notice a fault in the places where a fault gives a wrong map and no error.

    python benchmarks/mutations.py
    python benchmarks/mutations.py --only gates --jobs 2
    python benchmarks/mutations.py --seconds 60     # first those that are found soon

One after the other, a fault is committed in a copy of the package, and the tests that should notice
run on it. In the rules: a branch's sign is flipped, a branch dropped, W⁺ and W⁻ (or x⁺ and x⁻, or b⁺
and b⁻) swapped, a group's coefficient negated, its mask swapped, a favoured part turned round.
Elsewhere, of the definitions that decide what an operation means: an entry of a table dropped, a
condition negated, an operand of ``and`` or ``or`` dropped, a bound moved. In what decides whether a
reading of the model still holds also: a statement dropped, a part of a tuple, a list or a sum dropped.
A mutant that passes is a gap in the tests, and the script ends with an error; those that no test can
show are left out, each with the reason. Outcomes are kept in ``.mutations/``: the next run goes on where
the last one ended, and tries again what passed and what stands in a file that has changed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

# imported once, here: the tests run in forks of this process
import captum.attr  # noqa: F401
import pytest
import sympy  # noqa: F401
import torch._dynamo
import torch.export  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / ".mutations" / "outcomes.jsonl"
LIMIT = 1800  # seconds at most
LONGER = 5  # a mutant that takes so many times as long runs for ever, and is noticed by that
SOON = 30  # tests that are tried first
SWAPPED = {"PLUS": "MINUS", "MINUS": "PLUS", "up": "down", "down": "up"}
MASKS = {"positive": "negative", "negative": "positive"}

Change = tuple[str, Callable[[ast.AST], object]]
"""A fault that fits a node: in words, and what commits it on a copy of the node."""


@dataclass(frozen=True)
class Target:
    """A file, which of its definitions are changed (none named: all), and the tests that run.

    Args:
        file: its path.
        tests: paths of tests, and options of pytest.
        definitions: names that the file defines.
        left_out: why a mutant whose words contain this text cannot show in any test.
    """

    file: str
    tests: tuple[str, ...]
    definitions: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


MEANINGS = (
    *("tests/meaning", "tests/relevance/test_norms_and_products.py", "tests/canonize"),
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
        Target(
            "lrp_fx/canonize/attention.py",
            MEANINGS,
            left_out={"'device' dropped": "it needs another device than the CPU"},
        ),
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
        Target("lrp_fx/canonize/common_factor.py", MEANINGS),
        Target("lrp_fx/canonize/products.py", MEANINGS),
        Target(
            "lrp_fx/canonize/arithmetic_forms.py",
            MEANINGS,
            ("_pow", "_copy", "_fill", "_addmm", "_baddbmm"),
        ),
        Target(
            "lrp_fx/canonize/layer_forms.py",
            MEANINGS,
            ("_convolution", "_convolution_padding", "_instance_norm"),
        ),
        Target("lrp_fx/canonize/padding.py", MEANINGS, ("cut_surplus",)),
        Target("lrp_fx/canonize/vocabulary.py", MEANINGS, ("one_vocabulary", "_dropout")),
    ),
    "gates": (
        Target(
            "lrp_fx/meaning/value_ranges.py",
            MEANINGS,
            ("Range", "_saturates", "_range", "_clamped", "_power", "_of_two", "_beside"),
        ),
        Target("lrp_fx/relevance/product.py", MEANINGS),
        Target(
            "lrp_fx/canonize/sigmoids.py",
            MEANINGS,
            (
                *("shifted", "_with_number"),
                *("_in_a_sum", "_ratio"),
            ),
        ),
        Target("lrp_fx/canonize/signs.py", MEANINGS, ("signed",)),
        Target("lrp_fx/canonize/softmaxes.py", MEANINGS, ("_masked", "logits_of", "without_shift")),
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
                "dropped: (id(tensor), form_of(tensor), content)": "it is verified in every call",
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


def faults_of_a_rule(node: ast.AST) -> Iterator[Change]:
    """Faults in a table of branches."""
    if name_of(node) == "Branch":
        for place, word in enumerate(("x⁺ and x⁻", "W⁺ and W⁻", "b⁺ and b⁻")):
            argument = node.args[place]
            if isinstance(argument, ast.Name) and argument.id in SWAPPED:
                yield f"{word} swapped", lambda n, place=place: swap(n.args[place])
    if isinstance(node, ast.Tuple) and len(node.elts) > 1:
        for place, each in enumerate(node.elts):
            if name_of(each) in ("Branch", "Group"):
                words = f"{name_of(each).lower()} {place} dropped"
                yield words, lambda n, place=place: n.elts.pop(place)
            if name_of(each) == "Branch":  # of a branch alone the sign cancels: s x Wᵀ R / S(s z)
                words = f"sign of branch {place} flipped"
                yield words, lambda n, place=place: flip_sign(n.elts[place])
    if name_of(node) == "Group":
        for place, keyword in enumerate(node.keywords):
            if keyword.arg == "coefficient":
                yield "coefficient negated", lambda n, place=place: negate(n.keywords[place])
            if keyword.arg == "mask":
                yield "mask swapped", lambda n, place=place: swap_mask(n.keywords[place])
    if name_of(node) == "Part" and "gamma" in ast.unparse(node):
        yield "turned round", lambda n: n.args.reverse()


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


def faults_of_a_definition(node: ast.AST) -> Iterator[Change]:
    """Faults in what decides: tables, conditions, bounds."""
    if isinstance(node, (ast.Set, ast.List, ast.Tuple)) and len(node.elts) > 1:
        for place, each in enumerate(node.elts):
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                yield f"{each.value!r} dropped", lambda n, place=place: n.elts.pop(place)
    if isinstance(node, ast.Dict) and len(node.keys) > 1:
        for place, key in enumerate(node.keys):
            if key is not None:
                yield f"{ast.unparse(key)} dropped", lambda n, place=place: drop_key(n, place)
    if isinstance(node, (ast.If, ast.IfExp)) and not only_raises(node):
        yield "condition negated", lambda n: setattr(n, "test", inverse(n.test))
    if isinstance(node, ast.BoolOp):
        for place, each in enumerate(node.values):
            words = f"{ast.unparse(each)[:50]!r} dropped"
            yield words, lambda n, place=place: n.values.pop(place)
    if isinstance(node, ast.Compare):
        for place, each in enumerate(node.comparators):
            if isinstance(each, ast.Constant) and type(each.value) in (int, float):
                yield "bound moved", lambda n, place=place: move(n.comparators[place])


def faults_of_a_watch(node: ast.AST) -> Iterator[Change]:
    """Faults in what looks at a model: those of a definition, and something that is not looked at."""
    yield from faults_of_a_definition(node)
    for name in ("body", "orelse"):
        statements = getattr(node, name, [])
        for place, each in enumerate(statements if isinstance(statements, list) else []):
            if has_effect(each):
                words = f"{' '.join(ast.unparse(each).split())[:50]!r} dropped"
                yield words, lambda n, name=name, place=place: drop_statement(n, name, place)
    table = node.value if isinstance(node, ast.Starred) else node  # of pairs only those in tables
    if isinstance(table, (ast.List, ast.Tuple)) and (table is node) == (len(table.elts) > 2):
        for place, each in enumerate(table.elts):
            if not isinstance(each, ast.Constant):
                words = f"{ast.unparse(each)[:50]!r} dropped"
                yield words, lambda n, place=place: getattr(n, "value", n).elts.pop(place)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        words = f"{ast.unparse(node.left)[:50]!r} dropped"
        yield words, lambda n: n.__dict__.update(op=ast.Mult(), left=ast.Constant(1))


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


def mutants(
    source: str, faults: Callable[[ast.AST], Iterator[Change]], definitions: tuple[str, ...]
) -> Iterator[tuple[str, int | None, str]]:
    """What was changed, the line of the function that it stands in, and the changed source."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    hints = {id(part) for node in nodes for each in hints_of(node) for part in ast.walk(each)}
    wanted = {
        id(node)
        for each in tree.body
        if not definitions or set(definitions) & defined_by(each)
        for node in ast.walk(each)
    }
    functions = {  # of nodes in several, the innermost one, which is the last one here
        id(node): each.lineno
        for each in nodes
        if isinstance(each, ast.FunctionDef)
        for statement in each.body
        for node in ast.walk(statement)
    }
    for index, node in enumerate(nodes):
        if id(node) not in wanted or id(node) in hints:
            continue
        for words, change in faults(node):
            mutant = copy.deepcopy(tree)
            change(list(ast.walk(mutant))[index])
            text = " ".join(ast.unparse(node).split())
            line = getattr(node, "lineno", 0)
            yield (
                f"line {line}, {words}: {text[:70]}",
                functions.get(id(node)),
                ast.unparse(ast.fix_missing_locations(mutant)),
            )


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


FAULTS: dict[str, Callable[[ast.AST], Iterator[Change]]] = {
    "rules": faults_of_a_rule,
    "canonize": faults_of_a_definition,
    "gates": faults_of_a_definition,
    "signatures": faults_of_a_watch,
}


# --- running --------------------------------------------------------------------------------------


REACHED: set[str] = set()
"""The functions that were called, where the calls are noted: a file and a line for each."""


def with_calls_noted(source: str, file: str) -> str:
    """The source of a module each function of which notes its line when it is called."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            note = f"__import__('sys').modules['__main__'].REACHED.add('{file}:{node.lineno}')"
            node.body.insert(0, *ast.parse(note).body)
    return ast.unparse(ast.fix_missing_locations(tree))


class Reach:
    """A pytest plugin that notes of each test how long it takes and which functions it calls."""

    def __init__(self) -> None:
        self.functions: dict[str, list[str]] = {}
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Note what a test does."""
        REACHED.clear()
        start = time.perf_counter()
        try:
            return (yield)
        finally:
            self.functions[item.nodeid] = sorted(REACHED)
            self.seconds[item.nodeid] = time.perf_counter() - start

    def noted(self) -> object:
        """The functions and the seconds, by test."""
        return self.functions, self.seconds


class First:
    """A pytest plugin that notes the first test that fails."""

    def __init__(self) -> None:
        self.name: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure."""
        if report.failed and self.name is None:
            self.name = report.nodeid

    def noted(self) -> object:
        """Its name."""
        return self.name


class Suite:
    """Tests, in the order in which they find a fault soonest.

    Those that do not call the changed function are left out. A fault in a table, which is made when
    the module is imported, may show in any test: another file may read it.

    Args:
        root: a copy of the package and its tests.
        tests: paths of tests, and options of pytest.
        files: of the package, in whose functions faults will be committed.
        most: how many seconds of tests are tried on a mutant.
    """

    def __init__(self, root: Path, tests: Sequence[str], files: Sequence[str], most: float) -> None:
        self.root, self.limit, self.most = root, float(LIMIT), most
        self.found = root / "found"
        sources = {file: (root / file).read_text() for file in files}
        for file, source in sources.items():
            (root / file).write_text(with_calls_noted(source, file))
        if not self.passes(tests, Reach()):
            sys.exit(f"{', '.join(tests)} fail on the package as it is")
        for file, source in sources.items():
            (root / file).write_text(source)
        self.functions, self.seconds = json.loads(self.found.read_text())
        self.caught: Counter[str] = Counter()

    def at(self, root: Path) -> Suite:
        """The same tests on another copy of the package."""
        other = copy.copy(self)
        other.root, other.found, other.caught = root, root / "found", Counter()
        return other

    def catches(self, file: str, changed: int | None) -> str:
        """How a test fails on the package in ``root``: it fails, or never ends; empty for neither.

        Args:
            file: the one that is changed.
            changed: the line of the function that is changed, None outside of one.
        """
        reaching = [
            test for test, called in self.functions.items() if f"{file}:{changed}" in called
        ]
        tests = reaching or list(self.functions)
        tests.sort(key=lambda test: (-self.caught[test], self.seconds[test]))
        tests = self._within(tests)
        # a few at first, since pytest takes seconds to collect them all
        for some in filter(None, (tests[:SOON], tests[SOON:])):
            self.found.unlink(missing_ok=True)
            self.limit = min(LIMIT, 60 + LONGER * sum(self.seconds[test] for test in some))
            if not self.passes(some, First()):
                if not self.found.exists():
                    return "never ends"
                self.caught[json.loads(self.found.read_text())] += 1
                return "caught"
        return ""

    def _within(self, tests: Sequence[str]) -> list[str]:
        """The first of some tests, that take no longer than a mutant may."""
        together = accumulate(self.seconds[test] for test in tests)
        return [test for test, seconds in zip(tests, together, strict=True) if seconds < self.most]

    def passes(self, tests: Sequence[str], plugin: Reach | First) -> bool:
        """Whether tests pass, in a fork; what the plugin noted is in a file then."""
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            if isinstance(plugin, First):
                signal.alarm(int(self.limit))
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            os.chdir(self.root)
            # no bytecode: files that change within a second would be taken for what they were
            sys.dont_write_bytecode = True
            sys.path.insert(0, str(self.root))
            without = ("no:cacheprovider", "no:xdist", "no:hypothesispytest")
            options = ["-q", "-x", "-m", "not slow", *(f"-p{each}" for each in without)]
            status = int(pytest.main([*options, *tests], plugins=[plugin]))
            self.found.write_text(json.dumps(plugin.noted()))
            os._exit(status)
        return os.waitpid(child, 0)[1] == 0


@dataclass(frozen=True)
class Mutant:
    """A file with one fault.

    Args:
        file: its path.
        words: what was changed.
        changed: the line of the function that is changed, None outside of one.
        source: the changed file.
    """

    file: str
    words: str
    changed: int | None
    source: str

    @property
    def digest(self) -> str:
        """What names it, and the whole file that it stands in, from one run to the next."""
        return hashlib.sha256(f"{self.file} {self.words} {self.source}".encode()).hexdigest()


def mutants_of(root: Path, suite: str, target: Target) -> Iterator[Mutant]:
    """The mutants of a target that a test can show."""
    source = (root / target.file).read_text()
    for words, changed, mutant in mutants(source, FAULTS[suite], target.definitions):
        if not any(each in words for each in target.left_out):
            yield Mutant(target.file, words, changed, mutant)


def missed_in(tests: Suite, many: Sequence[Mutant], jobs: int) -> list[str]:
    """What tests miss; several processes try the mutants, each in a copy of its own."""
    children: dict[int, Path] = {}
    for job in range(jobs):
        root = tests.root.parent / f"job{job}"
        child = os.fork()
        if child == 0:
            shutil.copytree(tests.root, root, dirs_exist_ok=True)
            missed = _missed_by_one(tests.at(root), many[job::jobs])
            (root / "missed").write_text(json.dumps(missed))
            os._exit(0)
        children[child] = root
    found: list[str] = []
    for child, root in children.items():
        if os.waitpid(child, 0)[1]:
            sys.exit(f"a process that tried mutants ended with an error, in {root}")
        found += json.loads((root / "missed").read_text())
    return found


def _missed_by_one(tests: Suite, many: Sequence[Mutant]) -> list[str]:
    missed = []
    for mutant in many:
        file = tests.root / mutant.file
        source = file.read_text()
        file.write_text(mutant.source)
        how = tests.catches(mutant.file, mutant.changed)
        file.write_text(source)
        print(how or "MISSED", mutant.file, mutant.words, flush=True)
        if how:
            KEPT.parent.mkdir(exist_ok=True)
            with KEPT.open("a") as kept:
                kept.write(json.dumps({"mutant": mutant.digest, "how": how}) + "\n")
        missed += [] if how else [f"{mutant.file} {mutant.words}"]
    return missed


def known() -> set[str]:
    """The mutants that an earlier run caught."""
    lines = KEPT.read_text().splitlines() if KEPT.exists() else []
    return {json.loads(line)["mutant"] for line in lines}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", default="", help="one kind of fault, or one file: a part of its path"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many processes try mutants")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="of tests, at most, on each mutant"
    )
    parser.add_argument("--again", action="store_true", help="forget what was caught before")
    options = parser.parse_args()
    if options.again:
        KEPT.unlink(missing_ok=True)
    before = known()
    missed: list[str] = []
    total = 0
    wanted = [
        (suite, target)
        for suite, targets in SUITES.items()
        for target in targets
        if options.only in (suite, "") or options.only in target.file
    ]
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "all"
        for name in ("lrp_fx", "tests"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, root / name, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", root)
        for tests in dict.fromkeys(target.tests for _, target in wanted):
            served = [(suite, target) for suite, target in wanted if target.tests == tests]
            many = [each for suite, target in served for each in mutants_of(root, suite, target)]
            total += len(many)
            left = [each for each in many if each.digest not in before]
            print(f"{len(many)} faults, {len(many) - len(left)} of them caught before", flush=True)
            if left:
                files = list(dict.fromkeys(each.file for each in left))
                noted = Suite(root, tests, files, options.seconds)
                missed += missed_in(noted, left, options.jobs)
    for each in missed:
        print("MISSED", each)
    print(f"{total - len(missed)} of {total} faults are caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
