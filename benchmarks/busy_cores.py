"""One image beside other work on the same cores, with latentdiff's waiting of threads and with torch's.

``python -m benchmarks.busy_cores`` draws single images on all cores, alone and while another process computes on them.
Each is done in turn with ``GOMP_SPINCOUNT`` as latentdiff sets it and as torch's OpenMP has it. It prints the seconds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

OTHER_WORK = """
import torch
from latentdiff.benchmark.networks import NUM_CLASSES
from latentdiff.config import NetworkConfig
from latentdiff.models.network import build_network
network = build_network(2, NUM_CLASSES, NetworkConfig())
x, time, labels = torch.randn(128, 2, 7, 7), torch.zeros(128), torch.zeros(128, dtype=torch.int64)
print("started", flush=True)
while True:
    network(x, time, labels).sum().backward()
"""
ONE_IMAGE = """
import sys, time
if sys.argv[1] == "torch":
    import torch  # its OpenMP reads the environment now, before latentdiff sets it
from latentdiff import load
model = load("checkpoints/fashion-mnist/latent.safetensors", engine="torch")
start = time.perf_counter()
model.sample(1)
print(time.perf_counter() - start)
"""


def seconds(whose: str) -> float:
    """Seconds for one image in a new process."""
    own = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", ONE_IMAGE, whose]
    return float(subprocess.run(command, env=own, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    """Measure, and print a line for each way of waiting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    alone = [(seconds("latentdiff"), seconds("torch")) for _ in range(turns)]
    with subprocess.Popen([sys.executable, "-c", OTHER_WORK], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            beside = [(seconds("latentdiff"), seconds("torch")) for _ in range(turns)]
        finally:
            other.kill()
    for where, found in (("alone on the cores", alone), ("beside other work", beside)):
        for name, values in zip(("latentdiff's waiting", "torch's waiting"), zip(*found, strict=True), strict=True):
            each = ", ".join(f"{value:.2f}" for value in values)
            print(f"{where}, {name}: median {statistics.median(values):.2f} s, {each}")


if __name__ == "__main__":
    main()
