"""What is found in a data set of explanations: classes, clusters, prototypes, outliers."""

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from lrp_fx.dataset import (
    Run,
    attribute_dataset,
    class_statistics,
    embed,
    features,
    prototypes,
    spray,
    write_virelay,
)
from lrp_fx.errors import InputError, OptionError
from tests.helpers.browser import browser, until, watched_page

COUNT, MARKED = 200, 1
SUMS = 1e-5


def watermarked() -> tuple[Tensor, Tensor, set[int]]:
    """Bars: upright in class 0, level in class 1, half of which carries a watermark in a corner."""
    chance = torch.Generator().manual_seed(0)
    labels = torch.arange(COUNT) % 2
    x = 0.3 * torch.randn(COUNT, 1, 16, 16, generator=chance)
    for n in range(COUNT):
        at = int(torch.randint(4, 13, (1,), generator=chance))
        place = (slice(at - 1, at + 1), slice(2, 14))
        x[(n, 0, *(place if labels[n] else place[::-1]))] += 0.8
    marked = {n for n in range(COUNT) if n % 4 == MARKED}
    for n in marked:
        x[n, 0, :3, :3] += 3
    return x, labels, marked


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The explanations of a network that learned from these images."""
    x, labels, _ = watermarked()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(256, 2)),
        )
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(60):
            chosen = torch.randint(0, COUNT, (64,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[chosen]), labels[chosen]).backward()
            optimizer.step()
    assert (model.eval()(x).argmax(1) == labels).float().mean() > 0.95
    found = attribute_dataset(
        LRPFx(model, "epsilon_plus"),
        x,
        tmp_path_factory.mktemp("run"),
        target="label",
        labels=labels.tolist(),
        batch_size=50,
    )
    assert found is not None
    return found


def test_a_planted_watermark_is_a_cluster_of_its_own(run: Run) -> None:
    found = spray(run, 1, clusters=2)
    _, _, marked = watermarked()
    assert found.sizes == (50, 50)
    assert marked in [set(found.members(cluster)) for cluster in (0, 1)]
    own = spray(run, 1)  # as many as the eigengap says: none of them mixes the two
    for cluster in range(len(own.sizes)):
        assert len({n in marked for n in own.members(cluster)}) == 1
    assert {n in marked for n in prototypes(run, 1, count=2).prototypes} == {True, False}


def test_means_and_spread_against_numpy(run: Run) -> None:
    for each, found in class_statistics(run).items():
        values = run.relevance(run.explained(each)).astype(np.float64)
        assert found.count == len(values) == COUNT // 2
        np.testing.assert_allclose(found.mean, values.mean(0), atol=SUMS)
        np.testing.assert_allclose(found.std, values.std(0), atol=SUMS)


def test_points_have_length_one(run: Run) -> None:
    points = features(run, run.explained(0), grid=4)
    assert points.shape == (COUNT // 2, 16)
    np.testing.assert_allclose(np.abs(points).sum(1), 1, rtol=SUMS)
    assert embed(run, run.explained(0)[:20]).shape == (20, 2)
    assert embed(run, run.explained(0)[:20], "pca").shape == (20, 2)


def test_an_unusual_explanation_is_an_outlier(tmp_path: Path) -> None:
    """All samples lie alike but one."""
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) * 0.05 + torch.tensor(
        [1.0] * 3 + [0.0] * 3
    )
    x[17] = torch.tensor([0.0, 0, 0, 1, 1, 1])
    model = nn.Sequential(nn.Linear(6, 2)).eval()
    run = attribute_dataset(LRPFx(model, "epsilon"), x, tmp_path / "run", target=0)
    assert run is not None
    assert prototypes(run, count=1).outliers[0] == 17


def test_a_project_has_what_virelay_reads(run: Run, tmp_path: Path) -> None:
    project = write_virelay(run, tmp_path / "project", watermarked()[0])
    said = json.loads(project.read_text())["project"]
    assert said["dataset"]["type"] == "hdf5"
    with h5py.File(project.parent / "attribution.h5") as file:
        assert file["attribution"].shape == (COUNT, 1, 16, 16)
        assert file["prediction"].shape == (COUNT, 2)
        assert file["label"].dtype == np.uint16
    with h5py.File(project.parent / "analysis.h5") as file:
        labels = json.loads((project.parent / said["label_map"]).read_text())
        assert {each["word_net_id"] for each in labels} >= set(file)
        for group in file.values():
            assert set(group) == {"index", "cluster", "embedding"}
            assert all(len(each) == len(group["index"]) for each in group["cluster"].values())
            assert "eigenvalue" in group["embedding/spectral"].attrs
    with pytest.raises(OptionError, match="new or empty"):
        write_virelay(run, tmp_path / "project", watermarked()[0])
    shutil.rmtree(tmp_path / "project")


def test_what_does_not_fit_is_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 4 explanations"):
        spray(run, 7)
    with pytest.raises(OptionError, match="by must be"):
        spray(run, 1, by="id")
    with pytest.raises(OptionError, match="must be a Run"):
        spray("run")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="numbers from 0"):
        run.relevance(COUNT)
    with pytest.raises(InputError, match="must be those of the run"):
        write_virelay(run, tmp_path / "project", watermarked()[0][:3])


@pytest.mark.slow
def test_virelay_opens_a_project_and_shows_the_watermark(run: Run, tmp_path: Path) -> None:
    """The viewer has an environment of its own: ``make virelay`` installs it and runs this test."""
    program = os.environ.get("VIRELAY") or shutil.which("virelay")
    if program is None:
        pytest.skip("virelay is not installed")
    project = write_virelay(run, tmp_path / "project", watermarked()[0], by="label")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    server = subprocess.Popen([program, "-p", str(port), project], env=environment)
    try:
        with browser(tmp_path / "no camera") as opened, watched_page(opened) as page:
            for _ in range(600):
                with socket.socket() as tried:
                    if not tried.connect_ex(("127.0.0.1", port)):
                        break
                page.wait_for_timeout(100)
            failed: list[str] = []
            page.on("response", lambda found: failed.append(found.url) if not found.ok else None)
            page.goto(f"http://127.0.0.1:{port}/projects/0")
            for name, label in (("category", "class 1 (class-00001)"), ("clustering", "k-means-2")):
                choice = f'select[name="{name}"]'
                until(page, f"document.querySelector('{choice}')?.options.length > 1")
                page.select_option(choice, label=label)
            until(page, "document.body.innerText.toLowerCase().includes('cluster 2 (50)')")
            page.get_by_text("Cluster 1").first.click()
            until(page, "document.images.length > 8")
            until(page, "[...document.images].every(each => each.naturalWidth)")
            page.screenshot(path=os.environ.get("SCREENSHOT", tmp_path / "virelay.png"))
            assert not failed
    finally:
        server.terminate()
        server.wait()
