"""Compares the steps that afmq_train makes under torchrun with those of `afmq recover` itself.

    .venv/bin/python scripts/train_parity.py
    .venv/bin/python scripts/train_parity.py --artifact ARTIFACT --teacher MODEL --data FILE

Both start from the same adapter and read the same sequences. Without arguments they train on the
embedded model, which `afmq demo` writes. The losses of all steps must agree within 1e-3, and the
divergence on the test text at the end within 2 %. The first runs are of one and of two processes
(gloo), the last of two processes that divide the models (fully_shard).
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOSSES, DIVERGENCES = 1e-3, 0.02  # largest relative differences
RUNS = {
    "1 process": ["--nproc-per-node", "1"],
    "2 processes": ["--nproc-per-node", "2"],
    "2 processes, fsdp": ["--nproc-per-node", "2", "--fsdp", "--packed"],
}


def recover(tool, args, out, *more):
    """Runs recover and returns its record and its losses by step."""
    command = [tool, "recover", args.artifact, "--teacher", args.teacher, "--data", args.data, "--out", out, "--rank", args.rank]
    command += ["--tokens", args.steps * args.batch, "--batch-tokens", args.batch, "--seq-len", args.seq_len, "--compute", args.compute]
    command += [*more, "--json", "--quiet"]
    environment = os.environ | {"AFMQ_PYTHON": os.environ.get("AFMQ_PYTHON", sys.executable)}
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, env=environment)
    record = json.loads(done.stdout)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {record}")
    with open(pathlib.Path(out, "metrics.jsonl")) as file:
        metrics = [json.loads(line) for line in file]
    return record, {m["step"]: m["loss"] for m in metrics if "loss" in m}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact")
    parser.add_argument("--teacher")
    parser.add_argument("--data")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--batch", type=int, default=384, help="tokens a step; two processes share three sequences unevenly")
    parser.add_argument("--compute", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--tool", type=pathlib.Path, help="a built afmq, for machines without Go")
    args = parser.parse_args()
    bad = False
    with tempfile.TemporaryDirectory() as temp:
        tool = args.tool or pathlib.Path(temp, "afmq")
        if not args.tool:
            subprocess.run(["go", "build", "-o", tool, "./cmd/afmq"], cwd=ROOT, check=True)
        if not args.artifact:
            subprocess.run([tool, "demo", "--out", f"{temp}/demo", "--quiet"], check=True, stdout=subprocess.DEVNULL)
            args.artifact, args.teacher, args.data = f"{temp}/demo/afm-tiny-2bit", f"{temp}/demo/afm-tiny", f"{temp}/demo/train.jsonl"
        want, losses = recover(tool, args, f"{temp}/afmq")
        test = want["adapters"][0]["test"]
        print(f"afmq: divergence {test['kl_before']:.6f} without the adapter, {test['kl_after']:.6f} with it", flush=True)
        for n, (name, flags) in enumerate(RUNS.items()):
            got, others = recover(tool, args, f"{temp}/{n}", "--launcher", "torchrun", *flags)
            difference = max(abs(others[step] - loss) / loss for step, loss in losses.items())
            reached = got["adapters"][0]["test"]["kl_after"]
            off = reached / test["kl_after"] - 1
            well = others.keys() == losses.keys() and difference <= LOSSES and abs(off) <= DIVERGENCES
            bad |= not well
            print(f"{name}: losses of {len(others)} steps differ by up to {difference:.1e}, divergence {reached:.6f} ({off:+.3%}){'' if well else ': TOO FAR'}", flush=True)
    sys.exit(bad)


if __name__ == "__main__":
    main()
