"""Writes a synthetic checkpoint in the 3 B shape of Apple's on-device model
(Qwen3 config class: 26 layers, d 3072, 24 query and 8 key-value heads of 128,
feed-forward 8192, vocabulary 49,152, tied embedding), about 6 GB of fp16, to
measure quantize on: time and memory, not quality.

    .venv/bin/python scripts/make_synthetic_checkpoint.py DIR [--layers 26] [--tokenizer FILE]

The weights are normal with a spread of their own in every row and one outlier in
some thousand, which is what trained matrices look like to k-means. To be quick,
all matrices are cut from one pool of random numbers, at an offset and with row
scales of their own.
"""

import argparse
import json
import pathlib
import shutil
import struct

import numpy

HIDDEN, FFN, HEAD, HEADS, KV, VOCAB = 3072, 8192, 128, 24, 8, 49152
DEMO = pathlib.Path(__file__).resolve().parent.parent / "internal" / "demo" / "model" / "tokenizer.json"


def tensors(layers):
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for i in range(layers):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (HIDDEN,)
        yield p + "self_attn.q_proj.weight", (HEADS * HEAD, HIDDEN)
        yield p + "self_attn.k_proj.weight", (KV * HEAD, HIDDEN)
        yield p + "self_attn.v_proj.weight", (KV * HEAD, HIDDEN)
        yield p + "self_attn.q_norm.weight", (HEAD,)
        yield p + "self_attn.k_norm.weight", (HEAD,)
        yield p + "self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD)
        yield p + "post_attention_layernorm.weight", (HIDDEN,)
        yield p + "mlp.gate_proj.weight", (FFN, HIDDEN)
        yield p + "mlp.up_proj.weight", (FFN, HIDDEN)
        yield p + "mlp.down_proj.weight", (HIDDEN, FFN)
    yield "model.norm.weight", (HIDDEN,)


def config(layers):
    return {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": HIDDEN, "intermediate_size": FFN,
        "num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": KV, "head_dim": HEAD,
        "vocab_size": VOCAB, "rms_norm_eps": 1e-6, "rope_theta": 500000.0, "max_position_embeddings": 4096,
        "hidden_act": "silu", "tie_word_embeddings": True, "torch_dtype": "float16", "bos_token_id": 0, "eos_token_id": 0,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--layers", type=int, default=26)
    parser.add_argument("--tokenizer", type=pathlib.Path, default=DEMO, help="tokenizer.json to copy (default: the demo model's)")
    args = parser.parse_args()
    args.dir.mkdir(parents=True)
    (args.dir / "config.json").write_text(json.dumps(config(args.layers), indent=1) + "\n")
    shutil.copy(args.tokenizer, args.dir / "tokenizer.json")

    rng = numpy.random.default_rng(1)
    pool = rng.standard_normal(1 << 25, dtype=numpy.float32)
    outliers = rng.integers(0, pool.size, pool.size // 4096)
    pool[outliers] *= 6
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors(args.layers):
        size = 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(args.dir / "model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors(args.layers):
            if len(shape) == 1:
                f.write((1 + 0.1 * pool[: shape[0]]).astype(numpy.float16).tobytes())
                continue
            rows, cols = shape
            scale = 0.02 * numpy.exp(0.3 * rng.standard_normal(rows, dtype=numpy.float32))
            for r in range(0, rows, 1024):
                n = min(1024, rows - r)
                start = int(rng.integers(0, pool.size - n * cols))
                block = pool[start : start + n * cols].reshape(n, cols) * scale[r : r + n, None]
                f.write(block.astype(numpy.float16).tobytes())
    print(f"{args.dir}: {(at + len(text) + 8) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
