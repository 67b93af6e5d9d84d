"""Checkpoints and calibration text, as the script and the programs of all tools read them."""

import json
import random
import shutil

import tokenizers
import torch
from safetensors.torch import load_file, save_file

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def is_projection(name):
    """Whether a tensor is the weight [out, in] of a projection."""
    return name.endswith(tuple(f"{p}.weight" for p in PROJECTIONS))


def tensors(model):
    """Returns the tensors of the checkpoint in a directory, as stored, by name."""
    return {k: v for file in sorted(model.glob("*.safetensors")) for k, v in load_file(file).items()}


def projections(model):
    """Returns the weights of the projections in float32."""
    return {name: w.float() for name, w in tensors(model).items() if is_projection(name)}


def load(model):
    """Returns the model of transformers in float32."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()


def weights_of(module):
    """Returns the weights of the projections of a model of transformers."""
    return {name: w.detach().float().clone() for name, w in module.named_parameters() if is_projection(name)}


def write_checkpoint(model, weights, others, out):
    """Writes a float32 checkpoint of weights and others, with the tokenizer of model."""
    out.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        if (model / name).exists():
            shutil.copy(model / name, out)
    config = json.loads((model / "config.json").read_text())
    config["torch_dtype"] = config["dtype"] = "float32"
    (out / "config.json").write_text(json.dumps(config, indent=1))
    save_file({name: w.float().contiguous() for name, w in (others | weights).items()}, out / "model.safetensors")


def encoded(model, texts):
    """Returns the token ids of texts as afmq joins them: with the end-of-sequence token in between."""
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    end = json.loads((model / "config.json").read_text())["eos_token_id"]
    end = end[0] if isinstance(end, list) else end
    ids = []
    for text in texts:
        ids += [end] * bool(ids) + tokenizer.encode(text).ids
    return ids


def texts(file):
    return [json.loads(line)["text"] for line in file.read_text().splitlines()]


def sequences(model, file, length):
    """Cuts a text into sequences, each a tensor [1, length]."""
    ids = encoded(model, texts(file))
    return [torch.tensor([ids[i : i + length]]) for i in range(0, len(ids) - length + 1, length)]


def choose_text(model, calib, tokens, length, out):
    """Writes beginnings of texts that make `tokens` tokens in whole sequences, and less than one more.

    A program that draws sequences from a longer text would draw others than the next one. Of
    this text all of them take all sequences. Every text has less than a sequence, so that many
    texts take part.
    """
    found = texts(calib)
    random.Random(0).shuffle(found)
    chosen = []
    for text in found:
        chosen.append(cut(model, text, length - 1))
        if len(encoded(model, chosen)) >= tokens:
            break
    else:
        raise SystemExit(f"the texts of {calib}, cut to {length - 1} tokens, have fewer than {tokens}")
    out.write_text("".join(json.dumps({"text": text}) + "\n" for text in chosen))


def cut(model, text, tokens):
    """Returns the beginning of text that its first tokens cover."""
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    offsets = tokenizer.encode(text).offsets
    return text[: offsets[tokens - 1][1]] if len(offsets) > tokens else text
