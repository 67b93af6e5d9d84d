"""Compares the speed of afmq_train with PyTorch and PEFT doing the same work in the same process.

    .venv/bin/python scripts/bench_train.py ARTIFACT --teacher MODEL --data FILE

Both train an adapter on all projections with AdamW and KL to the 16-bit teacher, with as many
sequences in a step and in a forward pass. PEFT adapts the dequantized checkpoint of ARTIFACT as
transformers loads it; afmq_train reads the artifact. One step of each alternates for --steps
steps, and the median of the ratios of their times is printed.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from bench_recover import ROOT, Torch

sys.path.insert(0, str(ROOT / "scripts"))
from afmq_train.errors import Reporter  # noqa: E402
from afmq_train.processes import Processes, Stop  # noqa: E402
from afmq_train.train import Trainer  # noqa: E402


def prepare(args, tool, out):
    """Has afmq write a job, and returns its trainer."""
    command = [tool, "recover", args.artifact, "--teacher", args.teacher, "--data", args.data, "--out", out, "--rank", args.rank]
    command += ["--tokens", 1000 * args.batch, "--seq-len", args.seq_len, "--batch-tokens", args.batch, "--init", "zero"]
    command += ["--compute", args.compute, "--launcher", "job", "--micro-batch", args.part, "--json", "--quiet"]
    command += ["--packed"] * args.packed + ["--torch-compile"] * args.compile
    path = json.loads(subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, check=True, text=True).stdout)["job"]
    with open(path) as file:
        trainer = Trainer(json.load(file), os.path.dirname(path), Processes(), Reporter(True))
    trainer.reported = float("inf")  # no reports
    for s in trainer.students:
        s.refresh()
    return trainer


def timed(step):
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1024, help="tokens a step")
    parser.add_argument("--part", type=int, default=4, help="sequences in a forward pass")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--compute", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--packed", action="store_true", help="keep palettes packed")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--tool", type=pathlib.Path, help="a built afmq, for machines without Go")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temp:
        tool = args.tool or pathlib.Path(temp, "afmq")
        if not args.tool:
            subprocess.run(["go", "build", "-o", tool, "./cmd/afmq"], cwd=ROOT, check=True)
        subprocess.run([tool, "dequantize", args.artifact, "--out", f"{temp}/plain", "--quiet"], check=True, stdout=subprocess.DEVNULL)
        ours, theirs = prepare(args, tool, f"{temp}/out"), Torch(args, f"{temp}/plain")
        stop = Stop(watch=False)
        for step in (lambda: ours.step(stop), theirs.step):
            step()
            step()
        times = [(timed(lambda: ours.step(stop)), timed(theirs.step)) for _ in range(args.steps)]
    ratio = statistics.median(b / a for a, b in times)
    a, b = (args.batch / statistics.median(t) for t in zip(*times, strict=True))
    print(f"afmq_train {a:.0f} tokens/s, PyTorch and PEFT {b:.0f}, median ratio {ratio:.2f}")
    print(f"{args.threads} threads, rank {args.rank}, {args.seq_len} tokens a sequence, {args.batch} a step, {args.compute}, {ours.processes.name}")


if __name__ == "__main__":
    main()
