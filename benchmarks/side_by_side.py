"""How fast this checkout is beside another one, call by call.

    git worktree add ../before v0.1.0
    python benchmarks/side_by_side.py ../before

Two processes each hold the same network. Calls of ``attribute`` alternate between them, so that both
see the same machine. The median time of each is printed, and the median of the ratios of neighbours.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from harness.timing import interleaved, quartiles, ratios

HERE = Path(__file__).resolve().parent.parent
WORKER = """
import sys, time, torch, torchvision
from lrp_fx import LRPFx
name, composite, batch, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
torch.manual_seed(0)
model = getattr(torchvision.models, name)(weights=None).eval()
x = torch.randn(batch, 3, 224, 224)
lrp = LRPFx(model, composite)
for _ in range(3):
    lrp.attribute(x, 1)
print("ready", flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    lrp.attribute(x, 1)
    print(time.perf_counter() - began, flush=True)
"""


def worker(root: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": arguments[-1]}
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=root,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def seconds(process: subprocess.Popen[str]) -> float:
    """One call, timed by the process that runs it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("before", type=Path, help="the root of the other checkout")
    parser.add_argument("--models", nargs="+", default=["vgg16", "resnet50"])
    parser.add_argument("--composites", nargs="+", default=["epsilon", "epsilon_plus"])
    parser.add_argument("--batch", default="1")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--calls", type=int, default=40)
    options = parser.parse_args()
    roots = {"before": options.before.resolve(), "after": HERE}
    for model in options.models:
        for composite in options.composites:
            arguments = (model, composite, options.batch, options.threads)
            workers = {name: worker(root, *arguments) for name, root in roots.items()}
            calls = {name: partial(seconds, process) for name, process in workers.items()}
            times = interleaved(calls, options.calls, block=0, measure=lambda call, _: call())
            for process in workers.values():
                process.kill()
                process.wait()
            shown = (f"{name} {1e3 * quartiles(t).median:.1f} ms" for name, t in times.items())
            ratio = ratios(times["before"], times["after"]).median
            print(f"{model} {composite}: {', '.join(shown)}, ratio {ratio:.3f}", flush=True)


if __name__ == "__main__":
    main()
