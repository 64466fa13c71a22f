"""Write docs/operations.md from the registry: ``python docs/operations.py``."""

from __future__ import annotations

from pathlib import Path

from lrp_fx.relevance.handling import Operation, registry

PAGE = Path(__file__).with_name("operations.md")

HEAD = """# Operations

Every ATen operation through which relevance is described, by family. A composite may assign the
alternatives; `LinearRule` stands for all rules of [rules.md](rules.md). The page is generated from the
registry by `python docs/operations.py`, and a test keeps it true.

Forms that are rewritten before (fused attention, GLU, dropout, in-place calls, synonyms) are in
`lrp_fx/canonize/`. An operation that is not here is an error, or, with `unknown="vjp"`, hands
relevance on in shares of its operands' contributions x ∂y/∂x, where it has a derivative that says so.
"""


def page() -> str:
    """The whole page."""
    families: dict[str, dict[tuple[str, str, str], list[str]]] = {}
    for operation in registry().values():
        rows = families.setdefault(operation.kind, {})
        rows.setdefault(_row(operation), []).append(f"`{operation.name}`")
    parts = [HEAD]
    for family, rows in families.items():
        parts.append(f"## {family.capitalize()}\n")
        parts.append("| operations | default | alternatives | source |\n|---|---|---|---|")
        parts.extend(
            f"| {' '.join(names)} | {' | '.join(cell.replace('|', '∣') for cell in cells)} |"
            for cells, names in rows.items()
        )
        parts.append("")
    return "\n".join(parts)


def _row(operation: Operation) -> tuple[str, str, str]:
    alternatives = ", ".join(f"`{rule.__name__}`" for rule in operation.alternatives)
    return operation.default_text, alternatives, operation.source


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
