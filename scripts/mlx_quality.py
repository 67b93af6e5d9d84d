#!/usr/bin/env python3
"""Compares mlx-lm's quantizations of a model with `afmq quantize --grid affine`, in MLX.

    .venv/bin/python scripts/mlx_quality.py MODEL --calib FILE.jsonl --data FILE [--bytes 82000] [--ctx 256]
        [--methods 3bit,...] [--add NAME=DIR]... [--work DIR] [--update PAGE]

The methods of mlx-lm, with groups of 64 and their own defaults:

- 3bit, 4bit: `mlx_lm.convert -q`, which rounds every matrix, embedding and head included;
- dynamic-3-4, dynamic-4-5: `mlx_lm.dynamic_quant`, halfway between two widths by sensitivity;
- dwq-3bit, dwq-4bit: `mlx_lm.dwq`, which trains scales and biases by distillation.

The last two read part of the documents of --calib instead of text that mlx-lm downloads. afmq quantizes
MODEL with --calib to at most as many bytes (--max-bytes) as the file of weights of each method, and
exports it; 3bit and 4bit are also met with equal widths. --add measures further directories that mlx-lm
loads.

MLX computes the mean KL divergence from the 16-bit model in float32, over windows of --ctx tokens of
the first --bytes of the text. The training of dynamic_quant and dwq is in float32 too, in which it is
faster on a CPU. --update writes the table between the markers of the model in a page.

Needs scripts/setup-python mlx, and Go. The models are kept in --work DIR for the next run.
"""

import argparse
import copy
import json
import pathlib
import shutil
import tempfile

import mlx.core as mx
import mlx.optimizers
import numpy as np
from mlx_lm.quant import dwq, dynamic_quant
from mlx_lm.utils import dequantize_model, load, load_model, quantize_model, save_config, save_model

from bench import ROOT, call

GROUP = 64
METHODS = ["3bit", "4bit", "dynamic-3-4", "dynamic-4-5", "dwq-3bit", "dwq-4bit"]
TOKENS = 65536  # of the calibration text that each method reads; more takes hours on a CPU
LENGTH = 257  # of a sequence of dwq
SEED = 123  # the default of dynamic_quant and dwq
RATE = 1e-6  # of learning: the default of dwq


def product(x, w, scales, biases=None, transpose=True, group_size=None, bits=None, mode="affine"):
    """mx.quantized_matmul by way of mx.dequantize, much faster on a CPU for many rows of x."""
    w = mx.dequantize(w, scales, biases, group_size, bits, mode)
    return x @ (w.T if transpose else w)


def rounded(source, out, bits, predicate=None):
    """Writes the model with matrices of so many bits."""
    model, _, config = load(source, return_config=True)
    store(out, *quantize_model(model, config, GROUP, bits, quant_predicate=predicate))


def store(out, model, config):
    save_model(out, model)
    save_config(config, out / "config.json")


def dynamic(source, out, low, high, texts):
    """dynamic_quant.main with the given texts, halfway between the widths. Gradients are float32."""
    model, tokenizer, config = load(source, return_config=True)
    wide = full(source)
    mx.random.seed(SEED)
    ids = mx.array([i for t in texts for i in tokenizer.encode(t)])
    data = ids[: ids.size // 512 * 512].reshape(-1, 512)
    data = data[mx.random.permutation(data.shape[0])[: TOKENS // 512]]
    widths = (low, GROUP, high, GROUP)
    scores = dict(dynamic_quant.estimate_sensitivities(wide, data, *widths))
    target = (low + high) / 2 + 32 / GROUP
    threshold = dynamic_quant.estimate_threshold(model, scores, target, *widths)

    def predicate(path, module):
        if not hasattr(module, "to_quantized"):
            return False
        return {"bits": high, "group_size": GROUP} if scores[path] > threshold else True

    store(out, *quantize_model(model, config, GROUP, low, quant_predicate=predicate))


def distilled(source, out, bits, texts):
    """dwq.main with the given texts, of which the last 32 validate, in float32 until the end."""
    model, tokenizer, config = load(source, return_config=True)
    kept = model.model.norm.weight.dtype
    np.random.seed(SEED)
    mx.random.seed(SEED)
    student, config = quantize_model(copy.deepcopy(model), config, GROUP, bits)
    model.set_dtype(mx.float32)
    student.set_dtype(mx.float32)
    ids = [i for t in texts for i in tokenizer.encode(t)]
    pieces = [ids[i : i + LENGTH] for i in range(0, len(ids) - LENGTH, LENGTH)]
    samples = [(pieces[i], 0) for i in np.random.permutation(len(pieces))[: TOKENS // LENGTH + 32]]
    mx.quantized_matmul = product
    dwq.dwq_quantize(
        student, lambda batch, i, split: model(batch), mlx.optimizers.Adam(learning_rate=RATE, bias_correction=True),
        samples[:-32], samples[-32:], batch_size=4, max_seq_length=LENGTH, seed=SEED, dtype=mx.float32,
    )
    student.set_dtype(kept)
    store(out, student, config)


def full(directory):
    """The model in float32, with the weights of the file, which mx.dequantize computes."""
    model, _ = load_model(directory)
    model.set_dtype(mx.float32)
    return dequantize_model(model)


def log_probabilities(model, window):
    x = np.array(model(mx.array([window]))[0], dtype=np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


class Judge:
    """Measures the mean KL divergence from a model on a text."""

    def __init__(self, source, text, ctx):
        _, tokenizer = load(source)
        ids = tokenizer.encode(text)
        self.windows = [ids[i : i + ctx] for i in range(0, len(ids) - 1, ctx)]
        self.reference = full(source)

    def __call__(self, directory):
        model, total, scored = full(directory), 0.0, 0
        for window in self.windows:
            p, q = (log_probabilities(m, window)[:-1] for m in (self.reference, model))
            total += (np.exp(p) * (p - q)).sum()
            scored += len(window) - 1
        return total / scored


def size(directory):
    return sum(f.stat().st_size for f in directory.glob("*.safetensors"))


def theirs(method, source, work, texts, judge):
    """Returns the directory of a method of mlx-lm and its divergence."""
    kind, _, rest = method.partition("-")
    out = work / method
    if not (out / "config.json").exists():
        shutil.rmtree(out, ignore_errors=True)
        if kind == "dynamic":
            dynamic(source, out, *map(int, rest.split("-")), texts)
        elif kind == "dwq":
            distilled(source, out, int(rest[0]), texts)
        else:
            rounded(source, out, int(kind[0]))
    return out, judge(out)


def ours(afmq, source, out, calib, *flags):
    """Returns the MLX directory of an artifact."""
    artifact = out.with_suffix(".artifact")
    if (out / "config.json").exists():
        return out
    shutil.rmtree(artifact, ignore_errors=True)
    call(afmq, "quantize", source, "--grid", "affine", "--calib", calib, *flags, "--out", artifact, "--quiet", log=True)
    call(afmq, "export", artifact, "--to", "mlx", "--out", out, "--quiet", log=True)
    return out


def table(args, work):
    """Returns the lines of the table."""
    source, calib = args.model.resolve(), args.calib.resolve()
    texts = [json.loads(line)["text"] for line in calib.read_text().splitlines()]
    judge = Judge(source, args.data.read_bytes()[: args.bytes].decode("utf-8", "ignore"), args.ctx)
    afmq = work / "afmq"
    call("go", "build", "-o", afmq, "./cmd/afmq", cwd=ROOT)
    lines = ["| mlx-lm | bytes | mean KL | afmq | bytes | mean KL | ratio |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for method in filter(None, args.methods.split(",")):
        directory, kl = theirs(method, source, work, texts, judge)
        row = f"| {method} | {size(directory):,} | {kl:.6f} "
        jobs = [("mixed widths", ["--max-bytes", size(directory)])]
        if method[1:] == "bit":
            jobs.insert(0, ("equal widths", ["--bits", method[0], "--override", f"embed_tokens={method[0]}"]))
        for name, flags in jobs:
            own = ours(afmq, source, work / f"{method}-afmq-{name.split()[0]}", calib, *flags)
            mine = judge(own)
            lines.append(row + f"| {name} | {size(own):,} | {mine:.6f} | {mine / kl:.2f} |")
            print(lines[-1], flush=True)
    for item in args.add:
        name, directory = item.split("=", 1)
        lines.append(f"| {name} | {size(pathlib.Path(directory)):,} | {judge(pathlib.Path(directory)):.6f} | | | | |")
    return lines


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("--calib", type=pathlib.Path, required=True)
    p.add_argument("--data", type=pathlib.Path, required=True)
    p.add_argument("--bytes", type=int, default=82000)
    p.add_argument("--ctx", type=int, default=256)
    p.add_argument("--methods", default=",".join(METHODS))
    p.add_argument("--add", action="append", default=[], metavar="NAME=DIR")
    p.add_argument("--work", type=pathlib.Path)
    p.add_argument("--update", type=pathlib.Path)
    args = p.parse_args()
    begin, end = f"<!-- begin table of {args.model.resolve().name}: made by scripts/mlx_quality.py -->", "<!-- end table -->"
    page = args.update.read_text() if args.update else ""
    if args.update and (begin not in page or end not in page):
        p.error(f"{args.update} has no table of this script for the model")
    work = (args.work or pathlib.Path(tempfile.mkdtemp())).resolve()
    work.mkdir(exist_ok=True, parents=True)
    lines = table(args, work)
    print("\n".join(lines))
    if args.update:
        head, rest = args.update.read_text().split(begin, 1)  # other tables may be new by now
        args.update.write_text(head + begin + "\n" + "\n".join(lines) + "\n" + end + rest.split(end, 1)[1])


if __name__ == "__main__":
    main()
