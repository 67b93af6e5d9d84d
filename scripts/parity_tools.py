"""What mlx_parity.py, compressed_parity.py and gguf_parity.py share: running afmq and its engine, small models."""

import json
import subprocess
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from bench import ROOT, call

# A tokenizer for the checkpoints of pkg/infer/testdata/models, which have none.
TOKENIZER = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "post_processor": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}, "model": {"type": "BPE", "vocab": {chr(97 + i): i for i in range(10)} | {"Ġ": 10}, "merges": []},
}


# The families that exports write; the others are refused.
EXPORTED = ("llama", "mistral", "qwen2", "qwen3")


def checkpoints():
    """The checkpoints of pkg/infer/testdata/models whose families are exported."""
    every = sorted((ROOT / "pkg" / "infer" / "testdata" / "models").iterdir())
    return [d for d in every if json.loads((d / "config.json").read_text())["model_type"] in EXPORTED]


class Tools:
    """afmq and the program of scripts/logits."""

    def __init__(self, temp):
        self.temp, self.afmq, self.engine = temp, temp / "afmq", temp / "logits"
        call("go", "build", "-o", self.afmq, "./cmd/afmq", cwd=ROOT)
        call("go", "build", "-o", self.engine, "./scripts/logits", cwd=ROOT)

    def run(self, *args):
        """Returns the exit code and the JSON object of a command."""
        done = subprocess.run([str(self.afmq), *map(str, args), "--json", "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return done.returncode, json.loads(done.stdout)

    def must(self, *args):
        code, answer = self.run(*args)
        if code:
            sys.exit(f"afmq {' '.join(map(str, args))}: {answer}")
        return answer

    def logits(self, model, data, size, ctx, adapter=None):
        """Returns the ids and logits of a text by the engine."""
        out = self.temp / "logits.safetensors"
        call(self.engine, "-model", model, "-data", data, "-bytes", size, "-ctx", ctx, "-out", out, *(["-adapter", adapter] if adapter else []))
        t = load_file(out)
        return t["ids"].tolist(), t["logits"]


def shapes(model):
    """Returns the shapes of the tensors of a checkpoint."""
    out = {}
    for f in model.glob("*.safetensors"):
        with safe_open(f, "numpy") as x:
            out |= {k: x.get_slice(k).get_shape() for k in x.keys()}
    return out


def random_adapter(weights, out, rng):
    """Writes a LoRA adapter on all projections, with a rank and a scale of its own for one of them."""
    rank, tensors = 4, {}
    for name, shape in weights.items():
        if "_proj.weight" not in name:
            continue
        r = 2 if "layers.1.self_attn.v_proj" in name else rank
        prefix = "base_model.model." + name.removesuffix(".weight")
        tensors[prefix + ".lora_A.weight"] = rng.standard_normal((r, shape[1]), np.float32) / shape[1] ** 0.5
        tensors[prefix + ".lora_B.weight"] = rng.standard_normal((shape[0], r), np.float32) / 4
    out.mkdir()
    save_file(tensors, out / "adapter_model.safetensors")
    kinds = sorted({n.split(".")[-3] for n in tensors})
    (out / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 6, "target_modules": kinds,
        "rank_pattern": {r".*layers\.1\.self_attn\.v_proj": 2}, "alpha_pattern": {}}))
