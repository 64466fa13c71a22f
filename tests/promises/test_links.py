"""Links between pages, to headings and to pictures lead somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.pages import PAGES, ROOT, anchors, links

OUTSIDE = ("http://", "https://", "mailto:")


def missing(page: Path, link: str) -> bool:
    """True if a relative link leads nowhere."""
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return True
    return bool(anchor) and target.suffix == ".md" and anchor not in anchors(target)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    relative = [link for link in links(page) if not link.startswith(OUTSIDE)]
    assert not [link for link in relative if missing(page, link)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_of_the_site_links_out_of_it(page: Path) -> None:
    """The site has only what lies in docs/; elsewhere is named as code, not linked."""
    docs = ROOT / "docs"
    if page.is_relative_to(docs):
        relative = [link.partition("#")[0] for link in links(page) if not link.startswith(OUTSIDE)]
        outside = [
            r for r in relative if r and not (page.parent / r).resolve().is_relative_to(docs)
        ]
        assert not outside


def test_the_check_sees_a_broken_link(tmp_path: Path) -> None:
    """Protects the check from finding nothing."""
    assert missing(ROOT / "README.md", "docs/no_such_page.md")
    assert missing(ROOT / "README.md", "docs/guide.md#no-such-heading")
    assert not missing(ROOT / "README.md", "docs/guide.md#targets")
