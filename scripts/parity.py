"""Compares afmq with Hugging Face transformers on whole texts.

    .venv/bin/python scripts/parity.py eval MODEL... --data FILE [--bytes 40000] [--ctx 128] [--reference MODEL]
    .venv/bin/python scripts/parity.py artifact ARTIFACT --model MODEL [--data FILE]

`eval` computes the figures of every protocol with transformers in float32 from
their definitions and compares them with those of `afmq eval-perplexity`. It fails
if nats per token differ by more than 1e-4 (relative).

`artifact` reads an artifact with the safetensors library and numpy, compares its
dequantized tensors bit by bit with the output of `afmq dequantize`, loads that output
strictly in transformers, and compares a greedy continuation. With --data it also
compares the figures of the dequantized checkpoint.

Token ids come from the tokenizers library and tokenizer.json: the tokenizer
classes of transformers 5 rebuild the pipeline of Llama models and can differ.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy
import tokenizers
import torch
import transformers
from safetensors import safe_open

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMIT = 1e-4  # of the relative difference of nats per token
failures = []


def afmq(binary, *args):
    done = subprocess.run([binary, *map(str, args), "--json", "--quiet"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"afmq {' '.join(map(str, args))}: exit code {done.returncode}\n{done.stdout}")
    return json.loads(done.stdout)


def build():
    binary = pathlib.Path(tempfile.mkdtemp()) / "afmq"
    subprocess.run(["go", "build", "-o", binary, "./cmd/afmq"], cwd=ROOT, check=True)
    return binary


def load(path):
    # In the checkpoint's type first, to which Gemma rounds the scale of its embeddings.
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype="auto", attn_implementation="eager", output_loading_info=True
    )
    missing = set(report["missing_keys"])
    if model.config.tie_word_embeddings:
        missing -= {"lm_head.weight", "model.embed_tokens.weight"}
    if missing or report["unexpected_keys"] or report["mismatched_keys"]:
        sys.exit(f"{path}: transformers does not load all of it: {report}")
    return model.float().eval()


def encode(path, text):
    """Token ids, the number of text bytes of each, and the BOS id if one is added."""
    tokenizer = tokenizers.Tokenizer.from_file(str(pathlib.Path(path) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoding = tokenizer.encode(text)
    bos = encoding.ids[0] if encoding.special_tokens_mask[0] else None
    return encoding.ids, bos


def spans(protocol, n, ctx, stride):
    """(start, end, first scored token) of each window."""
    if protocol == "chunk":
        return [(s, min(s + ctx, n), s + 1) for s in range(0, n, ctx) if min(s + ctx, n) - s > 1]
    if protocol == "llamacpp":
        return [(s, s + ctx, s + ctx // 2 + 1) for s in range(0, n - ctx + 1, ctx)]
    out, scored, k = [], 1, 0
    while scored < n:
        end = min(k * stride + ctx, n)
        out.append((k * stride, end, max(scored, k * stride + 1)))
        scored, k = end, k + 1
    return out


@torch.no_grad()
def figures(model, reference, ids, bos, protocol, ctx, stride):
    nats, ref_nats, kl, same, dp2 = [], [], [], 0, 0.0
    for start, end, first in spans(protocol, len(ids), ctx, stride):
        window = torch.tensor(ids[start:end])
        if protocol == "llamacpp" and bos is not None:
            window[0] = bos
        targets = torch.tensor(ids[first:end])[:, None]
        rows = slice(first - start - 1, end - start - 1)
        p = torch.log_softmax(model(window[None]).logits[0, rows].double(), -1)
        nats += (-p.gather(1, targets)).flatten().tolist()
        if reference is None:
            continue
        q = torch.log_softmax(reference(window[None]).logits[0, rows].double(), -1)
        ref_nats += (-q.gather(1, targets)).flatten().tolist()
        kl += torch.nn.functional.kl_div(p, q, reduction="none", log_target=True).sum(-1).tolist()
        same += int((p.argmax(-1) == q.argmax(-1)).sum())
        dp2 += float((p.gather(1, targets).exp() - q.gather(1, targets).exp()).square().sum())
    nats = numpy.array(nats)
    out = {"tokens": len(nats), "nats_per_token": nats.mean(), "perplexity": math.exp(nats.mean())}
    out["perplexity_se"] = out["perplexity"] * nats.std(ddof=1) / math.sqrt(len(nats))
    if reference is not None:
        ref = math.exp(numpy.mean(ref_nats))
        out |= {"same_top1": same / len(nats), "delta_p_rms": math.sqrt(dp2 / len(nats)),
                "reference_perplexity": ref, "perplexity_ratio": out["perplexity"] / ref, "kl.mean": numpy.mean(kl)}
        for key, q in (("median", 50), ("p99", 99), ("p999", 99.9), ("max", 100)):
            out["kl." + key] = numpy.percentile(kl, q)
    return out


def compare(name, want, got, limits):
    worst = ""
    for key, w in want.items():
        g = got
        for part in key.split("."):
            g = g[part]
        difference = abs(g - w) / max(abs(w), 1e-12)
        if difference > limits.get(key, math.inf):
            failures.append(f"{name}: {key} is {g}, transformers has {w}")
        worst += f"  {key} {g:.7g} ({difference:.0e})"
    print(f"{name}:{worst}", flush=True)


# The divergence and its percentiles are differences of nearly equal numbers.
LIMITS = {"tokens": 0, "nats_per_token": LIMIT, "perplexity": 1e-3, "perplexity_se": 1e-3, "reference_perplexity": 1e-3,
          "perplexity_ratio": 1e-4, "kl.mean": 1e-3, "kl.median": 1e-2, "kl.p99": 1e-2, "kl.p999": 1e-2, "kl.max": 1e-2,
          "same_top1": 1e-3, "delta_p_rms": 1e-3}


def evaluate(binary, paths, data, size, ctx, reference):
    text = pathlib.Path(data).read_bytes()
    text = text[:size].decode(errors="ignore") if size else text.decode()
    ref = load(reference) if reference else None
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "text.txt"
        file.write_bytes(text.encode())
        for path in paths:
            model = load(path)
            ids, bos = encode(path, text)
            for protocol in ("chunk", "llamacpp", "stride"):
                flags = ["--protocol", protocol, "--ctx", ctx]
                flags += ["--stride", ctx // 2 + 1] if protocol == "stride" else []
                flags += ["--reference", reference] if reference else []
                got = afmq(binary, "eval-perplexity", path, "--data", file, *flags)
                want = figures(model, ref, ids, bos, protocol, ctx, ctx // 2 + 1)
                compare(f"{pathlib.Path(path).name} {protocol}", want, got, LIMITS)


def dequantized(stored, name, group):
    """The F16 tensor dequantized from the stored ones, computed with numpy."""
    if name in stored:
        return stored[name].astype(numpy.float16)
    if name + ".q" in stored:
        values = stored[name + ".q"].astype(numpy.float32) * stored[name + ".scale"][:, None]
        return values.astype(numpy.float16)
    packed, lut = stored[name + ".indices"], stored[name + ".lut"]
    bits = int(math.log2(lut.shape[1]))
    flat = numpy.unpackbits(packed, axis=1, bitorder="little")
    cols = flat.shape[1] // bits
    index = (flat[:, : cols * bits].reshape(len(packed), cols, bits) << numpy.arange(bits)).sum(-1)
    values = lut[numpy.arange(len(packed))[:, None] // group, index]
    if name + ".row_scale" in stored:
        values = values.astype(numpy.float32) * stored[name + ".row_scale"].astype(numpy.float32)[:, None]
    return values.astype(numpy.float16)


def as_numpy(tensor):
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def artifact(binary, path, model, data, size, ctx):
    path = pathlib.Path(path)
    group = json.loads((path / "config.json").read_text())["quantization_config"]["group_rows"]
    with safe_open(path / "model.safetensors", "pt") as f:
        stored = {name: as_numpy(f.get_tensor(name)) for name in f.keys()}
    with tempfile.TemporaryDirectory() as folder:
        dense = pathlib.Path(folder) / "dense"
        afmq(binary, "dequantize", path, "--out", dense)
        with safe_open(dense / "model.safetensors", "np") as f:
            names = list(f.keys())
            for name in names:
                got = f.get_tensor(name)
                want = dequantized(stored, name, group)[:, : got.shape[1]] if got.ndim == 2 else stored[name].astype(numpy.float16)
                if got.dtype != numpy.float16 or got.shape != want.shape or not numpy.array_equal(got.view(numpy.uint16), want.view(numpy.uint16)):
                    failures.append(f"{path}: {name} is dequantized to other values")
        print(f"{path.name}: {len(stored)} stored tensors represent the {len(names)} of the dequantized checkpoint")
        loaded = load(dense)
        prompt = "The old man looked at the sea and"
        ids, _ = encode(dense, prompt)
        want = ids[:]
        with torch.no_grad():
            for _ in range(24):
                want.append(int(loaded(torch.tensor([want])).logits[0, -1].argmax()))
        got = afmq(binary, "generate", dense, "--prompt", prompt, "--max-tokens", 24, "--ignore-eos")
        if got["tokens"] != want[len(ids):]:
            failures.append(f"{path}: generates {got['tokens']}, transformers {want[len(ids):]}")
        print(f"{path.name}: {prompt}{got['text']}")
        if data:
            evaluate(binary, [dense], data, size, ctx, model)


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    e = commands.add_parser("eval")
    e.add_argument("models", nargs="+")
    e.add_argument("--reference")
    a = commands.add_parser("artifact")
    a.add_argument("artifact")
    a.add_argument("--model", help="the checkpoint that it was made from, for --data")
    for p in (e, a):
        p.add_argument("--data", required=p is e)
        p.add_argument("--bytes", type=int, default=40000, help="of the text; 0 for all")
        p.add_argument("--ctx", type=int, default=128)
    args = parser.parse_args()
    binary = build()
    if args.command == "eval":
        evaluate(binary, args.models, args.data, args.bytes, args.ctx, args.reference)
    else:
        artifact(binary, args.artifact, args.model, args.data, args.bytes, args.ctx)
    for f in failures:
        print("FAILED", f)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
