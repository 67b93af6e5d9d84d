"""Writes a synthetic checkpoint to measure time and memory on, not quality.

    .venv/bin/python scripts/make_synthetic_checkpoint.py DIR [--shape 3b|8b|70b|1b|135m] [--layers N] [--tokenizer FILE]

Shapes: 3b, that of Apple's on-device model (Qwen3 config class: 26 layers, d 3072, 24
query and 8 key-value heads of 128, feed-forward 8192, vocabulary 49,152, tied embedding,
about 6 GB of fp16); 8b, that of Llama 3 (32 layers, d 4096, 32 and 8 heads of 128, feed-forward
14,336, vocabulary 128,256, untied head, about 16 GB); 70b, that of Llama 3 70B (80
layers, d 8192, 64 and 8 heads of 128, feed-forward 28,672, the same vocabulary; use it with --layers); 1b, a Llama (16 layers, d 2048, 32 and 8 heads of 64, feed-forward
8192, the same vocabulary, tied, about 2 GB); 135m, a small Llama (30 layers, d 576, 9 and 3 heads of 64,
feed-forward 1536, the same vocabulary, tied).

The weights are normal with a different standard deviation in every row and about one outlier
in a thousand, which resembles trained matrices for k-means. For speed, all matrices are cut
from one pool of random numbers, each at its own offset and with its own row scales.
"""

import argparse
import json
import pathlib
import shutil
import struct

import numpy

SHAPES = {
    "3b": {"model": "qwen3", "layers": 26, "hidden": 3072, "ffn": 8192, "head": 128, "heads": 24, "kv": 8},
    "8b": {"model": "llama", "layers": 32, "hidden": 4096, "ffn": 14336, "head": 128, "heads": 32, "kv": 8, "vocab": 128256, "tied": False},
    "70b": {"model": "llama", "layers": 80, "hidden": 8192, "ffn": 28672, "head": 128, "heads": 64, "kv": 8, "vocab": 128256, "tied": False},
    "1b": {"model": "llama", "layers": 16, "hidden": 2048, "ffn": 8192, "head": 64, "heads": 32, "kv": 8},
    "135m": {"model": "llama", "layers": 30, "hidden": 576, "ffn": 1536, "head": 64, "heads": 9, "kv": 3},
}
VOCAB = 49152
DEMO = pathlib.Path(__file__).resolve().parent.parent / "internal" / "demo" / "model" / "tokenizer.json"


def tensors(s):
    d, q, kv = s["hidden"], s["heads"] * s["head"], s["kv"] * s["head"]
    yield "model.embed_tokens.weight", (s["vocab"], d)
    for i in range(s["layers"]):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (d,)
        yield p + "self_attn.q_proj.weight", (q, d)
        yield p + "self_attn.k_proj.weight", (kv, d)
        yield p + "self_attn.v_proj.weight", (kv, d)
        if s["model"] == "qwen3":
            yield p + "self_attn.q_norm.weight", (s["head"],)
            yield p + "self_attn.k_norm.weight", (s["head"],)
        yield p + "self_attn.o_proj.weight", (d, q)
        yield p + "post_attention_layernorm.weight", (d,)
        yield p + "mlp.gate_proj.weight", (s["ffn"], d)
        yield p + "mlp.up_proj.weight", (s["ffn"], d)
        yield p + "mlp.down_proj.weight", (d, s["ffn"])
    yield "model.norm.weight", (d,)
    if not s["tied"]:
        yield "lm_head.weight", (s["vocab"], d)


def config(s):
    name = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}[s["model"]]
    return {
        "architectures": [name], "model_type": s["model"], "hidden_size": s["hidden"], "intermediate_size": s["ffn"],
        "num_hidden_layers": s["layers"], "num_attention_heads": s["heads"], "num_key_value_heads": s["kv"], "head_dim": s["head"],
        "vocab_size": s["vocab"], "rms_norm_eps": 1e-6, "rope_theta": 500000.0, "max_position_embeddings": 4096,
        "hidden_act": "silu", "tie_word_embeddings": s["tied"], "torch_dtype": "float16", "bos_token_id": 0, "eos_token_id": 0,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--shape", choices=SHAPES, default="3b")
    parser.add_argument("--layers", type=int, help="another number of layers")
    parser.add_argument("--tokenizer", type=pathlib.Path, default=DEMO, help="tokenizer.json to copy (default: the demo model's)")
    args = parser.parse_args()
    shape = {"vocab": VOCAB, "tied": True} | SHAPES[args.shape]
    shape["layers"] = args.layers or shape["layers"]
    args.dir.mkdir(parents=True)
    (args.dir / "config.json").write_text(json.dumps(config(shape), indent=1) + "\n")
    shutil.copy(args.tokenizer, args.dir / "tokenizer.json")

    rng = numpy.random.default_rng(1)
    pool = rng.standard_normal(1 << 25, dtype=numpy.float32)
    outliers = rng.integers(0, pool.size, pool.size // 4096)
    pool[outliers] *= 6
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, extents in tensors(shape):
        size = 2 * int(numpy.prod(extents))
        header[name] = {"dtype": "F16", "shape": extents, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(args.dir / "model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, extents in tensors(shape):
            if len(extents) == 1:
                f.write((1 + 0.1 * pool[: extents[0]]).astype(numpy.float16).tobytes())
                continue
            rows, cols = extents
            scale = 0.02 * numpy.exp(0.3 * rng.standard_normal(rows, dtype=numpy.float32))
            for r in range(0, rows, 1024):
                n = min(1024, rows - r)
                start = int(rng.integers(0, pool.size - n * cols))
                block = pool[start : start + n * cols].reshape(n, cols) * scale[r : r + n, None]
                f.write(block.astype(numpy.float16).tobytes())
    print(f"{args.dir}: {(at + len(text) + 8) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
