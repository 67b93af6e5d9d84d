"""Makes pkg/recovery/testdata: adapters written by PEFT for some of the tiny
checkpoints in pkg/infer/testdata, with the losses, gradients and logits that PyTorch
computes for them in float64, and steps of its AdamW.

    scripts/setup-python && .venv/bin/python scripts/make_recovery_fixtures.py [NAME]...

With names, it makes these and leaves all else as it is.

The teacher of each is the same checkpoint without the adapter. The same seed gives the
same files.
"""

import json
import pathlib
import shutil
import sys

import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = ROOT / "pkg" / "infer" / "testdata" / "models"
OUT = ROOT / "pkg" / "recovery" / "testdata"
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SEQUENCES, LENGTH = 2, 12  # in tokens to predict, unless a case sets others; one more is read
TEMPERATURE, MIX = 2.0, 0.3

# name: checkpoint, arguments of LoraConfig, tokens to predict
CASES = {
    "qwen3": ("qwen3-tied-f16", {"r": 4, "lora_alpha": 8, "target_modules": ALL}),
    "qwen2": ("qwen2-bf16", {"r": 3, "lora_alpha": 5, "use_rslora": True, "target_modules": ALL}),
    "llama": (
        "llama-biases",
        {
            "r": 4,
            "lora_alpha": 4,
            "target_modules": ALL,
            "rank_pattern": {"down_proj": 2, r"layers\.1\.self_attn\..*": 5, "q_proj": 7},
            "alpha_pattern": {r"model\.layers\.0\.mlp\.up_proj": 3},
        },
    ),
    "mistral": ("mistral-bf16", {"r": 2, "lora_alpha": 16, "target_modules": r".*layers\.1.*\.(q|v|down)_proj"}),
    "layers": ("llama3-bf16", {"r": 2, "lora_alpha": 2, "target_modules": ["v_proj", "up_proj"], "layers_to_transform": [1]}),
    "mistral-window": ("mistral-window", {"r": 2, "lora_alpha": 4, "target_modules": ALL}),
    "mistral-window-long": ("mistral-window-long", {"r": 1, "lora_alpha": 2, "target_modules": ["q_proj", "k_proj", "v_proj"]}, 700),
    "qwen2-window": ("qwen2-window", {"r": 2, "lora_alpha": 4, "target_modules": ALL}),
    "smollm3": ("smollm3-tied-bf16", {"r": 1, "lora_alpha": 2, "target_modules": ALL}),
    "granite": ("granite-biases", {"r": 1, "lora_alpha": 2, "target_modules": ALL}),
    "olmo3": ("olmo3-rope-parameters", {"r": 1, "lora_alpha": 2, "target_modules": ALL}),
    "gemma2": ("gemma2-bf16", {"r": 1, "lora_alpha": 2, "target_modules": ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]}),
    "gemma3": ("gemma3-rope-parameters", {"r": 1, "lora_alpha": 2, "target_modules": ALL}),
    "phi4-mini": ("phi4-mini-tied", {"r": 2, "lora_alpha": 4, "target_modules": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]}),
    "qwen3-window": ("qwen3-layer-types", {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "k_proj", "v_proj"]}),
}


def losses(student, teacher, targets):
    """The mean losses of a token: KL at two temperatures and cross-entropy."""

    def kl(t):
        p, q = (torch.log_softmax(x / t, -1) for x in (teacher, student))
        return (p.exp() * (p - q)).sum(-1).mean() * t * t

    ce = torch.nn.functional.cross_entropy(student.flatten(0, 1), targets.flatten())
    return {"kl": kl(1.0), "kl_temperature": kl(TEMPERATURE), "ce": ce, "mix": MIX * kl(TEMPERATURE) + (1 - MIX) * ce}


def make(name, checkpoint, options, length=LENGTH):
    torch.manual_seed(len(name) * 1000 + sum(map(ord, name)))
    # In the checkpoint's type first, to which Gemma rounds the scale of its embeddings.
    base = transformers.AutoModelForCausalLM.from_pretrained(MODELS / checkpoint, dtype="auto", attn_implementation="eager").double()
    ids = torch.randint(3, base.config.vocab_size, (SEQUENCES, length + 1))
    with torch.no_grad():
        teacher = base(ids[:, :-1]).logits
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **options), autocast_adapter_dtype=False)
    for key, p in model.named_parameters():
        if "lora_" in key:
            # float32 numbers, which the file represents exactly.
            p.data = (torch.randn(p.shape) * 0.1).to(torch.float64)
    directory = OUT / name
    shutil.rmtree(directory, ignore_errors=True)
    model.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)
    config = json.loads((directory / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = checkpoint  # no path of the machine that made it
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # PEFT keeps a set
    (directory / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    # The file stores float32.
    weights = {k: v.to(torch.float32).contiguous() for k, v in model.state_dict().items() if "lora_" in k}
    save_file({k.replace(".default.", "."): v for k, v in weights.items()}, directory / "adapter_model.safetensors", {"format": "pt"})

    tensors = {"ids": ids.to(torch.int32)}
    student = model(ids[:, :-1]).logits
    tensors["logits"] = student.detach().to(torch.float32)
    values = losses(student, teacher, ids[:, 1:])
    for kind, value in values.items():
        model.zero_grad()
        value.backward(retain_graph=True)
        tensors["loss." + kind] = value.detach().reshape(1)
        if kind not in ("kl", "mix"):
            continue
        for key, p in model.named_parameters():
            if p.grad is not None:
                tensors[f"{kind}.{key.replace('.default.', '.')}"] = p.grad.to(torch.float32)
    save_file(tensors, directory / "expected.safetensors", {"checkpoint": checkpoint})


def adamw():
    """Four steps of AdamW with clipping, at rates that change."""
    torch.manual_seed(1)
    w = torch.nn.Parameter(torch.randn(1000, dtype=torch.float32))
    tensors = {"start": w.detach().clone()}
    rates, clip = [1e-2, 3e-2, 2e-2, 1e-3], 20.0
    optimizer = torch.optim.AdamW([w], lr=1.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
    for i, rate in enumerate(rates):
        w.grad = torch.randn(1000) * (0.2 if i == 2 else 1.0)
        tensors[f"gradient.{i}"] = w.grad.clone()
        norm = torch.nn.utils.clip_grad_norm_([w], clip)
        tensors[f"norm.{i}"] = norm.reshape(1)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        tensors[f"weights.{i}"] = w.detach().clone()
    tensors["rates"] = torch.tensor(rates)
    save_file(tensors, OUT / "adamw.safetensors", {"clip": str(clip), "weight_decay": "0.1"})


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    names = sys.argv[1:]
    for name in names or CASES:
        make(name, *CASES[name])
    if not names:
        adamw()


if __name__ == "__main__":
    main()
