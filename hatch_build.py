"""The project's addresses and the README of the package, made from one value of pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = re.compile(r"(!\[[^\]]*\]\(|\]\()(?!https?://|#|mailto:)([^)]+\))")
"""A picture, or the end of a link, which may hold a picture."""


def absolute(readme: str, address: str) -> str:
    """The README with links that work outside the repository: pictures raw, pages as pages."""

    def link(match: re.Match[str]) -> str:
        kind = "raw" if match[1].startswith("!") else "blob"
        return f"{match[1]}{address}/{kind}/main/{match[2]}"

    return RELATIVE.sub(link, readme)


def urls(address: str) -> dict[str, str]:
    """What ``project.urls`` holds; nothing while there is no address."""
    if not address:
        return {}
    pages = {"Documentation": "blob/main/docs/index.md", "Changelog": "blob/main/CHANGELOG.md"}
    named = {name: f"{address}/{path}" for name, path in pages.items()}
    return {"Source": address, "Issues": f"{address}/issues", **named}


class ProjectMetadata(MetadataHookInterface):
    """Fills in what pyproject.toml lists as dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set ``readme`` and ``urls``."""
        import tomllib

        root = Path(self.root)
        settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        address = settings["tool"]["lrp_fx"]["address"].rstrip("/")
        readme = (root / "README.md").read_text(encoding="utf-8")
        text = absolute(readme, address) if address else readme
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = urls(address)
