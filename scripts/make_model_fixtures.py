"""Makes pkg/infer/testdata and pkg/model/testdata/rope.json: tiny random checkpoints of every supported family and
variation with their logits in transformers in float32, and the rotary frequencies of
transformers for every kind of scaling.

    scripts/setup-python && .venv/bin/python scripts/make_model_fixtures.py [NAME]...

With names, it makes these checkpoints and leaves all else as it is.

Weights are random but far from the usual initialization, so that norms, biases and
attention scores all have a visible effect on the logits. The same
seed gives the same files.
"""

import json
import pathlib
import shutil
import sys
import zlib

import numpy
import torch
import transformers
from safetensors.torch import save_file

PKG = pathlib.Path(__file__).resolve().parent.parent / "pkg"
OUT = PKG / "infer" / "testdata"
TOKENS = 32  # in a sequence, unless a model sets another number
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 40,  # no multiple of 16
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 72,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CLASSES = {
    "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM", "granite": "GraniteForCausalLM", "olmo2": "Olmo2ForCausalLM", "olmo3": "Olmo3ForCausalLM",
    "phi3": "Phi3ForCausalLM", "gemma2": "Gemma2ForCausalLM", "gemma3_text": "Gemma3ForCausalLM",
}

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
SHORT, LONG = [1.0, 1.05, 1.1, 1.3], [1.1, 1.9, 3.2, 7.5]

PAD = {"pad_token_id": 0}  # the default is beyond the small vocabulary

GEMMA = {**PAD, "hidden_size": 40, "hidden_activation": "gelu_pytorch_tanh", "drop": ["hidden_act"]}

F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32

# name: model_type, type of the weights, what config.json has beyond SIZES, and how
# the file stores them: "shards", or "head only" for a tied model that stores its
# embedding as lm_head.weight. "drop" and "tokens" are not keys of config.json: they are the
# keys of SIZES to omit, and the length of the sequence.
MODELS = {
    "llama2-f32": ("llama", F32, {"num_key_value_heads": None, "rope_theta": 10000.0, "rope_scaling": None}, ""),
    "llama2-bare-config": ("llama", F16, {"drop": ["max_position_embeddings", "bos_token_id"]}, ""),
    "llama3-bf16": ("llama", BF16, {"rope_theta": 500000.0, "rope_scaling": LLAMA3, "eos_token_id": [2, 5]}, ""),
    "llama-biases": ("llama", F32, {"rope_theta": 10000.0, "attention_bias": True, "mlp_bias": True}, ""),
    "llama-wide-heads": ("llama", F16, {"rope_theta": 10000.0, "head_dim": 12}, ""),
    "llama-tied-head-only": ("llama", F32, {"rope_theta": 10000.0, "tie_word_embeddings": True}, "head only"),
    "llama-linear": ("llama", F16, {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 2.5}}, ""),
    "llama-dynamic": ("llama", F16, {"rope_theta": 10000.0, "max_position_embeddings": 12, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, ""),
    "llama-rope-parameters": ("llama", BF16, {"rope_parameters": {"rope_theta": 500000.0, **LLAMA3}}, ""),
    "llama-longrope-long": ("llama", F16, {"rope_theta": 10000.0, "rope_scaling": {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "original_max_position_embeddings": 16}}, ""),
    "llama-longrope-short": ("llama", F16, {"rope_theta": 10000.0, "rope_scaling": {"rope_type": "longrope", "factor": 3.0, "short_factor": SHORT, "long_factor": LONG, "original_max_position_embeddings": 48}}, ""),
    "mistral-bf16": ("mistral", BF16, {"rope_theta": 1000000.0, "sliding_window": None}, ""),
    "mistral-wide-window": ("mistral", F16, {"rope_theta": 10000.0, "sliding_window": 4096, "head_dim": 16}, ""),
    "mistral-window": ("mistral", F16, {"rope_theta": 10000.0, "sliding_window": 8}, ""),
    "mistral-window-1": ("mistral", F32, {"rope_theta": 10000.0, "sliding_window": 1}, ""),
    # Longer than a cache that keeps a window, and than a chain of sums.
    "mistral-window-long": ("mistral", F16, {"rope_theta": 10000.0, "sliding_window": 300, "vocab_size": 12, "max_position_embeddings": 2048, "tokens": 1200}, ""),
    "mistral-layer-types": ("mistral", F16, {"rope_theta": 10000.0, "head_dim": 8, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}, ""),
    "qwen2-bf16": ("qwen2", BF16, {"rope_theta": 1000000.0, "use_sliding_window": False, "sliding_window": 16, "max_window_layers": 1}, ""),
    "qwen2-tied-f16": ("qwen2", F16, {"rope_theta": 1000000.0, "tie_word_embeddings": True}, ""),
    "qwen2-yarn": ("qwen2", F16, {"rope_theta": 1000000.0, "rope_scaling": YARN}, ""),
    "qwen2-window": ("qwen2", F16, {"rope_theta": 1000000.0, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1, "num_hidden_layers": 3}, ""),
    "qwen3-layer-types": ("qwen3", BF16, {"rope_theta": 1000000.0, "head_dim": 8, "use_sliding_window": True, "sliding_window": 7, "num_hidden_layers": 3, "layer_types": ["full_attention", "sliding_attention", "full_attention"]}, ""),
    "qwen3-tied-f16": ("qwen3", F16, {"rope_theta": 500000.0, "head_dim": 16, "tie_word_embeddings": True}, ""),
    "qwen3-shards-bf16": ("qwen3", BF16, {"rope_theta": 1000000.0, "head_dim": 10, "vocab_size": 71, "intermediate_size": 37}, "shards"),
    "qwen3-biases": ("qwen3", F32, {"rope_theta": 1000000.0, "head_dim": 8, "attention_bias": True, "tie_word_embeddings": True}, ""),
    "qwen3-yarn-mscale": ("qwen3", F16, {"head_dim": 16, "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 0.5, "beta_fast": 16, "beta_slow": 2, "truncate": False, "original_max_position_embeddings": 16}}, ""),
    "phi3-bf16": ("phi3", BF16, {**PAD, "num_attention_heads": 2, "rope_theta": 10000.0, "sliding_window": 9, "intermediate_size": 36}, "shards"),
    "phi3-longrope-f16": ("phi3", F16, {**PAD, "num_key_value_heads": None, "rope_theta": 10000.0, "sliding_window": None, "original_max_position_embeddings": 16, "rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": LONG}}, ""),
    # Phi-4-mini: three quarters of each head are rotated.
    "phi4-mini-tied": ("phi3", F16, {**PAD, "tie_word_embeddings": True, "partial_rotary_factor": 0.75, "rope_theta": 10000.0, "sliding_window": 262144, "original_max_position_embeddings": 48,
                                     "rope_scaling": {"type": "longrope", "short_factor": SHORT[1:], "long_factor": LONG[1:]}}, ""),
    "smollm3-tied-bf16": ("smollm3", BF16, {**PAD, "rope_theta": 5000000.0, "num_hidden_layers": 3, "no_rope_layer_interval": 2}, ""),
    "smollm3-window": ("smollm3", F16, {**PAD, "tie_word_embeddings": False, "no_rope_layers": [0, 1, 0, 1], "attention_bias": True, "mlp_bias": True, "use_sliding_window": True, "sliding_window": 6}, "shards"),
    "granite-tied-bf16": ("granite", BF16, {"tie_word_embeddings": True, "embedding_multiplier": 3, "attention_multiplier": 0.21, "residual_multiplier": 0.6, "logits_scaling": 2.5}, ""),
    "granite-biases": ("granite", F16, {"attention_bias": True, "mlp_bias": True, "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}, "embedding_multiplier": 1.7, "attention_multiplier": 0.5, "residual_multiplier": 1.3, "logits_scaling": 0.8}, ""),
    # √hidden_size differs among the types of weights; soft caps are low enough to bend what they cap.
    "gemma2-bf16": ("gemma2", BF16, {**GEMMA, "head_dim": 8, "num_hidden_layers": 3, "query_pre_attn_scalar": 11, "sliding_window": 6, "attn_logit_softcapping": 4.0, "final_logit_softcapping": 3.0}, ""),
    "gemma2-untied-f16": ("gemma2", F16, {**GEMMA, "head_dim": 12, "tie_word_embeddings": False, "attention_bias": True, "sliding_window": 5, "layer_types": ["full_attention", "sliding_attention"], "attn_logit_softcapping": None, "final_logit_softcapping": None,
                                          "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}, ""),
    "gemma3-bf16": ("gemma3_text", BF16, {**GEMMA, "head_dim": 8, "num_hidden_layers": 4, "query_pre_attn_scalar": 13, "sliding_window": 7, "sliding_window_pattern": 3, "rope_theta": 100000.0, "rope_local_base_freq": 300.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}, "shards"),
    "gemma3-rope-parameters": ("gemma3_text", F16, {**GEMMA, "head_dim": 8, "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"], "final_logit_softcapping": 2.5, "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 900.0}, "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 50000.0}}}, ""),
    "gemma3-untied-f32": ("gemma3_text", F32, {**GEMMA, "head_dim": 8, "tie_word_embeddings": False, "sliding_window": 4, "sliding_window_pattern": 2}, ""),
    "olmo2-bf16": ("olmo2", BF16, {**PAD, "rope_theta": 500000.0, "attention_bias": True, "num_key_value_heads": None}, "shards"),
    "olmo2-tied-f16": ("olmo2", F16, {**PAD, "rope_theta": 10000.0, "tie_word_embeddings": True, "drop": ["rms_norm_eps"]}, ""),
    "olmo3-yarn": ("olmo3", F16, {**PAD, "rope_theta": 500000.0, "sliding_window": 7, "num_hidden_layers": 4, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 32, "beta_slow": 1, "attention_factor": 1.2}}, ""),
    "olmo3-rope-parameters": ("olmo3", BF16, {**PAD, "sliding_window": 5, "layer_types": ["full_attention", "sliding_attention"], "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 300.0}, "full_attention": {"rope_type": "linear", "factor": 3.0, "rope_theta": 20000.0}}}, ""),
}


def config_of(model_type, extra):
    config = {"architectures": [CLASSES[model_type]], "model_type": model_type, **SIZES}
    config.update({k: v for k, v in extra.items() if k not in ("drop", "tokens")})
    for key in extra.get("drop", []):
        del config[key]
    return config


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def random_weights(model, generator):
    """Random values for every parameter of the model, by its name."""
    offset = model.config.model_type.startswith("gemma")  # norms multiply by one plus their weight
    weights = {}
    for name, p in model.state_dict().items():
        x = torch.randn(p.shape, generator=generator)
        if name.endswith("norm.weight"):
            x = (0 if offset else 1) + 0.25 * x
        elif name.endswith(".bias"):
            x = 0.4 * x
        elif "embed_tokens" in name or "lm_head" in name:
            x = 0.35 * x
        else:
            x = 0.3 * x
        weights[name] = x
    return weights


def make_model(name, model_type, dtype, extra, storage):
    folder = OUT / "models" / name
    folder.mkdir(parents=True)
    config = config_of(model_type, extra)
    config["torch_dtype"] = str(dtype).removeprefix("torch.")
    write_json(folder / "config.json", config)
    loaded = transformers.AutoConfig.from_pretrained(folder)
    tied = loaded.tie_word_embeddings
    model = transformers.AutoModelForCausalLM.from_config(loaded)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    weights = {k: v.to(dtype) for k, v in random_weights(model, generator).items()}
    if tied:
        del weights["lm_head.weight"]
    if storage == "head only":
        weights["lm_head.weight"] = weights.pop("model.embed_tokens.weight")
    names = sorted(weights)
    if storage == "shards":
        files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
        where = {n: f for f, ns in files.items() for n in ns}
        total = sum(w.numel() * w.element_size() for w in weights.values())
        write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": {n: where[n] for n in names}})
    else:
        files = {"model.safetensors": names}
    for file, members in files.items():
        save_file({n: weights[n].contiguous() for n in members}, folder / file, metadata={"format": "pt"})

    # In the checkpoint's type first, to which Gemma rounds the scale of its embeddings.
    model, report = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager", output_loading_info=True)
    model = model.float()
    missing = set(report["missing_keys"]) - ({"lm_head.weight"} if tied else set())
    assert not missing and not report["unexpected_keys"] and not report["mismatched_keys"], (name, report)
    ids = torch.randint(0, config["vocab_size"], (extra.get("tokens", TOKENS),), generator=generator)
    with torch.no_grad():
        logits = model.eval()(ids[None]).logits[0]
    assert 0.5 < logits.std() < 20, (name, logits.std())
    save_file({"ids": ids.to(torch.int32), "logits": logits.contiguous()}, folder / "expected.safetensors")
    print(f"{name}: logits {tuple(logits.shape)}, standard deviation {logits.std():.2f}")


def rope_cases():
    """Whole configs with realistic scaling, each at one or more lengths."""
    big = {**SIZES, "hidden_size": 512, "max_position_embeddings": 32768}

    def case(name, lengths, model_type="llama", **extra):
        yield from ((name, {"model_type": model_type, **big, **extra}, n) for n in lengths)

    phi_short = [round(1 + 0.02 * i, 4) for i in range(64)]
    phi_long = [round(1.05 * 1.065**i, 4) for i in range(64)]
    yield from case("afm", [1, 4096], "qwen3", rope_theta=500000.0, head_dim=128)
    yield from case("linear", [10], rope_theta=10000.0, rope_scaling={"type": "linear", "factor": 2.0})
    dynamic = {"rope_theta": 10000.0, "max_position_embeddings": 4096, "rope_scaling": {"type": "dynamic", "factor": 2.0}}
    yield from case("dynamic", [100, 4096, 4097, 9000], **dynamic)
    yield from case("llama 3.1", [100], rope_theta=500000.0, max_position_embeddings=131072, head_dim=128,
                    rope_scaling={**LLAMA3, "original_max_position_embeddings": 8192})
    yield from case("llama 3.2", [100], rope_theta=500000.0, max_position_embeddings=131072, head_dim=64,
                    rope_scaling={**LLAMA3, "factor": 32.0, "original_max_position_embeddings": 8192})
    yield from case("llama 3 without original length", [100], rope_theta=500000.0, head_dim=64,
                    rope_scaling={k: v for k, v in LLAMA3.items() if not k.startswith("original")})
    qwen = {"rope_theta": 1000000.0, "head_dim": 128}
    yield from case("qwen yarn", [100, 100000], "qwen2", **qwen, rope_scaling={**YARN, "original_max_position_embeddings": 32768})
    yield from case("yarn without original length", [100], "qwen3", **qwen, rope_scaling={"rope_type": "yarn", "factor": 4.0})
    yield from case("yarn, null factor", [100], "qwen3", **qwen, rope_scaling={**YARN, "factor": None, "original_max_position_embeddings": 8192})
    both = {"rope_theta": 1e6, "rope_type": "linear", "factor": 3.0}
    yield from case("both spellings", [100], "qwen3", **qwen, rope_parameters=both, rope_scaling={"type": "linear", "factor": 2.0})
    yield from case("llama 3, outer length", [100], rope_theta=500000.0, head_dim=64, original_max_position_embeddings=4096, rope_scaling=LLAMA3)
    yield from case("yarn, own attention factor", [100], "qwen3", **qwen, rope_scaling={**YARN, "attention_factor": 0.7})
    yield from case("yarn, mscale", [100], "qwen3", **qwen, rope_scaling={**YARN, "mscale": 0.707, "mscale_all_dim": 0.8})
    yield from case("yarn, one mscale", [100], "qwen3", **qwen, rope_scaling={**YARN, "mscale": 0.707})
    yield from case("yarn, betas", [100], "qwen3", **qwen, rope_scaling={**YARN, "beta_fast": 24, "beta_slow": 3, "truncate": False})
    phi = {"rope_theta": 10000.0, "head_dim": 128, "max_position_embeddings": 131072}
    factors = {"short_factor": phi_short, "long_factor": phi_long}
    yield from case("longrope", [4096, 4097], **phi, original_max_position_embeddings=4096, rope_scaling={"rope_type": "longrope", **factors})
    yield from case("longrope, factor", [5000], **phi, rope_scaling={"type": "longrope", "factor": 16.0, "original_max_position_embeddings": 4096, **factors})
    yield from case("longrope, attention factor", [10], **phi, rope_scaling={"type": "longrope", "attention_factor": 1.2, "original_max_position_embeddings": 4096, **factors})
    yield from case("newer file", [10], "mistral", sliding_window=None, rope_parameters={"rope_theta": 1e9, "rope_type": "default"})
    yield from case("newer file, scaled", [10], "qwen3", head_dim=128, rope_parameters={"rope_theta": 1e6, "rope_type": "linear", "factor": 3.0})


def make_rope():
    rotary = {
        "llama": transformers.models.llama.modeling_llama.LlamaRotaryEmbedding,
        "mistral": transformers.models.mistral.modeling_mistral.MistralRotaryEmbedding,
        "qwen2": transformers.models.qwen2.modeling_qwen2.Qwen2RotaryEmbedding,
        "qwen3": transformers.models.qwen3.modeling_qwen3.Qwen3RotaryEmbedding,
    }
    out = []
    for name, config, length in rope_cases():
        loaded = transformers.AutoConfig.for_model(**json.loads(json.dumps(config)))
        module = rotary[config["model_type"]](loaded)
        # The forward pass makes those that depend on the length.
        module(torch.zeros(1, 1, 1), torch.tensor([[length - 1]]))
        frequencies = module.inv_freq.to(torch.float64).tolist()
        out.append({"name": name, "config": config, "head_dim": 2 * len(frequencies), "seq_len": length,
                    "inv_freq": [float(numpy.format_float_positional(f, precision=9, unique=False, fractional=False)) for f in frequencies],
                    "attention_factor": float(module.attention_scaling)})
    lines = ",\n".join(json.dumps(case) for case in out)
    (PKG / "model" / "testdata" / "rope.json").write_text(f"[\n{lines}\n]\n")
    print(f"rope.json: {len(out)} cases")


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    names = sys.argv[1:]
    for name in names or MODELS:
        shutil.rmtree(OUT / "models" / name, ignore_errors=True)
        make_model(name, *MODELS[name])
    if not names:
        make_rope()


if __name__ == "__main__":
    main()
