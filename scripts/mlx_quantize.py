"""Quantizes a checkpoint like mlx-lm and writes the dequantized weights.

    scripts/setup-python mlx
    .venv/bin/python scripts/mlx_quantize.py MODEL OUT [--bits 3] [--group-size 64]

Every projection goes through mlx.core.quantize (affine, a scale and a bias in 16 bits for
every group of a row) and back; the embedding takes 8 bits. OUT is a float32 checkpoint
for `afmq eval-perplexity OUT --reference MODEL`. Bits per weight are printed.
"""

import argparse
import json
import pathlib
import shutil

import mlx.core as mx
import numpy as np
from safetensors.numpy import load_file, save_file

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def through(weight, bits, group):
    """Returns weight [out, in] after quantization and dequantization, float32."""
    w = mx.array(weight.astype(np.float16))
    quantized, scales, biases = mx.quantize(w, group_size=group, bits=bits)
    return np.array(mx.dequantize(quantized, scales, biases, group_size=group, bits=bits).astype(mx.float32))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--bits", type=int, default=3)
    parser.add_argument("--group-size", type=int, default=64)
    args = parser.parse_args()
    args.out.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        if (args.model / name).exists():
            shutil.copy(args.model / name, args.out)
    config = json.loads((args.model / "config.json").read_text())
    config["torch_dtype"] = config["dtype"] = "float32"
    (args.out / "config.json").write_text(json.dumps(config, indent=1))
    tensors = {}
    for file in sorted(args.model.glob("*.safetensors")):
        tensors.update(load_file(file))
    for name, weight in tensors.items():
        kind = name.split(".")[-2]
        if kind in PROJECTIONS:
            tensors[name] = through(weight, args.bits, args.group_size)
        elif kind in ("embed_tokens", "lm_head"):
            tensors[name] = through(weight, 8, args.group_size)
        else:
            tensors[name] = weight.astype(np.float32)
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, args.out / "model.safetensors")
    print(f"mlx {mx.__version__}: {args.bits + 32 / args.group_size} bits per weight in projections")


if __name__ == "__main__":
    main()
