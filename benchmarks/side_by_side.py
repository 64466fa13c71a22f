"""How fast this checkout is beside another one, call by call.

    git worktree add ../before v0.1.0
    python benchmarks/side_by_side.py ../before

Two processes each hold the same network; calls of ``attribute`` alternate between them, so that both
see the same machine. Printed are the median time of each and the median of the ratios of neighbours.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

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
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before", type=Path, help="the root of the other checkout")
    parser.add_argument("--models", nargs="+", default=["vgg16", "resnet50"])
    parser.add_argument("--composites", nargs="+", default=["epsilon", "epsilon_plus"])
    parser.add_argument("--batch", default="1")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--calls", type=int, default=40)
    options = parser.parse_args()
    for model in options.models:
        for composite in options.composites:
            arguments = (model, composite, options.batch, options.threads)
            both = [worker(root.resolve(), *arguments) for root in (options.before, HERE)]
            before, after = [], []
            for call in range(options.calls):
                order = both if call % 2 else both[::-1]
                times = {process.pid: seconds(process) for process in order}
                before.append(times[both[0].pid])
                after.append(times[both[1].pid])
            for process in both:
                process.kill()
                process.wait()
            ratio = statistics.median(b / a for a, b in zip(before, after, strict=True))
            print(
                f"{model} {composite}: before {statistics.median(before) * 1e3:.1f} ms, "
                f"after {statistics.median(after) * 1e3:.1f} ms, ratio {ratio:.3f}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
