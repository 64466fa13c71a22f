"""Whether the tests of the rules notice a fault in ``lrp_fx/rules.py``.

    python benchmarks/mutations.py

One after the other, a branch's sign is flipped, a branch is dropped, W⁺ and W⁻ (or x⁺ and x⁻, or b⁺ and
b⁻) are swapped, a group's coefficient negated, its mask swapped, a favoured part turned round: in a
copy of the package, on which the golden numbers and the matrix-form twins are run. A mutant that
passes is a gap in the tests, and the script ends with an error.
"""

from __future__ import annotations

import ast
import copy
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("tests/test_golden.py", "tests/test_twins.py", "tests/test_audit.py")
SWAPPED = {"PLUS": "MINUS", "MINUS": "PLUS", "up": "down", "down": "up"}
MASKS = {"positive": "negative", "negative": "positive"}


def name_of(node: ast.AST) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """What was changed, and the changed source."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    for index, node in enumerate(nodes):
        for words, change in changes(node):
            mutant = copy.deepcopy(tree)
            change(list(ast.walk(mutant))[index])
            text = ast.unparse(node)
            yield f"line {getattr(node, 'lineno', 0)}, {words}: {text[:70]}", ast.unparse(mutant)


def changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    """The faults that fit a node, each as words and a function that commits it."""
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


def is_caught(root: Path) -> bool:
    """Whether the tests fail on the package in ``root``."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *TESTS]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True).returncode == 1


def main() -> int:
    missed = []
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for name in ("lrp_fx", "tests"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", root)
        rules = root / "lrp_fx" / "rules.py"
        source = rules.read_text()
        if is_caught(root):
            sys.exit("the tests fail on the package as it is")
        found = list(mutants(source))
        for words, mutant in found:
            rules.write_text(mutant)
            caught = is_caught(root)
            print("caught" if caught else "MISSED", words, flush=True)
            missed += [] if caught else [words]
    print(f"{len(found) - len(missed)} of {len(found)} faults are caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
