#!/usr/bin/env python3
"""Compares the blocks of `afmq quantize --grid gguf` with those of llama-quantize, in llama.cpp.

    scripts/gguf_quality.py MODEL --calib FILE.jsonl --data FILE [--bytes 82000] [--ctx 256] [--types q2_k,...]
        [--work DIR] [--update PAGE]

Both quantize the projections of MODEL to one type and the embedding to Q6_K, so that the files have
equal sizes but for their metadata: llama-quantize with --pure and an importance matrix that
llama-imatrix makes from the documents of --calib, afmq with --calib. llama-perplexity measures the
mean KL divergence of each file from the F16 model on the first --bytes of the text, with its own
kernels. A row has both divergences and their ratio. A second table compares llama-quantize's
mixtures with what afmq chooses among K types and IQ4_XS, with --max-bytes at the size of the other
file. --update writes the tables to a page between its markers.

Needs Go, cmake and a C++ compiler. llama.cpp is built in --work DIR from the llama-cpp-python sdist
that scripts/bench uses.
"""

import argparse
import json
import os
import pathlib
import re
import sys
import tempfile

from bench import ROOT, build_llama, call

BEGIN, END = "<!-- begin table: made by scripts/gguf_quality.py -->", "<!-- end table -->"
# llama-quantize names some types by mixtures; with --pure all matrices have the type itself.
MIXTURE = {"Q3_K": "Q3_K_S", "Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S"}
DEFAULT = "q2_k,q3_k,iq4_xs,q4_k,q5_k,q6_k"
MIXTURES = "Q2_K,Q3_K_M,Q4_K_M,IQ4_XS"
CHOICE = "q2_k,q3_k,iq4_xs,q4_k,q5_k,q6_k"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("--calib", type=pathlib.Path, required=True)
    p.add_argument("--data", type=pathlib.Path, required=True)
    p.add_argument("--bytes", type=int, default=82000)
    p.add_argument("--ctx", type=int, default=256)
    p.add_argument("--types", default=DEFAULT)
    p.add_argument("--mixtures", default=MIXTURES)
    p.add_argument("--work", type=pathlib.Path)
    p.add_argument("--update", type=pathlib.Path)
    args = p.parse_args()
    page = args.update.read_text() if args.update else ""
    if args.update and (BEGIN not in page or END not in page):
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
    call("cmake", "--build", bins.parent, "-j", os.cpu_count(), "--target", "llama-imatrix", "llama-quantize", "llama-perplexity")
    afmq = work / "afmq"
    call("go", "build", "-o", afmq, "./cmd/afmq", cwd=ROOT)
    source, calib = args.model.resolve(), args.calib.resolve()
    text, words = work / "text.txt", work / "calib.txt"
    text.write_bytes(args.data.read_bytes()[: args.bytes])
    words.write_text("\n\n".join(json.loads(line)["text"] for line in calib.read_text().splitlines()))
    full, imatrix, base = work / "f16.gguf", work / "imatrix.gguf", work / "base.kld"
    for f in (full, imatrix, base):
        f.unlink(missing_ok=True)
    export(afmq, source, full, "--override", ".=16")
    call(bins / "llama-imatrix", "-m", full, "-f", words, "-o", imatrix, "-c", 512, "--chunks", 32, log=True)
    call(bins / "llama-perplexity", "-m", full, "-f", text, "-c", args.ctx, "--kl-divergence-base", base, log=True)

    def divergence(file):
        for _ in range(3):  # llama-perplexity may exit before its last lines are written
            out = call(bins / "llama-perplexity", "-m", file, "-f", text, "-c", args.ctx, "--kl-divergence", "--kl-divergence-base", base, log=True)
            if mean := re.search(r"Mean\s+KLD:\s+([\d.]+)", out):
                return float(mean.group(1))
        sys.exit(f"llama-perplexity prints no mean divergence of {file}:\n{out[-2000:]}")

    own, other = work / "own.gguf", work / "other.gguf"

    def compare(name, kind, llama, flags):
        """Returns a row; flags are those of afmq for the size of the other file."""
        for f in (own, other):
            f.unlink(missing_ok=True)
        call(bins / "llama-quantize", "--imatrix", imatrix, *llama, full, other, kind, log=True)
        export(afmq, source, own, *flags(other.stat().st_size), "--calib", calib)
        theirs, ours = divergence(other), divergence(own)
        print(f"{name}: {theirs} {ours}", file=sys.stderr)
        return f"| {name} | {other.stat().st_size:,} | {own.stat().st_size:,} | {theirs:.6f} | {ours:.6f} | {ours / theirs:.2f} |"

    head = ["bytes, llama-quantize | bytes, afmq | mean KL, llama-quantize | mean KL, afmq | ratio |", "| --- | --- | --- | --- | --- | --- |"]
    lines = ["| type | " + head[0], head[1]]
    pure = ["--pure", "--token-embedding-type", "q6_K"]
    for name in filter(None, args.types.split(",")):
        kind = MIXTURE.get(name.upper(), name.upper())
        lines.append(compare(name, kind, pure, lambda _: ["--types", name]))
    lines += ["", "| mixture | " + head[0], head[1]]
    for name in filter(None, args.mixtures.split(",")):
        lines.append(compare(name, name, [], lambda size: ["--types", CHOICE, "--max-bytes", f"{size}B"]))
    return lines


def export(afmq, model, file, *flags):
    """Quantizes a model to blocks and writes its GGUF file."""
    with tempfile.TemporaryDirectory(dir=file.parent) as d:
        call(afmq, "quantize", model, "--grid", "gguf", *flags, "--out", pathlib.Path(d) / "artifact", "--quiet", log=True)
        call(afmq, "export", pathlib.Path(d) / "artifact", "--to", "gguf", "--out", file, "--quiet", log=True)


if __name__ == "__main__":
    main()
