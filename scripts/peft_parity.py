"""Compares adapters with PEFT: the same adapter on the same weights gives the same figures.

    .venv/bin/python scripts/peft_parity.py ARTIFACT --adapter DIR [--adapter DIR]... --data FILE

It dequantizes ARTIFACT with `afmq dequantize`, loads the checkpoint in transformers in float32
with each adapter strictly in PEFT, and compares the
nats of every window's tokens with `afmq eval-perplexity` of the same checkpoint and
adapter. It then merges the adapter with afmq and with PEFT and compares the merged checkpoints.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parent.parent


def afmq(*args):
    out = subprocess.run([ROOT / ".venv" / "bin" / "afmq-parity", *map(str, args), "--json", "--quiet"], stdout=subprocess.PIPE, text=True)
    answer = json.loads(out.stdout)
    if out.returncode:
        sys.exit(f"afmq {' '.join(map(str, args))}: {answer}")
    return answer


def nats(model, ids, ctx):
    total, count = 0.0, 0
    with torch.no_grad():
        for at in range(0, len(ids), ctx):
            window = ids[at : at + ctx]
            if len(window) < 2:
                break
            logits = model(window[None]).logits[0, :-1].double()
            total += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
            count += len(window) - 1
    return total / count, count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact")
    parser.add_argument("--adapter", action="append", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--ctx", type=int, default=256)
    args = parser.parse_args()
    subprocess.run(["go", "build", "-o", ROOT / ".venv" / "bin" / "afmq-parity", "./cmd/afmq"], cwd=ROOT, check=True)
    failed = False
    with tempfile.TemporaryDirectory() as temp:
        plain = pathlib.Path(temp) / "plain"
        afmq("dequantize", args.artifact, "--out", plain)
        tokenizer = transformers.AutoTokenizer.from_pretrained(plain)
        ids = torch.tensor(tokenizer(pathlib.Path(args.data).read_text(), verbose=False)["input_ids"])
        for i, directory in enumerate(args.adapter):
            base = transformers.AutoModelForCausalLM.from_pretrained(plain, dtype="auto").float()
            stored = load_file(pathlib.Path(directory) / "adapter_model.safetensors")
            model = PeftModel.from_pretrained(base, directory).eval()
            loaded = {k.replace(".default.", "."): v for k, v in model.state_dict().items() if "lora_" in k}
            if set(loaded) != set(stored) or any(not torch.equal(loaded[k], stored[k].float()) for k in stored):
                sys.exit(f"{directory}: PEFT holds other weights than the file")
            want, count = nats(model, ids, args.ctx)
            answer = afmq("eval-perplexity", plain, "--adapter", f"a={directory}", "--allow-unbound", "--data", args.data, "--ctx", args.ctx)
            got = answer["adapters"][0]["nats_per_token"]
            if answer["adapters"][0]["tokens"] != count:
                sys.exit(f"{directory}: {answer['adapters'][0]['tokens']} tokens scored, here {count}")
            worst = abs(got - want) / want
            ok = worst < 1e-6 and got != answer["nats_per_token"]
            failed |= not ok
            print(f"{directory}: nats per token {got:.9f}, PEFT {want:.9f}, relative difference {worst:.1e}: {'ok' if ok else 'FAILED'}")

            merged = pathlib.Path(temp) / f"merged-{i}"
            afmq("dequantize", args.artifact, "--adapter", directory, "--out", merged)
            ours, theirs = load_file(merged / "model.safetensors"), model.merge_and_unload().state_dict()
            off = 0.0
            for k, v in ours.items():
                # fp16 rounding of each sum, and of the weights before it.
                limit = theirs[k].abs().float() * 2**-10 + 2**-14
                off = max(off, ((v.float() - theirs[k].float()).abs() / limit).max().item())
            ok = off <= 1
            failed |= not ok
            print(f"{directory}: merged weights differ by at most {off:.2f} of what rounding allows: {'ok' if ok else 'FAILED'}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
