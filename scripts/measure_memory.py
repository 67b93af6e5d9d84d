"""Measures the peak memory of `afmq quantize --bpw 3.5 --calib` under a limit.

    .venv/bin/python scripts/measure_memory.py [--work DIR] [--afmq FILE] [SHAPE=LIMIT ...]

For each shape of make_synthetic_checkpoint.py (default: 3b=4GB 8b=8GB) it makes the checkpoint in DIR
if it is not there, and quantizes it with 2,048 tokens of the built-in text, as a process whose control
group has the limit, file cache included (Linux, as root; version 1 or 2). It prints the largest
resident memory, which counts mapped pages of files, and the largest usage of the group. SHAPE:LAYERS
takes a part of the layers: the memory for a layer is the same, that of the hidden states less.

On two cores, 3b takes about 2 hours, 8b about 10; 8b needs 16 GB of disk space and as much for cache.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
HERE = pathlib.Path(__file__).resolve().parent


def size(text):
    for unit, n in UNITS.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * n)
    return int(text)


class Group:
    """A control group with a memory limit."""

    def __init__(self, name, limit):
        root = pathlib.Path("/sys/fs/cgroup")
        v2 = (root / "cgroup.controllers").exists()
        self.path = (root if v2 else root / "memory") / name
        self.peak_file = "memory.peak" if v2 else "memory.max_usage_in_bytes"
        self.path.mkdir(exist_ok=True)
        (self.path / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(limit))

    def join(self):
        (self.path / "cgroup.procs").write_text("0")

    def peak(self):
        return int((self.path / self.peak_file).read_text())

    def remove(self):
        for _ in range(50):
            try:
                return self.path.rmdir()
            except OSError:  # its last process is still ending
                time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=["3b=4GB", "8b=8GB"], metavar="SHAPE=LIMIT")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("memory-work"))
    parser.add_argument("--afmq", default="afmq")
    parser.add_argument("--quantize", default="--bpw 3.5", help="flags of quantize beside the text (default: --bpw 3.5)")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    failed = False
    for item in args.shapes:
        shape, limit = item.split("=")
        name, _, layers = shape.partition(":")
        model, out = args.work / shape.replace(":", "-"), args.work / (shape.replace(":", "-") + "-out")
        if not model.exists():
            command = [sys.executable, HERE / "make_synthetic_checkpoint.py", model, "--shape", name]
            subprocess.run(command + (["--layers", layers] if layers else []), check=True)
        group = Group("afmq-measure-memory", size(limit))
        began = time.time()
        run = subprocess.run(
            [args.afmq, "quantize", model, "--out", out, "--calib", "builtin", "--tokens", "2048", "--json", *args.quantize.split()],
            stdout=subprocess.PIPE, preexec_fn=group.join,
        )
        used = group.peak()
        group.remove()
        if run.returncode:
            failed = True
            print(f"{item}: exit code {run.returncode} after {time.time() - began:.0f} s; the group used {used / 1e9:.2f} GB")
            continue
        result = json.loads(run.stdout)
        print(
            f"{item}: peak resident {result['peak_rss_bytes'] / 1e9:.2f} GB, group with file cache {used / 1e9:.2f} GB, "
            f"{result['seconds']:.0f} s, {result['bpw']['projections']:.3f} bits per weight"
        )
        failed |= result["peak_rss_bytes"] > size(limit)
    return failed


if __name__ == "__main__":
    sys.exit(main())
