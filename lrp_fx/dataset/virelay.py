"""A project for ViRelAy, the viewer for clusters of explanations: files in HDF5 as it opens them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from lrp_fx._common import check_count, needed, write_whole, writing
from lrp_fx.dataset.features import check_relevance, features, plane, thinned
from lrp_fx.dataset.images import Preprocess
from lrp_fx.dataset.opening import open_data
from lrp_fx.dataset.run import Run
from lrp_fx.dataset.sample import Stream
from lrp_fx.dataset.spray import cluster, eigengap, spectrum
from lrp_fx.errors import InputError, OptionError
from lrp_fx.visualize import as_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST = 8
"""A class with fewer explanations gets no analysis."""
NUMBERS = (2, 3, 4, 5)
"""The numbers of clusters that the viewer offers beside that of the eigengap."""
BLOCK = 64


def write_virelay(
    run: Run,
    folder: str | os.PathLike[str],
    data: object,
    *,
    preprocess: Preprocess | None = None,
    key: str | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    by: str = "target",
    name: str = "lrp_fx",
    model: str = "model",
    grid: int = 16,
    limit: int = 2000,
    seed: int = 0,
) -> Path:
    """Write explanations of images as a project that ``virelay folder/project.yaml`` opens.

    The files are ``input.h5`` (the images), ``attribution.h5``, ``analysis.h5`` (for each class,
    clusters as by :func:`spray` and embeddings), ``label-map.json``, and finally ``project.yaml``.

    Args:
        run: the explanations, of whole maps.
        folder: a new or empty folder.
        data: the data set that was explained.
        preprocess: as in :func:`attribute_dataset`.
        key: as in :func:`attribute_dataset`.
        mean: what ``preprocess`` subtracts from pixels in [0, 1].
        std: the numbers by which it then divides.
        by: the column that says the class of a sample.
        name: of the project and the data set.
        model: its name.
        grid: cells of a map along each dimension.
        limit: how many explanations of a class are analysed.
        seed: of k-means and t-SNE.

    Returns:
        The file of the project.

    Raises:
        InputError: if the data are not the images of the run.
        OptionError: for a run without maps, a folder that is not empty, or a missing package.
        RunError: if the files cannot be written.
    """
    check_relevance(run)
    for what, count in (("grid", grid), ("limit", limit)):
        check_count(what, count)
    shape = run.job.shapes.get("relevance", ())
    if run.job.keep != "maps" or len(shape) != 3 or shape[0] not in (1, 3):
        raise OptionError("ViRelAy shows maps (C, H, W) of images: use a run with keep='maps'")
    place = Path(os.fsdecode(folder))
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise OptionError(f"'{place}' must be a new or empty folder")
    source = open_data(data, preprocess=preprocess, key=key)
    if isinstance(source, Stream) or len(source) != len(run):
        raise InputError(f"the data must be those of the run, with {len(run)} samples")
    with needed("projects of ViRelAy need"):
        import h5py
    samples = run.explained(by=by)
    if not samples:
        raise InputError("the run has no explanation")
    classes = _classes(run, by)
    with writing(place):
        place.mkdir(parents=True, exist_ok=True)
        with h5py.File(place / "input.h5", "w") as file:
            _write_inputs(file, len(run), shape, classes, _pictures(source.read, mean, std))
        with h5py.File(place / "attribution.h5", "w") as file:
            _write_attributions(file, run, samples, classes)
        with h5py.File(place / "analysis.h5", "w") as file:
            _write_analysis(file, run, by, (grid, limit, seed))
    labels = [
        {"index": n, "word_net_id": _category(n), "name": _name(run, n)}
        for n in range(_count(run, classes))
    ]
    write_whole(place / "label-map.json", json.dumps(labels, indent=1).encode())
    project = {
        "name": name,
        "model": model,
        "label_map": "label-map.json",
        "dataset": {"name": name, "type": "hdf5", "path": "input.h5"},
        "attributions": {
            "attribution_method": "LRP (lrp_fx)",
            "attribution_strategy": "true_label" if by == "label" else "predicted_label",
            "sources": ["attribution.h5"],
        },
        "analyses": [{"analysis_method": "SpRAy", "sources": ["analysis.h5"]}],
    }
    path = place / "project.yaml"  # JSON is YAML
    write_whole(path, json.dumps({"project": project}, indent=1).encode())
    return path


def _pictures(
    read: Callable[[int], Any],
    mean: Sequence[float] | float | None,
    std: Sequence[float] | float | None,
) -> Callable[[int], NDArray[np.uint8] | None]:
    """The picture of a sample, (C, H, W); None for a broken one."""

    def picture(index: int) -> NDArray[np.uint8] | None:
        try:
            inputs: Tensor | None = read(index).inputs
        except Exception:  # whatever the user's code raises for a broken sample
            return None
        if inputs is None or inputs.dim() != 3:
            return None
        return np.moveaxis(as_pixels(inputs[None], mean, std), 2, 0)

    return picture


def _write_inputs(
    file: Any,
    count: int,
    shape: tuple[int, ...],
    classes: Sequence[int],
    picture: Callable[[int], NDArray[np.uint8] | None],
) -> None:
    """The images as 8-bit RGB, whose range the viewer need not guess."""
    size = (3, *shape[1:])
    data = file.create_dataset(
        "data", (count, *size), "uint8", chunks=(1, *size), compression="gzip"
    )
    for n in range(count):
        found = picture(n)
        if found is not None and found.shape == size:
            data[n] = found
    file["label"] = np.asarray(classes, dtype=np.uint16)


def _write_attributions(
    file: Any, run: Run, samples: Sequence[int], classes: Sequence[int]
) -> None:
    shape = run.job.shapes["relevance"]
    data = file.create_dataset(
        "attribution", (len(samples), *shape), "float32", chunks=(1, *shape), compression="gzip"
    )
    for start, chunk in zip(range(0, len(samples), BLOCK), run.chunks(samples, BLOCK), strict=True):
        data[start : start + len(chunk)] = chunk
    chosen = run.indices("prediction")
    prediction = np.zeros((len(samples), _count(run, classes)), dtype=np.float32)
    for row, n in enumerate(samples):
        prediction[row, chosen[n] or 0] = 1
    file["prediction"] = prediction
    file["label"] = np.asarray([classes[n] for n in samples], dtype=np.uint16)
    file["index"] = np.asarray(samples, dtype=np.uint32)


def _write_analysis(file: Any, run: Run, by: str, settings: tuple[int, int, int]) -> None:
    grid, limit, seed = settings
    for each in run.classes(by):
        samples = thinned(run.explained(each, by), limit)
        if len(samples) < LEAST:
            continue
        points = features(run, samples, grid)
        values, vectors = spectrum(points, min(10, len(samples) - 1), LEAST - 1)
        group = file.create_group(_category(each))
        group["index"] = np.asarray(samples, dtype=np.uint32)
        group["cluster/eigengap"] = cluster(vectors, eigengap(values), seed)
        for number in NUMBERS:
            group[f"cluster/k-means-{number}"] = cluster(vectors, number, seed)
        group["embedding/spectral"] = vectors.astype(np.float32)
        group["embedding/spectral"].attrs["eigenvalue"] = values
        group["embedding/t-sne"] = plane(points, "tsne", seed).astype(np.float32)
    if not len(file):
        raise InputError(f"no class has {LEAST} explanations, so there is nothing to analyse")


def _classes(run: Run, by: str) -> list[int]:
    """The class of each sample; 0 for those without one, which are not shown."""
    return [each or 0 for each in run.indices(by)]


def _count(run: Run, classes: Sequence[int]) -> int:
    seen = [each for each in run.indices("prediction") if each is not None]
    return max(len(run.names), max([*classes, *seen], default=0) + 1)


def _category(index: int) -> str:
    return f"class-{index:05}"


def _name(run: Run, index: int) -> str:
    return run.names[index] if index < len(run.names) else f"class {index}"
