#!/usr/bin/env python3
"""Checks the directories of `afmq export --to compressed-tensors` in transformers and PEFT.

    .venv/bin/python scripts/compressed_parity.py ARTIFACT --data FILE [--bytes 20000] [--ctx 256] [--adapter NAME=DIR]
    .venv/bin/python scripts/compressed_parity.py --families

The first form exports ARTIFACT, loads it with AutoModelForCausalLM, which decompresses it with the
package compressed-tensors, and compares

- every matrix that compressed-tensors decompresses with the artifact dequantized in numpy, bit by
  bit, and what compressed-tensors packs of it with what is in the file;
- the token ids of the tokenizer in the directory with those of afmq;
- the logits in float32 with those of afmq's engine: the largest difference must be at most 0.01;
- the same with an adapter, which PEFT loads.

The second form does so for the checkpoints of pkg/infer/testdata/models, in several bits and groups and
with a random adapter, and prints what afmq refuses.

Needs scripts/setup-python compressed, and Go.
"""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
from peft import PeftModel
from safetensors.torch import load_file

from parity_tools import TOKENIZER, Tools, checkpoints, random_adapter, shapes

LIMIT = 0.01  # of the difference of two logits
FORMS = [("4", "32"), ("3", "32"), ("8", "0"), ("5", "32"), ("2", "0"), ("7", "32"), ("6", "32")]  # --bits, --group


def unpack(words, bits, n):
    """Unpacks n codes from each row of words, which have no gaps."""
    x = np.unpackbits(np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1), axis=1, bitorder="little")
    x = x[:, : n * bits].reshape(len(words), n, bits)
    return (x << np.arange(bits, dtype=np.uint8)).sum(-1, dtype=np.uint8)


def decompressed(out):
    """Returns the weights of a directory in float32, and the scheme of each that compressed-tensors
    decompresses. Which scheme a module has is decided by compressed-tensors."""
    file, settings = load_file(out / "model.safetensors"), json.loads((out / "config.json").read_text())["quantization_config"]
    config = QuantizationConfig(**{k: v for k, v in settings.items() if k != "version"})
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(plain_config(out))
        apply_quantization_config(empty, config, show_progress=False)
    schemes = {n: m.quantization_scheme for n, m in empty.named_modules() if hasattr(m, "quantization_scheme")}
    weights = {k: v.float() for k, v in file.items() if ".weight_" not in k}
    for name, scheme in schemes.items():
        parts = {k: file[f"{name}.{k}"] for k in ("weight_packed", "weight_scale", "weight_shape", "weight_zero_point") if f"{name}.{k}" in file}
        parts["weight_scale"] = parts["weight_scale"].float()
        weights[name + ".weight"] = PackedQuantizationCompressor.decompress(parts, scheme)["weight"]
    return weights, schemes


def plain_config(out):
    """config.json without quantization_config."""
    config = transformers.AutoConfig.from_pretrained(out)
    del config.quantization_config
    return config


def load(out):
    """Returns the model in float32, and how it was loaded. transformers 5.23 makes place for zero points
    that are not packed, so it does not load a model that has them; its weights are then those that
    compressed-tensors decompresses."""
    try:
        model, loading = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, output_loading_info=True)
    except RuntimeError as e:
        if "ignore_mismatched_sizes" not in str(e):
            raise
        model = transformers.AutoModelForCausalLM.from_config(plain_config(out), dtype=torch.float32)
        missing, unexpected = model.load_state_dict(decompressed(out)[0], strict=False)
        if unexpected or set(missing) - {"lm_head.weight"}:
            sys.exit(f"missing {missing}, unexpected {unexpected}")
        model.tie_weights()
        return model.eval(), "decompressed by compressed-tensors, as transformers does not load zero points"
    if loading["missing_keys"] or loading["unexpected_keys"] or loading["mismatched_keys"]:
        sys.exit(f"{out}: {loading}")
    model(torch.tensor([[0]]))  # the first pass decompresses the model
    return model.eval(), "loaded by transformers"


def check_weights(artifact, out):
    """Compares decompressed matrices with the artifact's; returns their number."""
    stored, file, count = load_file(artifact / "model.safetensors"), load_file(out / "model.safetensors"), 0
    weights, schemes = decompressed(out)
    for name, scheme in schemes.items():
        w, weight = scheme.weights, weights[name + ".weight"]
        rows, cols = weight.shape
        form = f"{'' if w.symmetric else 'a'}symmetric{w.num_bits}_" + (f"g{w.group_size}" if w.strategy == "group" else "row")
        q = unpack(stored[f"{name}.weight.{form}"].numpy(), w.num_bits, cols).astype(np.float32)
        scales = stored[f"{name}.weight.scales"].float().numpy()
        zero = np.full((rows, scales.shape[1]), 2 ** (w.num_bits - 1), np.float32)
        if not w.symmetric:
            zero = unpack(stored[f"{name}.weight.zero_points"].numpy().T, w.num_bits, rows).T.astype(np.float32)
        wide = cols // scales.shape[1]
        want = (q - np.repeat(zero, wide, 1)) * np.repeat(scales, wide, 1)
        if not np.array_equal(weight.numpy(), want):
            sys.exit(f"{name}: compressed-tensors decompresses to other values")
        signed = torch.from_numpy((q - 2 ** (w.num_bits - 1)).astype(np.int8))
        if not torch.equal(pack_to_int32(signed, w.num_bits), file[name + ".weight_packed"]):
            sys.exit(f"{name}: compressed-tensors packs otherwise")
        if not w.symmetric:
            signed = torch.from_numpy((zero - 2 ** (w.num_bits - 1)).astype(np.int8))
            if not torch.equal(pack_to_int32(signed, w.num_bits, packed_dim=0), file[name + ".weight_zero_point"]):
                sys.exit(f"{name}: compressed-tensors packs zero points otherwise")
        count += 1
    return count


def windows(model, ids, ctx):
    with torch.no_grad():
        return np.concatenate([model(torch.tensor([ids[i : i + ctx]])).logits[0].float().numpy() for i in range(0, len(ids), ctx)])


def compare(label, model, ids, want, ctx):
    worst = np.abs(windows(model, ids, ctx) - want).max()
    print(f"{label}: {len(ids)} tokens, logits within {worst:.1e} (of {np.abs(want).max():.1f})")
    if not worst <= LIMIT:
        sys.exit("the logits differ")


def check_artifact(tools, artifact, data, size, ctx, adapters, label):
    """Returns why afmq refuses to export an artifact, or None."""
    out = tools.temp / "compressed"
    shutil.rmtree(out, ignore_errors=True)
    code, r = tools.run("export", artifact, "--to", "compressed-tensors", "--out", out, "--allow-unbound", *(x for a in adapters for x in ("--adapter", a)))
    if code:
        return r["error"]["message"].split(": ", 1)[-1]
    count, (model, how) = check_weights(artifact, out), load(out)
    ids, want = tools.logits(artifact, data, size, ctx)
    text = data.read_bytes()[:size].decode("utf-8", "ignore")
    if transformers.AutoTokenizer.from_pretrained(out)(text, verbose=False)["input_ids"] != ids:
        sys.exit(f"{label}: the tokenizer gives other ids")
    schemes = [f"{s['modules']} of {s['bits']} bits, group {s['group_size']}{', zero points' * s['zero_point']}" for s in r["schemes"]]
    print(f"{label}: {count} matrices decompressed alike, the same {len(ids)} ids; {'; '.join(schemes)}; {r['type']}, {r['kept']} kept; notes {r['notes']}")
    compare(f"{label}, {how}", model, ids, want, ctx)
    if count != r["quantized"]:
        sys.exit(f"afmq names {r['quantized']} matrices")
    for item in adapters:
        name, directory = item.split("=", 1)
        ids, want = tools.logits(artifact, data, size, ctx, directory)
        compare(f"{label}, adapter {name}", PeftModel.from_pretrained(load(out)[0], str(out / "adapters" / name)), ids, want, ctx)
    return None


def check_families(tools):
    rng = np.random.default_rng(1)
    data = tools.temp / "text.txt"
    data.write_text("".join(rng.choice(list("abcdefghij "), 60)))
    for i, source in enumerate(checkpoints()):
        model, artifact, adapter = (tools.temp / (kind + source.name) for kind in ("model-", "artifact-", "adapter-"))
        shutil.copytree(source, model)
        (model / "expected.safetensors").unlink()
        (model / "tokenizer.json").write_text(json.dumps(TOKENIZER))
        (model / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        bits, group = FORMS[i % len(FORMS)]
        tools.must("quantize", model, "--grid", "symmetric", "--bits", bits, "--group", group, "--out", artifact, *(["--zero-point"] if i % 2 else []))
        random_adapter(shapes(model), adapter, rng)
        problem = check_artifact(tools, artifact, data, 60, 64, [f"a={adapter}"], source.name)
        if problem:
            print(f"{source.name}: refused: {problem}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("artifact", type=pathlib.Path, nargs="?")
    p.add_argument("--data", type=pathlib.Path)
    p.add_argument("--bytes", type=int, default=20000, help="of the text")
    p.add_argument("--ctx", type=int, default=256)
    p.add_argument("--adapter", action="append", default=[], metavar="NAME=DIR")
    p.add_argument("--families", action="store_true")
    args = p.parse_args()
    if bool(args.artifact) + args.families != 1 or args.artifact and not args.data:
        p.error("give ARTIFACT and --data, or --families")
    transformers.utils.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as temp:
        tools = Tools(pathlib.Path(temp))
        if args.families:
            return check_families(tools)
        problem = check_artifact(tools, args.artifact, args.data, args.bytes, args.ctx, args.adapter, args.artifact.name)
        if problem:
            sys.exit(problem)


if __name__ == "__main__":
    main()
