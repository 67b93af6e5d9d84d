"""Time, memory and cost of large jobs, on paper: from measured parts.

    .venv/bin/python scripts/scale.py [--work DIR] [--afmq FILE] [--threads N] [--repeat N] [--price DOLLARS]

For the shapes 1b, 3b, 8b and 70b of make_synthetic_checkpoint.py it makes checkpoints of one and of two
layers and asks `afmq stats` and `afmq quantize` with --dry-run what they take. Their stages are linear in the
number of layers, so the difference of the two is that of a layer. It prints

- the hours of each step for the whole model on this machine, with 16,384 tokens of text, and how they
  compare with what the shapes 1b and 3b alone predict by the number of multiplications;
- the disk space of the statistics;
- the time and cost of recovery on GPUs: 6 operations for each weight and token (the teacher's forward
  pass, the student's, and the gradients of its activations; the weights of the base have none), at the
  share of the peak of a GPU that is given. That share is an assumption: nothing here was run on one.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

from make_synthetic_checkpoint import SHAPES, VOCAB

HERE = pathlib.Path(__file__).resolve().parent
TOKENS = 16384
SHAPES_SHOWN = ["1b", "3b", "8b", "70b"]


def shape(name):
    return {"vocab": VOCAB, "tied": True} | SHAPES[name]


def matrices(s):
    """Rows and columns of the projections of a layer, and whether each is the first with its input."""
    d, q, kv, f = s["hidden"], s["heads"] * s["head"], s["kv"] * s["head"], s["ffn"]
    return [(q, d, True), (kv, d, False), (kv, d, False), (d, q, True), (f, d, True), (f, d, False), (d, f, True)]


def work(s, step):
    """Multiplications of a layer, as the progress of afmq counts them."""
    total = 0
    for rows, cols, first in matrices(s):
        weights = rows * cols
        if step == "stats":
            total += TOKENS * 5 * weights + (TOKENS * cols * cols / 2 if first else 0)
        else:
            total += 48 * weights * cols + 2 * TOKENS * weights
            if first:
                total += 1.5 * cols**3 + 1.5 * TOKENS * cols * cols
    return total


def statistics(s):
    """Bytes of the statistics: triangles of the inputs' second moments and of those of the gradients at
    the outputs, but for gate and up with many."""
    layer = 0
    for rows, cols, first in matrices(s):
        layer += 2 * cols * (cols + 1) if first else 0
        layer += 2 * rows * (rows + 1) if rows != s["ffn"] or rows <= 2048 else 4 * rows
    return s["layers"] * layer


def predict(args, name, layers, command):
    model = args.work / f"{name}-{layers}"
    if not model.exists():
        subprocess.run([sys.executable, HERE / "make_synthetic_checkpoint.py", model, "--shape", name, "--layers", str(layers)], check=True, stdout=subprocess.DEVNULL)
    command = [args.afmq, *command, model, "--out", args.work / "out", "--dry-run", "--json", "--quiet", "--memory", "1000GB", "--threads", str(args.threads)]
    runs = [subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout for _ in range(args.repeat)]
    return min(json.loads(run)["seconds"] for run in runs)


def remove(args, name):
    """Removes the checkpoints of a shape: those of 70b take 14 GB."""
    for n in (1, 2):
        shutil.rmtree(args.work / f"{name}-{n}", ignore_errors=True)


def steps(args):
    text = ["--calib", "builtin", "--tokens", str(TOKENS)]
    commands = {"stats": ["stats", *text], "quantize": ["quantize", "--bits", "4", *text]}
    print(f"Hours on this machine with {args.threads} threads, {TOKENS:,} tokens:\n")
    print("| shape | `stats` | of the prediction by 1b and 3b | `quantize --bits 4 --calib` | of the prediction | statistics |")
    print("| --- | --- | --- | --- | --- | --- |")
    rate = {}
    for name in args.shapes.split(","):
        s = shape(name)
        row = [name]
        for step, command in commands.items():
            one, two = (predict(args, name, n, command) for n in (1, 2))
            seconds = one + (s["layers"] - 1) * (two - one)
            per = (two - one) / work(s, step)
            rate.setdefault(step, []).append(per)
            known = sum(rate[step][:2]) / len(rate[step][:2])
            row += [f"{seconds / 3600:.2f}", f"{per / known:.2f}" if len(rate[step]) > 2 else ""]
        disk = statistics(s)
        print("| " + " | ".join([*row, f"{disk / 1e9:.0f} GB"]) + " |", flush=True)
        remove(args, name)


def recovery(args):
    print(f"\nRecovery on 10 B tokens, at {args.share:.0%} of {args.peak:g} TFLOP/s a GPU and {args.price:g} dollars a GPU hour:\n")
    print("| shape | FLOP | GPU hours | days on 8 | dollars |")
    print("| --- | --- | --- | --- | --- |")
    for name in SHAPES_SHOWN[1:]:
        s = shape(name)
        weights = s["layers"] * sum(rows * cols for rows, cols, _ in matrices(s)) + s["vocab"] * s["hidden"]
        flop = 6 * weights * 1e10
        hours = flop / (args.peak * 1e12 * args.share) / 3600
        print(f"| {name} | {flop:.1e} | {hours:,.0f} | {hours / 8 / 24:.1f} | {hours * args.price:,.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("scale-work"))
    parser.add_argument("--afmq", default="afmq")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=2, help="measurements of each, of which the fastest counts (default 2): whatever else runs makes them slower")
    parser.add_argument("--shapes", default=",".join(SHAPES_SHOWN), help="shapes in the table of hours; the first two predict the others (default %(default)s)")
    parser.add_argument("--peak", type=float, default=989, help="TFLOP/s of a GPU in bf16 (default 989, an H100 SXM without sparsity by its data sheet)")
    parser.add_argument("--share", type=float, default=0.4, help="share of the peak that training reaches (default 0.4)")
    parser.add_argument("--price", type=float, default=3, help="dollars for a GPU hour (default 3, to be replaced by yours)")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    steps(args)
    recovery(args)


if __name__ == "__main__":
    main()
