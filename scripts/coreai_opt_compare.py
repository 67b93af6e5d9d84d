"""Compares afmq with coreai-opt, Apple's compression library for Core AI.

    scripts/setup-python coreai-opt
    .venv/bin/python scripts/coreai_opt_compare.py MODEL --calib FILE --data FILE
        [--bytes N] [--work DIR] [--update docs/devices-apple.md]

Compresses the projections of MODEL with both, at 4, 3 and 2 bits and at 3.5 bits per weight from
these widths, and evaluates all of them with `afmq eval-perplexity` against MODEL. coreai-opt's
weights are written as float32 checkpoints whose other tensors are those of afmq's artifacts, the
8-bit embedding among them. Both calibrate on as many tokens of FILE.

Prints the table, and with --update writes it into the page. The size is that of the indices,
the tables and the scales, the latter two in fp16; coreai-opt computes them in float32, and they
are evaluated so. Times are CPU times.
"""

import argparse
import json
import logging
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
os.environ["TQDM_DISABLE"] = "1"

import numpy
import tokenizers
import torch
import transformers
from coreai_opt import ExportBackend
from coreai_opt.palettization import KMeansPalettizer, KMeansPalettizerConfig
from coreai_opt.quantization import Quantizer, QuantizerConfig
from safetensors import numpy as safetensors

ROOT = pathlib.Path(__file__).resolve().parent.parent
BEGIN = "<!-- begin table: made by scripts/coreai_opt_compare.py -->\n"
END = "<!-- end table -->"
WIDTHS = (4, 3, 2)


@dataclass(frozen=True)
class Palettes:
    """A setting of coreai-opt's KMeansPalettizer."""

    name: str
    rows: int  # that share a table
    scales: bool  # enable_per_channel_scale
    sensitive: bool  # k-means weighted by the squared gradients of calibration_mode


SETTINGS = (
    Palettes("k-means, groups of 32 rows (iOS preset)", 32, False, False),
    Palettes("k-means, groups of 16 rows, row scales", 16, True, False),
    Palettes("sensitive k-means, groups of 16 rows, row scales", 16, True, True),
)
BEST = SETTINGS[-1]  # whose palettes the mixed widths use


@dataclass
class Compressed:
    """The weights of the projections after compression, by module, and their size."""

    weights: dict[str, torch.Tensor]
    bits: dict[str, int]  # of all indices, tables and scales of a module
    seconds: float  # of CPU time

    def per_weight(self):
        return sum(self.bits.values()) / sum(w.numel() for w in self.weights.values())


def load(path):
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def projections(model):
    return {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"}


def sequences(model, calib, tokens, length):
    """Sequences [1, length] of calibration text, `tokens` tokens in all."""
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    chunks = []
    for line in calib.read_text().splitlines():
        ids = tokenizer.encode(json.loads(line)["text"]).ids
        chunks += [ids[i : i + length] for i in range(0, len(ids) - length + 1, length)]
    return [torch.tensor([c]) for c in random.Random(0).sample(chunks, tokens // length)]


def next_token_loss(output, ids):
    return torch.nn.functional.cross_entropy(output.logits[0, :-1], ids[0, 1:])


def linear(**config):
    """A configuration of coreai-opt that applies to the projections alone."""
    return {"global_config": None, "module_type_configs": {"torch.nn.modules.linear.Linear": config}, "module_name_configs": {"lm_head": None}}


def palettizer(model, **spec):
    config = linear(op_state_spec={"weight": spec})
    return KMeansPalettizer(model, KMeansPalettizerConfig.from_dict({"kmeans_palettization_config": config}))


def sensitivities(path, text, out):
    """Writes the squared gradients of all weights at 16 bits, for every setting. Returns the CPU time."""
    begin = time.process_time()
    calibrated = palettizer(load(path), n_bits=1)
    model = calibrated.prepare((text[0],))
    with calibrated.calibration_mode(loss_fn=next_token_loss, sensitivity_path=str(out)) as calibration:
        for ids in text:
            calibration.step(model(ids), ids)
    return time.process_time() - begin


def palettize(path, setting, bits, text, sensitivity):
    """coreai-opt's post-training palettization. `sensitivity` is a file, or None."""
    model = load(path)
    begin = time.process_time()
    grouped = {"type": "per_grouped_channel", "axis": 0, "group_size": setting.rows}
    compressor = palettizer(model, n_bits=bits, granularity=grouped, enable_per_channel_scale=setting.scales)
    model = compressor.prepare((text[0],), sensitivity_path=sensitivity)
    seconds = time.process_time() - begin
    stored = {}
    for name, module in projections(model).items():
        if not torch.nn.utils.parametrize.is_parametrized(module):
            sys.exit(f"{name} has {module.out_features} rows, which groups of {setting.rows} do not divide")
        fake = module.parametrizations.weight[0]
        stored[name] = bits * fake.indices.numel() + 16 * fake.lut.numel()
        if setting.scales:
            stored[name] += 16 * fake.per_channel_scale.numel()
    model = compressor.finalize(model, backend=ExportBackend.Torch)
    return Compressed({n: m.weight.detach() for n, m in projections(model).items()}, stored, seconds)


def quantize_int4(path, text, block=32):
    """The macOS preset of coreai-models: int4, symmetric, a scale for every block of a row."""
    spec = {"dtype": "int4", "qscheme": "symmetric_with_clipping", "granularity": {"type": "per_block", "block_size": block, "axis": 1}}
    config = linear(op_state_spec={"weight": spec}, op_input_spec=None, op_output_spec=None) | {"execution_mode": "eager"}
    model = load(path)
    begin = time.process_time()
    quantizer = Quantizer(model, QuantizerConfig.from_dict({"quantization_config": config}))
    model = quantizer.prepare((text[0],))
    model = quantizer.finalize(model, backend=ExportBackend.Torch)
    seconds = time.process_time() - begin
    weights = {n: m.weight.detach() for n, m in projections(model).items()}
    return Compressed(weights, {n: 4 * w.numel() + 16 * w.numel() // block for n, w in weights.items()}, seconds)


@torch.no_grad()
def mix(path, candidates, target, text):
    """The greedy allocation of coreai-opt's guide to mixed precision.

    Every module alone takes each width, and the PSNR of the logits is measured. The choices are
    applied from the highest PSNR down until the bits per weight are within the target.
    """
    begin = time.process_time()
    model = load(path)
    modules = projections(model)
    baseline = [model(ids).logits for ids in text]
    peak = max(float(b.abs().max()) for b in baseline)
    choices = []
    for name, module in modules.items():
        original = module.weight.data
        for width, candidate in candidates.items():
            module.weight.data = candidate.weights[name]
            error = torch.stack([(model(ids).logits - b).square().mean() for ids, b in zip(text, baseline)]).mean()
            choices.append((10 * float(torch.log10(peak**2 / error)), name, width))
        module.weight.data = original
    chosen = Compressed({n: m.weight.data for n, m in modules.items()}, {n: 16 * m.weight.numel() for n, m in modules.items()}, 0)
    for _, name, width in sorted(choices, reverse=True):
        chosen.weights[name], chosen.bits[name] = candidates[width].weights[name], candidates[width].bits[name]
        if chosen.per_weight() <= target:
            break
    chosen.seconds = time.process_time() - begin + sum(c.seconds for c in candidates.values())
    return chosen


class Table:
    """Evaluates compressed models, each a row of the table."""

    def __init__(self, args, work):
        self.args, self.work, self.rows = args, work, []
        self.binary = work / "afmq"
        subprocess.run(["go", "build", "-o", self.binary, "./cmd/afmq"], cwd=ROOT, check=True)
        self.data = work / "data.txt"
        text = args.data.read_bytes()
        self.data.write_bytes(text[: args.bytes].decode(errors="ignore").encode() if args.bytes else text)
        self.others = None  # the tensors that are not projections, from an artifact

    def afmq(self, *args):
        done = subprocess.run([self.binary, *map(str, args), "--json", "--quiet"], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"afmq {' '.join(map(str, args))}: exit code {done.returncode}\n{done.stdout}")
        return json.loads(done.stdout)

    def add(self, name, width, bits, weights, seconds, model):
        result = self.afmq("eval-perplexity", model, "--reference", self.args.model, "--data", self.data, "--ctx", self.args.ctx)
        row = (name, width, f"{bits / weights:.4f}", f"{bits / 8 / 2**20:.3f}", f"{result['kl']['mean']:.5f}",
               f"{result['perplexity_ratio']:.4f}", f"{seconds:.1f} s")
        print(f"| {' | '.join(row)} |", flush=True)
        self.rows.append(row)
        self.tokens, self.perplexity = result["tokens"], result["reference_perplexity"]

    def artifact(self, name, width, *flags):
        """Adds an artifact of `afmq quantize`."""
        out = self.work / "artifact"
        shutil.rmtree(out, ignore_errors=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = self.afmq("quantize", self.args.model, "--seq-len", self.args.ctx, "--out", out, *flags)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        stored = safetensors.load_file(out / "model.safetensors")
        self.others = {}
        for key, value in stored.items():
            stem = key.removesuffix(".q")
            if stem != key:
                self.others[stem] = value.astype(numpy.float32) * stored[stem + ".scale"][:, None]
            elif not key.endswith((".scale", ".indices", ".lut", ".row_scale")):
                self.others[key] = value.astype(numpy.float32)
        ledger = result["ledger"]
        bits = 8 * (ledger["indices"] + ledger["lut"] + ledger["row_scale"])
        seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        self.add("afmq, " + name, width, bits, bits / result["bpw"]["projections"], seconds, out)

    def checkpoint(self, name, width, compressed, calibration=0):
        """Adds weights of coreai-opt, which `calibration` seconds preceded."""
        out = self.work / "checkpoint"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        shutil.copy(self.args.model / "tokenizer.json", out)
        config = json.loads((self.args.model / "config.json").read_text())
        config["torch_dtype"] = config["dtype"] = "float32"
        (out / "config.json").write_text(json.dumps(config, indent=1))
        weights = {n + ".weight": w.contiguous().numpy() for n, w in compressed.weights.items()}
        safetensors.save_file(self.others | weights, out / "model.safetensors")
        bits, count = sum(compressed.bits.values()), sum(w.size for w in weights.values())
        self.add("coreai-opt, " + name, width, bits, count, calibration + compressed.seconds, out)

    def markdown(self):
        head = ("", "bits", "bits per weight", "MiB", "mean KL", "perplexity ratio", "CPU time")
        lines = [head, ("---",) * len(head), *self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def compare(args, work):
    table = Table(args, work)
    text = sequences(args.model, args.calib, args.tokens, args.ctx)
    calib = ("--calib", args.calib, "--tokens", args.tokens)
    file = work / "sensitivities.pt"
    calibration = sensitivities(args.model, text, file)
    best = {}
    for bits in WIDTHS:
        table.artifact("with text", str(bits), "--bits", bits, *calib)
        table.artifact("no text", str(bits), "--bits", bits)
        for setting in SETTINGS:
            compressed = palettize(args.model, setting, bits, text, str(file) if setting.sensitive else None)
            table.checkpoint(setting.name, str(bits), compressed, calibration if setting.sensitive else 0)
            if setting == BEST:
                best[bits] = compressed
        if bits == 4:
            table.checkpoint("int4, blocks of 32 weights (macOS preset)", "4", quantize_int4(args.model, text))
    widths = ", ".join(map(str, sorted(WIDTHS)))
    table.artifact("with text", "of " + widths, "--bpw", 3.5, "--bits", widths.replace(" ", ""), *calib)
    mixed = mix(args.model, best, 3.5, text[: args.psnr_tokens // args.ctx])
    table.checkpoint("sensitive k-means, row scales, widths by PSNR", "of " + widths, mixed, calibration)
    return table


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("--calib", type=pathlib.Path, required=True, help="JSONL with a key text")
    p.add_argument("--data", type=pathlib.Path, required=True)
    p.add_argument("--bytes", type=int, default=0, help="of the evaluation text; 0 for all")
    p.add_argument("--ctx", type=int, default=256, help="tokens of a window and of a calibration sequence")
    p.add_argument("--tokens", type=int, default=16384, help="of calibration text")
    p.add_argument("--psnr-tokens", type=int, default=2048, help="of these for the mixed widths of coreai-opt")
    p.add_argument("--work", type=pathlib.Path, help="directory for temporary files")
    p.add_argument("--update", type=pathlib.Path, metavar="PAGE", help="write the table into this page")
    args = p.parse_args()
    if args.update and BEGIN not in args.update.read_text():
        sys.exit(f"{args.update} lacks the line {BEGIN.strip()}")
    torch.manual_seed(0)
    torch.set_num_threads(1)  # idle threads spin and would count as CPU time
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        table = compare(args, pathlib.Path(work))
    print(f"{table.tokens} tokens, perplexity at 16 bits {table.perplexity:.4f}")
    if args.update:
        before, rest = args.update.read_text().split(BEGIN)
        args.update.write_text(before + BEGIN + table.markdown() + END + rest.split(END, 1)[1])


if __name__ == "__main__":
    main()
