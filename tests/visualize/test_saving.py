"""Files are complete or not there; figures of plans, ledgers and graphs; nothing loads early."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import lrp_fx
from lrp_fx import ConceptLRPFx, LRPFx
from lrp_fx.concepts.channels import Concept, Edge
from lrp_fx.concepts.graph import AttributionGraph
from lrp_fx.errors import InputError, OptionError
from lrp_fx.visualize import (
    concept_figure,
    ledger_figure,
    plan_figure,
    save,
    save_heatmap,
    save_overlay,
    show,
    to_pil,
)
from tests.visualize.helpers import texts

X = torch.rand(1, 3, 6, 6)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5)
    ).eval()


def test_one_line_writes_a_picture(tmp_path: Path) -> None:
    relevance, photograph = torch.rand(3, 4, 4), Image.new("RGB", (4, 4))
    for path in (
        save_heatmap(relevance, tmp_path / "a.png", target="cat"),
        save_heatmap(relevance, str(tmp_path / "b.png"), photograph),
        save_overlay(relevance, photograph, tmp_path / "c.webp"),
    ):
        with Image.open(path) as picture:
            assert picture.size[0] > 100
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png", "c.webp"}
    assert save_heatmap(relevance, tmp_path / "d.SVG").read_text().startswith("<?xml")


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match=r"cannot write .*No space left"):
        save(show(torch.ones(1, 2, 2)), path)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("a.exe", OptionError),
        ("a", OptionError),
        ("no/a.png", InputError),
        ("folder.png", InputError),
    ],
)
def test_where_no_picture_can_be(tmp_path: Path, name: str, error: Any) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(error):
        save(show(torch.ones(1, 2, 2)), tmp_path / name)
    assert [each.name for each in tmp_path.iterdir()] == ["folder.png"]


def test_a_picture_of_pil() -> None:
    picture = to_pil(figure := show(torch.ones(1, 2, 2)))
    assert picture.mode == "RGB"
    assert picture.size == tuple(np.rint(figure.get_size_inches() * 100).astype(int))


def test_how_a_map_came_about() -> None:
    """Plan, ledger and attribution graph have figures, and HTML in which every text is escaped."""
    lrp = LRPFx(model(), "epsilon_plus_flat")
    lrp.attribute(X, target=1)
    plan, ledger = lrp.plan(), lrp.audit(X, target=1)
    graph = ConceptLRPFx(model()).attribution_graph(X, 1, ["2", "0"])
    written = plan_figure(plan)
    lines = [text.get_text() for text in written.axes[0].texts]
    steps = [step for step in plan.steps if step.operation is not None]
    assert lines[::2] == [step.path or step.node.name for step in steps]
    assert lines[1::2] == [str(step.rule) for step in steps]
    assert f"{len(steps)} operations" in texts(written)
    for figure in (written, ledger_figure(ledger), concept_figure(graph)):
        assert to_pil(figure).size[0] > 300
        assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    for shown in (plan, ledger, graph):
        page = shown._repr_html_()
        assert page.count("<table") == page.count("</table>") == 1
    assert plan._repr_html_().count("<tr>") == 1 + len(steps)
    assert ledger._repr_html_().count("<tr>") == 1 + len(ledger.entries)


def test_html_is_escaped() -> None:
    upper, lower = Concept("<img src=x>", 1, 2.0), Concept("b&c", 3, -1.0)
    page = AttributionGraph((upper, lower), (Edge(upper, lower, -1.0),), 2.0)._repr_html_()
    assert "<img" not in page
    assert "&lt;img src=x&gt;" in page
    assert "b&amp;c" in page
    assert "3 (-50.0%)" in page


def test_a_graph_colours_signs_also_for_a_negative_start() -> None:
    """A channel of negative relevance speaks against the output, whatever its share."""
    upper, lower = Concept("a", 1, -2.0), Concept("b", 3, -1.0)
    graph = AttributionGraph((upper, lower), (Edge(upper, lower, -1.0),), -2.0)
    axes = concept_figure(graph).axes[0]
    boxes = [text.get_bbox_patch() for text in axes.texts]
    edges = {box.get_edgecolor() for box in boxes if box is not None}
    assert edges == {(0.0, 0x60 / 255, 0xED / 255, 1.0)}


def test_nothing_of_pictures_is_imported_early() -> None:
    """Only the files that draw import matplotlib at the top, and no package imports these."""
    early = []
    for path in Path(lrp_fx.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [str(node.module)]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            if any(name.partition(".")[0] in ("matplotlib", "rich") for name in names):
                early.append(path.relative_to(Path(lrp_fx.__file__).parent).as_posix())
    drawing = {
        *("_common/figure.py", "run/figure.py", "concepts/figure.py"),
        *("evaluate/figure.py", "evaluate/search_figure.py"),
    }
    assert {name for name in early if not name.startswith("cli/")} <= drawing


def test_what_is_no_figure_or_path(tmp_path: Path) -> None:
    figure: Any = show(torch.ones(1, 2, 2))
    wrong: Any
    for wrong in ("a.png", torch.ones(1, 2, 2), None):
        with pytest.raises(InputError, match="a figure is needed"):
            save(wrong, tmp_path / "a.png")
        for draw in (plan_figure, ledger_figure, concept_figure):
            with pytest.raises(InputError, match="_figure needs"):
                draw(wrong)
    for wrong in (5, None, figure):
        with pytest.raises(OptionError, match="path must name a file"):
            save(figure, wrong)
    assert not list(tmp_path.iterdir())


def test_links_and_long_names(tmp_path: Path) -> None:
    figure = show(torch.ones(1, 2, 2))
    (tmp_path / "real.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    save(figure, tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").read_bytes().startswith(b"\x89PNG")
    assert save(figure, tmp_path / f"{'a' * 250}.png").exists()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(InputError, match="cannot write"):
        save(figure, tmp_path / "loop.png")
