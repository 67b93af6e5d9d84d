#!/usr/bin/env python3
"""Makes the test data of pkg/infer: testdata/models and testdata/rope.json.

    .venv/bin/python scripts/make_model_fixtures.py            # all
    .venv/bin/python scripts/make_model_fixtures.py llama2-f32 # these only

testdata/models/NAME is a tiny random checkpoint with config.json as users bring
them: every supported family, every kind of rotary embedding, both spellings of it,
all stored types. expected.safetensors beside it holds `ids` I32 [n] and `logits` F32
[n, vocab], what Hugging Face transformers computes in float32 (eager attention) from
the stored weights, all positions in one pass. None of these models is degenerate: the
script refuses one whose attention is near uniform, whose logits are small, or in which
the feature that its name promises makes no difference.

testdata/rope.json holds frequencies and attention factors of the rotary embedding with
the parameters of published models, computed by transformers' own functions.

The checkpoints come from seeds and are the same on every run; the logits may differ in
their last bits between machines.
"""

import copy
import json
import pathlib
import shutil
import sys
import tempfile
import warnings

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

TESTDATA = pathlib.Path(__file__).resolve().parent.parent / "pkg" / "infer" / "testdata"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
CLASSES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
warnings.filterwarnings("ignore")


# --- the models -----------------------------------------------------------------


def config(family, **keys):
    """A config.json of a family; a key that is given as DROP is left out."""
    base = {
        "architectures": [CLASSES[family] + "ForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 32,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "model_type": family,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "transformers_version": "4.40.1",
        "use_cache": True,
        "vocab_size": 72,
    }
    base.update(keys)
    return {k: v for k, v in sorted(base.items()) if v is not DROP}


DROP = object()
NEW = {"rope_theta": DROP, "torch_dtype": DROP, "transformers_version": "5.2.0"}  # and rope_parameters, dtype

LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0, 1.05, 1.1, 1.2, 1.3, 1.45, 1.6, 1.8],
    "long_factor": [1.1, 1.3, 1.9, 2.8, 4.2, 6.5, 9.0, 12.5],
}

# name -> (config, options). Options: tokens, the length of the sequence; shards, the
# number of files; file, what is particular about the stored tensors; without, the keys
# of the config that must make a difference to the logits.
MODELS = {
    # As the first Llama 2 files: no rope_theta, and the frequencies stored in each layer.
    "llama2-f32": (
        config("llama", num_key_value_heads=DROP, num_attention_heads=4, rope_theta=DROP, rope_scaling=None, pretraining_tp=1),
        {"file": "inv_freq"},
    ),
    "llama3-f16": (
        config(
            "llama", torch_dtype="float16", num_attention_heads=4, num_key_value_heads=2, rope_theta=500000.0, bos_token_id=70,
            eos_token_id=[69, 71], attention_bias=False, attention_dropout=0.0, mlp_bias=False, max_position_embeddings=131072,
            hidden_size=64, intermediate_size=72,
            rope_scaling={"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                          "original_max_position_embeddings": 16, "rope_type": "llama3"},
        ),
        {"without": ["rope_scaling"], "tokens": 40},
    ),
    "llama-biases-bf16": (
        config("llama", torch_dtype="bfloat16", attention_bias=True, mlp_bias=True, rope_scaling=None),
        {"without": ["attention_bias"]},
    ),
    "llama-head-dim-f16": (
        config("llama", torch_dtype="float16", num_attention_heads=4, num_key_value_heads=2, head_dim=20, vocab_size=67), {}
    ),
    "llama-tied-head-only-f32": (
        config("llama", tie_word_embeddings=True, num_attention_heads=4, num_key_value_heads=2),
        {"file": "head only"},
    ),
    "llama-tied-both-bf16": (
        config("llama", torch_dtype="bfloat16", tie_word_embeddings=True, num_attention_heads=4, num_key_value_heads=4),
        {"file": "both"},
    ),
    # As transformers 5 writes them.
    "llama-new-style-bf16-shards": (
        config("llama", **NEW, dtype="bfloat16", head_dim=16, attention_bias=False, mlp_bias=False,
               rope_parameters={"rope_theta": 130000.0, "rope_type": "default"}),
        {"shards": 3, "without": ["rope_parameters"]},
    ),
    "mistral-bf16": (
        config("mistral", torch_dtype="bfloat16", num_attention_heads=4, num_key_value_heads=2, sliding_window=None, head_dim=None,
               rope_theta=1000000.0, attention_dropout=0.0),
        {},
    ),
    # A window as long as the longest text is none; head_dim · heads is not hidden_size.
    "mistral-wide-window-f16": (
        config("mistral", **NEW, dtype="float16", num_attention_heads=3, num_key_value_heads=1, head_dim=16, sliding_window=64,
               rope_parameters={"rope_theta": 10000.0, "rope_type": "default"}),
        {},
    ),
    "qwen2-f16": (
        config("qwen2", torch_dtype="float16", num_attention_heads=4, num_key_value_heads=2, rope_theta=1000000.0, bos_token_id=70,
               eos_token_id=71, rms_norm_eps=1e-6, max_window_layers=2, sliding_window=32, use_sliding_window=False),
        {},
    ),
    # use_sliding_window, but max_window_layers leaves no layer that uses it.
    "qwen2-tied-bf16": (
        config("qwen2", torch_dtype="bfloat16", tie_word_embeddings=True, max_window_layers=2, sliding_window=32,
               use_sliding_window=True, rope_theta=1000000.0, rms_norm_eps=1e-6),
        {},
    ),
    "qwen3-tied-f16": (
        config("qwen3", torch_dtype="float16", tie_word_embeddings=True, num_attention_heads=6, num_key_value_heads=2, head_dim=16,
               rope_theta=500000.0, rope_scaling=None, attention_bias=False, max_window_layers=2, sliding_window=None,
               use_sliding_window=False, rms_norm_eps=1e-6),
        {},
    ),
    # No row count is a multiple of 16; a group of rows ends in each matrix.
    "qwen3-odd-bf16-shards": (
        config("qwen3", **NEW, dtype="bfloat16", hidden_size=36, intermediate_size=50, num_attention_heads=3,
               num_key_value_heads=1, head_dim=12, vocab_size=77, rms_norm_eps=1e-6, attention_bias=False, max_window_layers=2,
               sliding_window=None, use_sliding_window=False, layer_types=["full_attention", "full_attention"],
               rope_parameters={"rope_theta": 500000.0, "rope_type": "default"}),
        {"shards": 2},
    ),
    # head_dim is missing, so it is 128; q, k, v and o have biases.
    "qwen3-defaults-bf16": (
        config("qwen3", torch_dtype="bfloat16", num_attention_heads=1, num_hidden_layers=1, rms_norm_eps=DROP, attention_bias=True,
               rope_theta=1000000.0, max_position_embeddings=DROP, tie_word_embeddings=DROP),
        {},
    ),
    "rope-linear-f16": (
        config("llama", torch_dtype="float16", rope_scaling={"type": "linear", "factor": 2.0}), {"without": ["rope_scaling"]}
    ),
    "rope-dynamic-f16": (
        config("llama", torch_dtype="float16", max_position_embeddings=16, rope_theta=1000.0,
               rope_scaling={"type": "dynamic", "factor": 2.0}),
        {"tokens": 40, "without": ["rope_scaling"]},
    ),
    # Shorter than max_position_embeddings: dynamic scaling does nothing yet.
    "rope-dynamic-short-bf16": (
        config("qwen3", **NEW, dtype="bfloat16", head_dim=16, sliding_window=None,
               rope_parameters={"rope_theta": 10000.0, "rope_type": "dynamic", "factor": 4.0}),
        {"same without": ["rope_parameters"]},
    ),
    "rope-yarn-f16": (
        config("qwen2", torch_dtype="float16", rope_theta=100.0, hidden_size=64, intermediate_size=32, num_hidden_layers=1,
               max_position_embeddings=16, use_sliding_window=False,
               rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}),
        {"tokens": 40, "without": ["rope_scaling"]},
    ),
    "rope-yarn-attention-factor-bf16": (
        config("qwen3", torch_dtype="bfloat16", rope_theta=100.0, head_dim=24, sliding_window=None,
               rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "attention_factor": 1.4,
                             "beta_fast": 4.0, "beta_slow": 0.5}),
        {"tokens": 40, "without": ["rope_scaling"]},
    ),
    "rope-yarn-mscale-f16": (
        config("llama", **NEW, dtype="float16", head_dim=24, hidden_size=32,
               rope_parameters={"rope_theta": 150.0, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
                                "mscale": 1.0, "mscale_all_dim": 0.4, "beta_fast": 2, "beta_slow": 0.25, "truncate": False}),
        {"tokens": 40, "without": ["rope_parameters"]},
    ),
    "rope-longrope-long-f16": (
        config("llama", torch_dtype="float16", original_max_position_embeddings=16, rope_scaling=LONGROPE),
        {"tokens": 40, "without": ["rope_scaling"]},
    ),
    "rope-longrope-short-bf16": (
        config("llama", torch_dtype="bfloat16", max_position_embeddings=128, original_max_position_embeddings=64, rope_scaling=LONGROPE),
        {"without": ["rope_scaling"]},
    ),
    "rope-longrope-factor-bf16": (
        config("mistral", **NEW, dtype="bfloat16", head_dim=16, sliding_window=None,
               rope_parameters={**LONGROPE, "rope_theta": 10000.0, "rope_type": "longrope", "factor": 8.0,
                                "original_max_position_embeddings": 24}),
        {"tokens": 32, "without": ["rope_parameters"]},
    ),
    "rope-llama3-new-style-bf16": (
        config("mistral", **NEW, dtype="bfloat16", head_dim=32, hidden_size=32, num_hidden_layers=1, sliding_window=None,
               rope_parameters={"rope_theta": 1000.0, "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                                "high_freq_factor": 4.0, "original_max_position_embeddings": 24}),
        {"tokens": 40, "without": ["rope_parameters"]},
    ),
}


def weights(model, rng):
    """Random weights for each parameter of a model, float32, none of them trivial."""
    out = {}
    for name, p in model.named_parameters():
        shape = tuple(p.shape)
        if name.endswith("norm.weight"):
            w = 1 + 0.3 * rng.standard_normal(shape)
        elif name.endswith(".bias"):
            w = 0.4 * rng.standard_normal(shape)
        else:
            spread = 1.0 if "embed" in name or "lm_head" in name else 1.6 if "q_proj" in name or "k_proj" in name else 1.0
            rows = np.exp(0.3 * rng.standard_normal((shape[0], 1)))  # rows differ in range
            w = spread * rows * rng.standard_normal(shape) / np.sqrt(shape[1])
        out[name] = torch.tensor(w, dtype=torch.float32)
    return out


def store(directory, cfg, state, options):
    """Writes config.json and the tensors, in one file or in shards with an index."""
    directory.mkdir(parents=True)
    write_json(directory / "config.json", cfg)
    dtype = DTYPES[cfg.get("dtype", cfg.get("torch_dtype"))]
    tensors = {k: v.to(dtype).contiguous() for k, v in state.items()}
    kind = options.get("file")
    if kind == "head only":
        tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    elif kind == "both":
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    elif kind == "inv_freq":
        dim = cfg["hidden_size"] // cfg["num_attention_heads"]
        inv = 1.0 / (10000.0 ** (torch.arange(0, dim, 2).float() / dim))
        for i in range(cfg["num_hidden_layers"]):
            tensors[f"model.layers.{i}.self_attn.rotary_emb.inv_freq"] = inv.clone()
    n = options.get("shards", 1)
    if n == 1:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(tensors)
    index = {"metadata": {"total_size": sum(t.numel() * t.element_size() for t in tensors.values())}, "weight_map": {}}
    for i in range(n):
        part = names[i * len(names) // n : (i + 1) * len(names) // n]
        file = f"model-{i + 1:05d}-of-{n:05d}.safetensors"
        save_file({k: tensors[k] for k in part}, directory / file, metadata={"format": "pt"})
        index["weight_map"] |= {k: file for k in part}
    index["weight_map"] = dict(sorted(index["weight_map"].items()))
    write_json(directory / "model.safetensors.index.json", index)


def load(directory):
    """The model in float32 with eager attention; a missing or spare tensor is an error."""
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    missing, spare = set(info["missing_keys"]), {k for k in info["unexpected_keys"] if not k.endswith("inv_freq")}
    if missing or spare or info["mismatched_keys"]:
        sys.exit(f"{directory}: {info}")
    return model.eval()


def logits(directory, ids, cfg=None):
    """Logits [n, vocab] and the share of attention on the strongest key, for the stored
    checkpoint or for the same weights under another config."""
    if cfg is not None:
        with tempfile.TemporaryDirectory() as t:
            for file in directory.glob("*.safetensors*"):
                shutil.copy(file, t)
            write_json(pathlib.Path(t) / "config.json", cfg)
            return logits(pathlib.Path(t), ids)
    with torch.no_grad():
        out = load(directory)(torch.tensor([ids]), output_attentions=True)
    late = torch.stack([a[0, :, 8:].amax(-1).mean() for a in out.attentions])
    return out.logits[0].float(), late


def make(name, cfg, options, seed):
    rng = np.random.default_rng(seed)
    directory = TESTDATA / "models" / name
    shutil.rmtree(directory, ignore_errors=True)
    with tempfile.TemporaryDirectory() as t:
        write_json(pathlib.Path(t) / "config.json", cfg)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(t))
    state = weights(model, rng)
    n = options.get("tokens", 28)
    ids = rng.integers(0, cfg["vocab_size"], n).tolist()
    ids[n // 2 : n // 2 + 4] = ids[2:6]  # so that attention has something to find

    # Logits of standard deviation about 2.5, by the last norm; the factor is rounded so
    # that the weights do not depend on the last bits of this machine's arithmetic.
    store(directory, cfg, state, options)
    state["model.norm.weight"] *= float(f"{2.5 / logits(directory, ids)[0].std():.1g}")
    shutil.rmtree(directory)
    store(directory, cfg, state, options)
    want, sharpest = logits(directory, ids)

    rms = want.square().mean().sqrt().item()
    if not 1 < rms < 6 or not torch.isfinite(want).all():
        sys.exit(f"{name}: logits of size {rms}")
    if not ((0.25 < sharpest) & (sharpest < 0.95)).all():
        sys.exit(f"{name}: the strongest attention weights are {sharpest.tolist()} on average")
    note = ""
    for keys, differs in ((options.get("without"), True), (options.get("same without"), False)):
        if keys:
            other = copy.deepcopy(cfg)
            for key in keys:
                other.pop(key)
            if "rope_parameters" in keys:
                other["rope_theta"] = 10000.0
            if "attention_bias" in keys:
                continue  # its tensors would be left over; load checks that they are used
            change = (logits(directory, ids, other)[0] - want).square().mean().sqrt().item() / rms
            note += f", without {keys[0]} {change:.2g} off"
            if (change > 0.02) != differs:
                sys.exit(f"{name}: without {keys} the logits change by {change}")
    save_file({"ids": torch.tensor(ids, dtype=torch.int32), "logits": want.contiguous()}, directory / "expected.safetensors")
    size = sum(f.stat().st_size for f in directory.iterdir())
    print(f"{name}: {size // 1024} KB, logits {rms:.2f}, strongest attention {sharpest.mean():.2f}{note}")


# --- rotary embeddings ------------------------------------------------------------


def rope_config(family, head_dim, positions, old=None, new=None, theta=None, **keys):
    """A config.json in which only the rotary embedding matters, old style or new."""
    cfg = config(family, hidden_size=4 * head_dim, num_attention_heads=4, head_dim=head_dim, max_position_embeddings=positions,
                 rope_theta=theta if theta else DROP, **({"sliding_window": None} if family != "llama" else {}), **keys)
    if old:
        cfg["rope_scaling"] = old
    if new:
        cfg["rope_parameters"] = new
    return cfg


def llama31(factor, original=8192):
    return {"factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": original, "rope_type": "llama3"}


def longrope(dim, kind="longrope", **keys):
    """Factors like those of the Phi models: slowly rising, the long ones to about 60."""
    x = np.linspace(0, 1, dim // 2)
    return {"type": kind, "short_factor": [round(float(v), 4) for v in 1 + 1.8 * x**2],
            "long_factor": [round(float(v), 4) for v in np.exp(4.1 * x**1.3)], **keys}


def rope_cases():
    """(name, config, lengths of the sequence)"""
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    return [
        ("llama 2", rope_config("llama", 128, 4096), [4096]),
        ("afm", rope_config("qwen3", 128, 32768, theta=500000.0), [4096]),
        ("afm, new style", rope_config("qwen3", 128, 32768, new={"rope_theta": 500000.0, "rope_type": "default"}), [4096]),
        ("afm-mini", rope_config("qwen3", 32, 1024, theta=500000.0), [256]),
        ("integer theta", rope_config("qwen2", 64, 32768, theta=1000000), [512]),
        ("llama 3.1", rope_config("llama", 128, 131072, llama31(8.0), theta=500000.0), [512, 100000]),
        ("llama 3.2", rope_config("llama", 64, 131072, llama31(32.0), theta=500000.0), [512]),
        ("llama 3.2, new style", rope_config("llama", 64, 131072, new={**llama31(32.0), "rope_theta": 500000.0}), [512]),
        ("llama 3, original length outside",
         rope_config("llama", 64, 131072, llama31(8.0, 4096), theta=500000.0, original_max_position_embeddings=8192), [512]),
        ("linear", rope_config("llama", 128, 8192, {"type": "linear", "factor": 2.0}, theta=10000.0), [8192]),
        ("linear, rope_type, no theta", rope_config("llama", 64, 8192, {"rope_type": "linear", "factor": 2.5}), [100]),
        ("dynamic", rope_config("llama", 128, 4096, {"type": "dynamic", "factor": 2.0}, theta=10000.0), [100, 4096, 4097, 6000, 16384]),
        ("dynamic, new style",
         rope_config("qwen3", 64, 2048, new={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 500000.0}), [2048, 8192]),
        ("qwen yarn", rope_config("qwen2", 128, 131072, yarn, theta=1000000.0), [512, 100000]),
        ("qwen yarn, positions not raised", rope_config("qwen3", 128, 32768, yarn, theta=1000000.0), [512]),
        ("yarn, base of afm", rope_config("qwen3", 128, 16384, new={"rope_type": "yarn", "rope_theta": 500000.0, "factor": 8.0,
                                          "original_max_position_embeddings": 2048}), [512]),
        ("yarn without an original length", rope_config("llama", 128, 4096, {"type": "yarn", "factor": 16.0}, theta=10000.0), [512]),
        ("yarn, attention_factor", rope_config("llama", 64, 65536, {"rope_type": "yarn", "factor": 16.0, "attention_factor": 1.25,
                                   "original_max_position_embeddings": 4096}, theta=10000.0), [512]),
        ("yarn, mscale", rope_config("llama", 64, 163840, {"type": "yarn", "factor": 40, "mscale": 0.707, "mscale_all_dim": 1.0,
                         "beta_fast": 32, "beta_slow": 1, "original_max_position_embeddings": 4096}, theta=10000.0), [512]),
        ("yarn, mscale alone", rope_config("llama", 64, 163840, {"type": "yarn", "factor": 40, "mscale": 0.707,
                               "original_max_position_embeddings": 4096}, theta=10000.0), [512]),
        ("yarn, not truncated", rope_config("llama", 64, 131072, new={"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0,
                                "beta_slow": 1.0, "truncate": False, "original_max_position_embeddings": 4096,
                                "rope_theta": 150000.0}), [512]),
        ("yarn, narrow ramp", rope_config("llama", 16, 256, {"type": "yarn", "factor": 4.0, "beta_fast": 1.02, "beta_slow": 1.0,
                              "truncate": False, "original_max_position_embeddings": 64}, theta=10000.0), [64]),
        ("yarn, empty ramp", rope_config("llama", 64, 256, {"type": "yarn", "factor": 4.0, "beta_fast": 64, "beta_slow": 32,
                             "original_max_position_embeddings": 8}, theta=10000.0), [64]),
        ("yarn, null factor", rope_config("llama", 64, 16384, {"type": "yarn", "factor": None,
                              "original_max_position_embeddings": 4096}, theta=10000.0), [64]),
        ("phi longrope", rope_config("llama", 96, 131072, longrope(96), theta=10000.0, original_max_position_embeddings=4096),
         [100, 4096, 4097, 50000]),
        ("longrope, original length inside",
         rope_config("llama", 96, 131072, longrope(96, original_max_position_embeddings=4096), theta=10000.0), [4096, 4097]),
        ("longrope, factor", rope_config("llama", 64, 32768, new={**longrope(64, factor=32.0, original_max_position_embeddings=4096),
                             "rope_type": "longrope", "rope_theta": 10000.0}), [100, 5000]),
        ("longrope, attention_factor", rope_config("mistral", 64, 131072, longrope(64, attention_factor=1.19,
                                       original_max_position_embeddings=8192), theta=10000.0), [100, 9000]),
        ("longrope, length not raised", rope_config("llama", 64, 4096, longrope(64), theta=10000.0), [100, 5000]),
        ("rope_scaling before rope_parameters", rope_config("llama", 64, 8192, {"type": "linear", "factor": 2.0},
                                                new={"rope_type": "default", "rope_theta": 500000.0}, theta=10000.0), [100]),
    ]


def rope():
    out = []
    for name, cfg, lengths in rope_cases():
        with tempfile.TemporaryDirectory() as t:
            write_json(pathlib.Path(t) / "config.json", cfg)
            for length in lengths:
                c = AutoConfig.from_pretrained(t)
                kind = c.rope_parameters["rope_type"]
                if kind == "default":
                    head_dim = c.head_dim
                    inv, factor = 1.0 / (c.rope_parameters["rope_theta"] ** (torch.arange(0, head_dim, 2).float() / head_dim)), 1.0
                else:
                    inv, factor = ROPE_INIT_FUNCTIONS[kind](c, torch.device("cpu"), seq_len=length)
                out.append({"name": name, "config": cfg, "head_dim": c.head_dim, "seq_len": length,
                            "attention_factor": factor, "inv_freq": inv.double().tolist()})
    lines = ",\n".join(json.dumps(c) for c in out)
    (TESTDATA / "rope.json").write_text(f"[\n{lines}\n]\n")
    print(f"rope.json: {len(out)} cases")


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def main():
    only = sys.argv[1:]
    for seed, (name, (cfg, options)) in enumerate(MODELS.items()):
        if not only or name in only:
            make(name, cfg, options, seed)
    if not only:
        rope()
        for directory in (TESTDATA / "models").iterdir():
            if directory.name not in MODELS:
                sys.exit(f"{directory} is not one of this script's")
        total = sum(f.stat().st_size for f in (TESTDATA / "models").rglob("*") if f.is_file())
        print(f"testdata/models: {total // 1024} KB")


if __name__ == "__main__":
    main()
