"""Writes small random Llama-class checkpoints with properties that are common in practice but
missing from the repository's test data: BF16 shards, row counts not divisible by 16, an odd
vocabulary size, SentencePiece tokenizers with and without byte fallback.

    .venv/bin/python scripts/make_llama_checkpoints.py DIR --text FILE
    .venv/bin/python scripts/parity.py eval DIR/* --data FILE

The tokenizers are trained on FILE. tokenizer.json represents SentencePiece in two
ways: normalizers that prepend and replace spaces (Llama 2), and the
Metaspace pre-tokenizer.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HIDDEN, FFN, HEADS, KV, HEAD, LAYERS = 60, 100, 6, 2, 20, 3


def train(text, vocab, byte_fallback, metaspace):
    """A BPE tokenizer in the form of converted SentencePiece models."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=byte_fallback))
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " ")] + ([decoders.ByteFallback()] if byte_fallback else [])
    tokenizer.decoder = decoders.Sequence(steps + [decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<s>", "</s>"] + ([f"<0x{b:02X}>" for b in range(256)] if byte_fallback else [])
    # Without byte fallback, characters of the text outside the alphabet become <unk>.
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=special, limit_alphabet=60, show_progress=False)
    lines = [line[:400] for line in text.splitlines() if line.strip()][:3000]
    words = (("▁" + word for word in line.split()) for line in lines)
    bare = Tokenizer(models.BPE(unk_token="<unk>"))
    bare.train_from_iterator((w for line in words for w in line), trainer)
    trained = json.loads(bare.to_str())["model"]
    whole = json.loads(tokenizer.to_str())
    whole["model"]["vocab"], whole["model"]["merges"] = trained["vocab"], trained["merges"]
    tokenizer = Tokenizer.from_str(json.dumps(whole))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special[:3]])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def checkpoint(folder, tokenizer, seed):
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    vocab = tokenizer.get_vocab_size() | 1  # odd, and at least as many rows as ids
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": FFN,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV, "head_dim": HEAD,
        "vocab_size": vocab, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 512,
        "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    generator = torch.Generator().manual_seed(seed)

    def random(*shape, scale):
        return (scale * torch.randn(shape, generator=generator)).to(torch.bfloat16)

    weights = {"model.embed_tokens.weight": random(vocab, HIDDEN, scale=1.0)}
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        for name, rows, cols in (("self_attn.q_proj", HEADS * HEAD, HIDDEN), ("self_attn.k_proj", KV * HEAD, HIDDEN),
                                 ("self_attn.v_proj", KV * HEAD, HIDDEN), ("self_attn.o_proj", HIDDEN, HEADS * HEAD),
                                 ("mlp.gate_proj", FFN, HIDDEN), ("mlp.up_proj", FFN, HIDDEN), ("mlp.down_proj", HIDDEN, FFN)):
            weights[f"{p}{name}.weight"] = random(rows, cols, scale=1.5 / cols**0.5)
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{p}{name}.weight"] = 1 + random(HIDDEN, scale=0.2)
    weights["model.norm.weight"] = 1 + random(HIDDEN, scale=0.2)
    weights["lm_head.weight"] = random(vocab, HIDDEN, scale=2 / HIDDEN**0.5)
    names = sorted(weights)
    where = {}
    for i in range(3):
        file = f"model-{i + 1:05}-of-00003.safetensors"
        members = names[i::3]
        save_file({n: weights[n].contiguous() for n in members}, folder / file, metadata={"format": "pt"})
        where |= {n: file for n in members}
    size = sum(w.numel() * w.element_size() for w in weights.values())
    index = {"metadata": {"total_size": size}, "weight_map": {n: where[n] for n in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    print(f"{folder}: vocabulary {vocab}, {size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    args = parser.parse_args()
    text = args.text.read_text()
    seed = 0
    for fallback in (True, False):
        for metaspace in (True, False):
            seed += 1
            name = f"llama-{'bytes' if fallback else 'unk'}-{'metaspace' if metaspace else 'prepend'}"
            checkpoint(args.dir / name, train(text, 700, fallback, metaspace), seed)


if __name__ == "__main__":
    main()
