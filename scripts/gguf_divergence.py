#!/usr/bin/env python3
"""Compares the divergence that llama.cpp measures of exported files with that of eval-perplexity.

    scripts/gguf_divergence.py MODEL --data FILE ARTIFACT[+NAME=DIR]... [--bytes 82000] [--ctx 256]
        [--work DIR] [--update PAGE]

Every ARTIFACT of `quantize --grid gguf` from MODEL, with the adapter in DIR if one is named, is
exported twice: with its blocks, and with --as f32. llama-perplexity measures the mean KL divergence
of both from MODEL in F32 on the first --bytes of the text, and `eval-perplexity --protocol llamacpp`
that of the artifact. llama.cpp rounds activations to 8 bits where weights are blocks, and computes
in float32 where they are F32. --update writes the table to a page between its markers.

Needs Go, cmake and a C++ compiler. llama.cpp is built in --work DIR from the llama-cpp-python sdist
that scripts/bench uses.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from bench import ROOT, build_llama, call

BEGIN, END = "<!-- begin table: made by scripts/gguf_divergence.py -->", "<!-- end table -->"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("artifacts", nargs="+")
    p.add_argument("--data", type=pathlib.Path, required=True)
    p.add_argument("--bytes", type=int, default=82000)
    p.add_argument("--ctx", type=int, default=256)
    p.add_argument("--work", type=pathlib.Path)
    p.add_argument("--update", type=pathlib.Path)
    args = p.parse_args()
    page = args.update.read_text() if args.update else ""
    if args.update and (BEGIN not in page or END not in page.split(BEGIN, 1)[1]):
        p.error(f"{args.update} has no table of this script")
    work = (args.work or pathlib.Path(tempfile.mkdtemp())).resolve()
    work.mkdir(exist_ok=True)
    lines = table(args, work)
    print("\n".join(lines))
    if args.update:
        head, rest = page.split(BEGIN, 1)
        args.update.write_text(head + BEGIN + "\n" + "\n".join(lines) + "\n" + END + rest.split(END, 1)[1])


def table(args, work):
    """Returns the lines of the table."""
    bins = build_llama(work)[1]
    call("cmake", "--build", bins.parent, "-j", os.cpu_count(), "--target", "llama-perplexity")
    tool = work / "afmq"
    call("go", "build", "-o", tool, "./cmd/afmq", cwd=ROOT)
    model, text, base = args.model.resolve(), work / "text.txt", work / "base.kld"
    text.write_bytes(args.data.read_bytes()[: args.bytes])
    base.unlink(missing_ok=True)

    def afmq(*words):
        out = subprocess.run([tool, *map(str, words), "--json", "--quiet"], capture_output=True, text=True)
        if out.returncode:
            sys.exit(out.stderr)
        return json.loads(out.stdout)

    def divergence(path, *lora):
        for _ in range(3):  # llama-perplexity may exit before its last lines are written
            out = call(bins / "llama-perplexity", "-m", path, *lora, "-f", text, "-c", args.ctx, "--kl-divergence", "--kl-divergence-base", base, log=True)
            if mean := re.search(r"Mean\s+KLD:\s+([\d.]+)", out):
                return float(mean.group(1))
        sys.exit(f"llama-perplexity prints no mean divergence of {path}:\n{out[-2000:]}")

    lines = ["| artifact | afmq | llama.cpp, F32 | ratio | llama.cpp, blocks | ratio |", "| --- | --- | --- | --- | --- | --- |"]
    with tempfile.TemporaryDirectory(dir=work) as temp:
        temp = pathlib.Path(temp)
        full = temp / "full.gguf"
        afmq("quantize", model, "--grid", "gguf", "--override", ".=16", "--out", temp / "kept")
        afmq("export", temp / "kept", "--to", "gguf", "--as", "f32", "--out", full)
        call(bins / "llama-perplexity", "-m", full, "-f", text, "-c", args.ctx, "--kl-divergence-base", base, log=True)
        for i, word in enumerate(args.artifacts):
            artifact, _, adapter = word.partition("+")
            lora = ["--adapter", adapter] if adapter else []
            e = afmq("eval-perplexity", artifact, "--data", text, "--ctx", args.ctx, "--protocol", "llamacpp", "--reference", model, "--compute", "f32", *lora)
            ours = (e["adapters"][0] if adapter else e)["kl"]["mean"]
            theirs = []
            for kind in (["--as", "f32"], []):
                path = temp / f"{i}{len(kind)}.gguf"
                r = afmq("export", artifact, "--to", "gguf", *kind, "--out", path, *lora)
                theirs.append(divergence(path, *(["--lora", r["adapters"][0]["file"]] if adapter else [])))
            manifest = json.loads((pathlib.Path(artifact) / "manifest.json").read_text())
            name = ", ".join(manifest["plan"]["choice"].get("forms", ["plan"])) + f", {manifest['bpw']['projections']:.2f} bits"
            if adapter:
                name += ", adapter " + adapter.split("=")[0]
            lines.append(f"| {name} | {ours:.6f} | {theirs[0]:.6f} | {theirs[0] / ours:.3f} | {theirs[1]:.6f} | {theirs[1] / ours:.3f} |")
            print(lines[-1], file=sys.stderr)
    return lines


if __name__ == "__main__":
    main()
