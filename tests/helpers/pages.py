"""The pages that people read: their blocks of Python, their links and their headings."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "paper").glob("*.md")])
NOTE = re.compile(r"<!-- (not run|slow): (.+?) -->\s*$")
LINK = re.compile(r"(?<!`)!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of Python, and the note in the comment above it, if there is one.

    ``<!-- not run: REASON -->`` leaves a block out; ``<!-- slow: REASON -->`` runs it in
    ``make slow`` only.
    """

    page: Path
    line: int
    code: str
    note: str
    reason: str

    def run(self, names: dict[str, Any]) -> None:
        """Run the block in ``names``; tracebacks name the page and its line."""
        padded = "\n" * self.line + self.code
        exec(compile(padded, str(self.page.relative_to(ROOT)), "exec"), names)


def python_blocks(page: Path) -> list[Block]:
    """All blocks of Python of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for match in re.finditer(r"^```(?:python|py)\b[^\n]*\n(.*?)^```", text, re.M | re.S):
        before = text[: match.start()].rstrip().rsplit("\n", 1)[-1]
        note = NOTE.search(before)
        kind, reason = note.groups() if note else ("", "")
        line = text[: match.start()].count("\n") + 1
        blocks.append(Block(page, line, match.group(1), kind, reason))
    return blocks


def prose(page: Path) -> str:
    """The page without its blocks and spans of code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "", text)


def links(page: Path) -> list[str]:
    """The targets of all links and pictures."""
    return [*LINK.findall(prose(page)), *re.findall(r'(?:src|href)="([^"]+)"', prose(page))]


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text, re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", unicodedata.normalize("NFC", plain).lower())
        name = name.strip().replace(" ", "-")
        count = found.get(name, 0)
        found[name] = count + 1
        names.add(f"{name}-{count}" if count else name)
    return names | set(re.findall(r'(?:id|name)="([^"]+)"', text))
