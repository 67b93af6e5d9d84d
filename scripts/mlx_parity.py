#!/usr/bin/env python3
"""Checks the directories of `afmq export --to mlx` in MLX and mlx-lm.

    .venv/bin/python scripts/mlx_parity.py ARTIFACT --data FILE [--bytes 20000] [--ctx 256] [--adapter NAME=DIR]
    .venv/bin/python scripts/mlx_parity.py --families
    .venv/bin/python scripts/mlx_parity.py --packing

The first form exports ARTIFACT, loads it with mlx_lm.load, and compares

- every matrix that mx.dequantize computes, with scales in float32, with the artifact's codes
  dequantized in numpy, bit by bit;
- the token ids of mlx-lm's tokenizer with those of afmq;
- the logits in float32 arithmetic with those of afmq's engine: the largest difference must be at most
  0.01. It also prints how far the logits are in the types of the file, as mlx-lm runs it;
- the same with an adapter, loaded by mlx_lm.load(adapter_path=...).

The second form quantizes and exports the checkpoints of pkg/infer/testdata/models with a random
adapter, and prints what afmq refuses. The third compares mx.quantize's codes, for all bits and group
sizes, with a bit stream from the least significant bit on.

Needs scripts/setup-python mlx, and Go. LD_PRELOAD=libopenblas.so.0 replaces the slow BLAS in MLX's
wheel for Linux.
"""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile

import mlx.core as mx
import mlx_lm
import numpy as np

from parity_tools import TOKENIZER, Tools, checkpoints, random_adapter, shapes

LIMIT = 0.01  # of the difference of two logits

def stream(codes, bits, columns):
    """Unpacks rows of a little-endian bit stream, to uint8 [rows, columns]."""
    rows = np.ascontiguousarray(codes).view(np.uint8).reshape(codes.shape[0], -1)
    x = np.unpackbits(rows, axis=1, bitorder="little")[:, : bits * columns].reshape(len(rows), columns, bits)
    return (x << np.arange(bits, dtype=np.uint8)).sum(-1, dtype=np.uint8)


def check_weights(artifact, model):
    """Compares the matrices that MLX dequantizes with the artifact's."""
    stored, count = mx.load(str(artifact)), 0
    for name, module in model.named_modules():
        if not hasattr(module, "bits"):
            continue
        codes = np.array(stored[f"{name}.weight.affine{module.bits}_g{module.group_size}"])
        scales, biases = (stored[f"{name}.weight.{k}"].astype(mx.float32) for k in ("scales", "biases"))
        n = scales.shape[1] * module.group_size
        want = stream(codes, module.bits, n).astype(np.float32) * np.repeat(np.array(scales), module.group_size, 1) + np.repeat(np.array(biases), module.group_size, 1)
        s, b = (module[k].astype(mx.float32) for k in ("scales", "biases"))
        got = np.array(mx.dequantize(module.weight, s, b, group_size=module.group_size, bits=module.bits))
        if not np.array_equal(got, want):
            sys.exit(f"{name}: MLX dequantizes to other values, by up to {np.abs(got - want).max()}")
        count += 1
    return count


def windows(model, ids, ctx):
    return np.concatenate([np.array(model(mx.array([ids[i : i + ctx]]))[0].astype(mx.float32)) for i in range(0, len(ids), ctx)])


def compare(label, model, ids, want, ctx):
    """Compares logits in float32, and in the types of the file."""
    own = np.abs(windows(model, ids, ctx) - want).max()
    model.set_dtype(mx.float32)
    worst = np.abs(windows(model, ids, ctx) - want).max()
    print(f"{label}: {len(ids)} tokens, logits within {worst:.1e} in float32 (of {np.abs(want).max():.1f}), {own:.1e} as loaded")
    if not worst <= LIMIT:
        sys.exit("the logits differ")


def check_artifact(tools, artifact, data, size, ctx, adapters, label):
    out = tools.temp / "mlx"
    shutil.rmtree(out, ignore_errors=True)
    named = [a.split("=", 1) for a in adapters]
    code, r = tools.run("export", artifact, "--to", "mlx", "--out", out, "--allow-unbound", *(x for a in adapters for x in ("--adapter", a)))
    if code:
        return r["error"]["message"].split(": ", 1)[-1]
    model, tokenizer = mlx_lm.load(str(out))
    count = check_weights(artifact / "model.safetensors", model)
    ids, want = tools.logits(artifact, data, size, ctx)
    text = data.read_bytes()[:size].decode("utf-8", "ignore")
    if tokenizer.encode(text) != ids:
        sys.exit(f"{label}: mlx-lm's tokenizer gives other ids")
    print(f"{label}: {count} matrices dequantized alike, the same {len(ids)} ids; {r['bits']} bits in groups of {r['group_size']}, {r['type']}, {r['kept']} kept; notes {r['notes']}")
    compare(label, model, ids, want, ctx)
    for name, directory in named:
        model, _ = mlx_lm.load(str(out), adapter_path=str(out / "adapters" / name))
        ids, want = tools.logits(artifact, data, size, ctx, directory)
        compare(f"{label}, adapter {name}", model, ids, want, ctx)
    return None


def check_families(tools):
    rng = np.random.default_rng(1)
    data = tools.temp / "text.txt"
    data.write_text("".join(rng.choice(list("abcdefghij "), 60)))
    for source in checkpoints():
        model, artifact, adapter = (tools.temp / (kind + source.name) for kind in ("model-", "artifact-", "adapter-"))
        shutil.copytree(source, model)
        (model / "expected.safetensors").unlink()
        (model / "tokenizer.json").write_text(json.dumps(TOKENIZER))
        (model / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        tools.must("quantize", model, "--grid", "affine", "--group", "32", "--bits", "4", "--out", artifact)
        random_adapter(shapes(model), adapter, rng)
        problem = check_artifact(tools, artifact, data, 60, 64, [f"a={adapter}"], source.name)
        if problem:
            print(f"{source.name}: refused: {problem}")


def check_packing():
    rng = np.random.default_rng(0)
    for group in 32, 64, 128:
        for bits in 2, 3, 4, 5, 6, 8:
            w = mx.array(rng.standard_normal((64, 256), np.float32))
            q, s, b = mx.quantize(w, group_size=group, bits=bits)
            want = np.array(mx.dequantize(q, s, b, group_size=group, bits=bits))
            got = stream(np.array(q), bits, 256).astype(np.float32) * np.repeat(np.array(s), group, 1) + np.repeat(np.array(b), group, 1)
            if not np.array_equal(got, want):
                sys.exit(f"{bits} bits in groups of {group}: MLX packs otherwise")
    print(f"mlx {mx.__version__}: codes of 2, 3, 4, 5, 6 and 8 bits are a bit stream, for groups of 32, 64 and 128")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("artifact", type=pathlib.Path, nargs="?")
    p.add_argument("--data", type=pathlib.Path)
    p.add_argument("--bytes", type=int, default=20000, help="of the text")
    p.add_argument("--ctx", type=int, default=256)
    p.add_argument("--adapter", action="append", default=[], metavar="NAME=DIR")
    p.add_argument("--families", action="store_true")
    p.add_argument("--packing", action="store_true")
    args = p.parse_args()
    if bool(args.artifact) + args.families + args.packing != 1 or args.artifact and not args.data:
        p.error("give ARTIFACT and --data, --families or --packing")
    if args.packing:
        return check_packing()
    with tempfile.TemporaryDirectory() as temp:
        tools = Tools(pathlib.Path(temp))
        if args.families:
            return check_families(tools)
        problem = check_artifact(tools, args.artifact, args.data, args.bytes, args.ctx, args.adapter, args.artifact.name)
        if problem:
            sys.exit(problem)


if __name__ == "__main__":
    main()
