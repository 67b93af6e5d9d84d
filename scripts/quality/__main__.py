"""Compares quantizers at equal size: the divergence of a model that each of them quantized.

    .venv/bin/python scripts/quality MODEL --calib FILE.jsonl --data FILE [--slice FROM:TO] [--tokens 16384]
        [--ctx 256] [--tools afmq,...] [--settings TOOL=SETTING,...]... [--python TOOL=PATH]... [--work DIR]
        [--update docs/quality.md]

Every tool quantizes the projections of MODEL at several sizes. Their weights are dequantized into
float32 checkpoints whose other tensors are equal for all: norms as in MODEL, embedding and an untied
head in 8 bits with a scale for each row. `afmq compare`, the evaluator of `afmq eval-perplexity
--reference`, measures each of them against MODEL, on the bytes FROM:TO of --data.

All tools that read text are given the same tokens: --tokens of --calib, in sequences of --ctx.
The size is that of the projections, with scales, tables and zero points.

tool_*.py is the program of a tool, with its settings in the words of the tool. --python TOOL=PATH
runs it with another interpreter, where packages of tools conflict. A tool whose packages are missing
and a setting that a tool refuses are named and left out.

Results are kept in --work DIR, one JSON object a line, and the next run continues after the last.
--update writes the table of the model and its figure, in a directory named as the page, between
the markers of the model.

Needs Go, and scripts/setup-python gguf mlx coreai-opt quality; ggml also cmake and a C++ compiler.
"""

import argparse
import hashlib
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys

import torch
from checkpoints import PROJECTIONS, choose_text, tensors, write_checkpoint
from page import curve, marked, table, update
from plot import figure
from safetensors import safe_open
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Title, and settings; the words of afmq are explained at quantize_afmq.
TOOLS = {
    "afmq": ("afmq", "2 2.5 3 3.5 4 4.5"),
    "ggml": ("llama.cpp, importance matrix", "IQ2_XXS IQ2_S Q2_K IQ3_XXS IQ3_S Q3_K IQ4_XS Q4_K"),
    "gptqmodel": ("GPTQModel", "2/32 3/64 3/32 4/64 4/32"),
    "autoround": ("AutoRound", "2/32 3/32 4/32"),
    "coreai_opt": ("coreai-opt", "2 3 4"),
    "mlx": ("MLX", "2/64 3/64 4/64"),
    "rounding": ("round to nearest", "2/64 3/64 4/64"),
}


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("--calib", type=pathlib.Path, required=True, help="JSONL with a key text")
    p.add_argument("--data", type=pathlib.Path, required=True)
    p.add_argument("--slice", default="0:", metavar="FROM:TO", help="bytes of --data; all")
    p.add_argument("--tokens", type=int, default=16384, help="of calibration text")
    p.add_argument("--ctx", type=int, default=256, help="tokens of a window and of a calibration sequence")
    p.add_argument("--tools", default=",".join(TOOLS))
    p.add_argument("--settings", action="append", default=[], metavar="TOOL=SETTING,...", help="in place of its settings")
    p.add_argument("--python", action="append", default=[], metavar="TOOL=PATH", help="interpreter of a tool")
    p.add_argument("--batch", type=int, default=4, help="quantized models on disk and in memory at a time")
    p.add_argument("--keep", action="store_true", help="keep them in --work, to measure them on another text")
    p.add_argument("--afmq", type=pathlib.Path, help="a built afmq; without it, Go builds it")
    p.add_argument("--work", type=pathlib.Path, default=pathlib.Path.home() / ".cache" / "afmq-quality")
    p.add_argument("--update", type=pathlib.Path, metavar="PAGE")
    args = p.parse_args()
    if unknown := set(args.tools.split(",")) - set(TOOLS):
        p.error(f"no tool {', '.join(sorted(unknown))}")
    args.model = args.model.resolve()
    if args.update and any(m not in args.update.read_text() for m in marked(args.model.name)):
        p.error(f"{args.update} has no table of this script for {args.model.name}")
    return args


class Comparison:
    """The results of one model, which are kept in a file."""

    def __init__(self, args):
        self.args, self.shared = args, args.work.resolve()
        self.work = self.shared / args.model.name
        self.work.mkdir(parents=True, exist_ok=True)
        self.afmq = args.afmq.resolve() if args.afmq else self.shared / "afmq"
        if not args.afmq:
            subprocess.run(["go", "build", "-o", self.afmq, "./cmd/afmq"], cwd=ROOT, check=True)
        self.text, self.calib = self.work / "text.txt", self.work / "calib.jsonl"
        first, last = args.slice.split(":")
        self.text.write_bytes(args.data.read_bytes()[int(first) : int(last) if last else None])
        choose_text(args.model, args.calib, args.tokens, args.ctx, self.calib)
        self.of = digest([self.text, self.calib, *sorted(args.model.glob("*.safetensors"))], args.ctx)
        self.file = self.work / f"results-{self.of[:8]}.jsonl"
        kept, now = self.work / "made" / "of", digest([self.calib, *sorted(args.model.glob("*.safetensors"))], args.ctx)
        if kept.exists() and kept.read_text() != now:  # made of another model or text
            shutil.rmtree(kept.parent)
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(now)
        self.pythons = {tool: os.path.abspath(path) for tool, path in (p.split("=", 1) for p in args.python)}
        self.others = None

    def rows(self):
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    def run(self):
        chosen = dict(s.split("=", 1) for s in self.args.settings)
        for tool in self.args.tools.split(","):
            settings = chosen[tool].split(",") if tool in chosen else TOOLS[tool][1].split()
            done = {r["setting"] for r in self.rows() if r["tool"] == tool}
            left = [s for s in settings if s not in done]
            for i in range(0, len(left), self.args.batch):
                self.measure(tool, left[i : i + self.args.batch])

    def made(self, tool, setting):
        """Returns the directory of a quantized model; what is known of it is beside it."""
        return self.work / "made" / f"{tool}-{setting.replace('/', '-')}"

    def quantize(self, tool, settings):
        """Makes the quantized models of settings that are not there."""
        left = [s for s in settings if not beside(self.made(tool, s)).exists()]
        for setting in left:
            shutil.rmtree(self.made(tool, setting), ignore_errors=True)
        for setting, answer in self.quantize_afmq(left) if tool == "afmq" else self.quantize_other(tool, left):
            beside(self.made(tool, setting)).write_text(json.dumps({"tool": tool, "setting": setting, **answer}))

    def quantize_afmq(self, settings):
        """2 is 2 bits everywhere; others are budgets, from 2, 3 and 4 bits, and above 4 also 5 and 6."""
        for setting in settings:
            flags = ["--bits", setting]
            if setting != "2":
                flags = ["--bpw", setting, "--bpw-of", "projections"]
                flags += ["--bits", "2,3,4,5,6"] if float(setting) > 4 else []
            before = children()
            text = ["--calib", self.calib, "--tokens", self.args.tokens, "--seq-len", self.args.ctx]
            r = self.call("quantize", self.args.model, *flags, *text, "--out", self.made("afmq", setting))
            yield setting, {"bpw": r["bpw"]["projections"], "version": "", "seconds": children() - before}

    def quantize_other(self, tool, settings):
        if not settings:
            return
        answers, common = self.work / "answers", self.work / "made" / tool
        shutil.rmtree(answers, ignore_errors=True)
        for directory in (answers, common):
            directory.mkdir(exist_ok=True)
        command = [self.pythons.get(tool, sys.executable), HERE / f"tool_{tool}.py", self.args.model, self.calib, self.args.ctx, common, answers, *settings]
        with open(self.work / f"{tool}.log", "a") as log:  # GPTQModel writes logs to its working directory, too
            subprocess.run([str(c) for c in command], cwd=self.work, stdout=log, stderr=log, env=os.environ | {"TQDM_DISABLE": "1"})
        for setting in settings:
            file = answers / (setting.replace("/", "-") + ".safetensors")
            if not file.exists():
                print(f"{tool} {setting}: left out; {log.name} says why", file=sys.stderr, flush=True)
                continue
            weights = load_file(file)
            with safe_open(file, "pt") as f:
                answer = json.loads(f.metadata()["answer"])
            write_checkpoint(self.args.model, weights, self.equal_for_all(), self.made(tool, setting))
            file.unlink()
            yield setting, {"bpw": answer.pop("bits") / sum(w.numel() for w in weights.values()), **answer}

    def equal_for_all(self):
        """Returns the tensors that are not projections, as an artifact of afmq has them: the embedding in 8 bits."""
        if self.others is None:
            out = self.work / "made" / "base"
            if not (out / "model.safetensors").exists():
                self.call("quantize", self.args.model, "--bits", 4, "--row-scale=false", "--out", out)
            stored = tensors(out)
            self.others = {n: w for n, w in stored.items() if not any(f".{p}." in n for p in PROJECTIONS)}
            for name in [n for n in self.others if n.endswith(".q")]:
                stem = name.removesuffix(".q")
                self.others[stem] = self.others.pop(name).float() * self.others.pop(stem + ".scale")[:, None]
        return self.others

    def measure(self, tool, settings):
        """Quantizes with settings, and adds their divergence to the results."""
        self.quantize(tool, settings)
        found = {s: self.made(tool, s) for s in settings if beside(self.made(tool, s)).exists()}
        if not found:
            return
        paths = [f"{i}={path}" for i, path in enumerate(found.values())]
        r = self.call("compare", *paths, "--reference", self.args.model, "--data", self.text, "--ctx", self.args.ctx, "--compute", "f32")
        models = {m["name"]: m for m in r["models"]}
        for i, path in enumerate(found.values()):
            d = models[str(i)]["divergence"]
            row = json.loads(beside(path).read_text()) | {
                "kl": d["kl"]["mean"], "kl_se": d["kl_interval"]["se"], "perplexity_ratio": d["perplexity_ratio"],
                "same_top": d["same_top1"], "scored": r["tokens"], "perplexity": r["models"][0]["perplexity"],
            }
            with open(self.file, "a") as out:
                out.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
            if not self.args.keep:
                shutil.rmtree(path)
                beside(path).unlink()

    def call(self, *args):
        done = subprocess.run([str(a) for a in (self.afmq, *args, "--json", "--quiet")], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"afmq {' '.join(map(str, args))}: exit code {done.returncode}\n{done.stdout}")
        return json.loads(done.stdout)

    def update(self, page):
        rows = self.rows()
        names = {t: titled(t, rows) for t in TOOLS if any(r["tool"] == t for r in rows)}
        scored, perplexity = rows[-1]["scored"], rows[-1]["perplexity"]
        name = self.args.model.name
        lines = [(title, points) for t in names for title, points in families(t, [r for r in rows if r["tool"] == t])]
        image = page.with_suffix("") / f"{name}.svg"
        image.parent.mkdir(exist_ok=True)
        image.write_text(figure(lines, f"{name}: divergence by bits per weight"))
        text = f"![{name}: divergence by bits per weight]({image.parent.name}/{image.name})\n\n{table(rows, names)}\n\n"
        text += f"{name}: {scored:,} scored tokens, perplexity at 16 bits {perplexity:.3f}.\n"
        update(page, name, text)


def titled(tool, rows):
    """Returns the title of a tool with its version."""
    title, version = TOOLS[tool][0], next(r["version"] for r in rows if r["tool"] == tool)
    return title if tool in ("afmq", "rounding") else f"{title} ({version})"  # afmq is of the commit of the page


def families(tool, rows):
    """Returns the lines of a tool in the figure, with their titles: the two kinds of llama.cpp's types apart."""
    title = TOOLS[tool][0].split(",")[0]
    if tool != "ggml":
        return [(title, curve(rows))]
    kinds = [(f"{title}, {k} types", curve([r for r in rows if r["setting"].startswith("IQ") == (k == "IQ")])) for k in ("IQ", "K")]
    return [(name, points) for name, points in kinds if points]


def beside(directory):
    """Returns the file that says what is in a directory of a quantized model, once it is complete."""
    return directory.with_name(directory.name + ".json")


def children():
    """Returns the CPU time of all commands so far."""
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return r.ru_utime + r.ru_stime


def digest(files, *more):
    h = hashlib.sha256(repr(more).encode())
    for f in files:
        h.update(f.read_bytes())
    return h.hexdigest()


def main():
    args = options()
    comparison = Comparison(args)
    comparison.run()
    if args.update:
        comparison.update(args.update)


if __name__ == "__main__":
    main()
