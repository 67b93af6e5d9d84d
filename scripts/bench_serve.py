"""Compares the speed of `afmq serve` with llama-server, and of lm-evaluation-harness through it with
transformers, and prints tables.

    scripts/bench-serve [--work DIR] [--threads N] [--rounds N] [--model DIR]... [--items FILE]
        [--update PAGE]

Streams: every MODEL (default: a synthetic Llama of 135 M parameters) is palettized at 4 bits for afmq,
and the same values are quantized to Q4_0 for llama-server, which is built from the source that
scripts/bench uses, without AMX: with it, this version ends with an illegal instruction (tilezero) on
the virtual machine that was measured. Both servers have N threads. Requests of 16 random token ids ask for 128 tokens,
one at a time and 8 at the same time. A rate is all generated tokens by the time of all requests; a row
gives medians of --rounds rounds, in which the servers alternate, and the median of each round's
ratio.

Harness: with --items, a file of hellaswag's items, lm_eval scores its choices through
local-completions, 4 requests of 16 prompts at the same time, and with its backend hf on the same
checkpoint in F32, with batches of 16. Both read the tokenizer from the checkpoint. Rates are choices a second, without loading.

Adapters: one process with 1, 8 and 32 adapters of rank 16 over one base: its memory, the time to the
first token when the adapter is that of the request before and when it is another, and the rate of 8
streams that have one adapter and of 8 that have one each.

DIR keeps all files for the next run.
"""

import argparse
import atexit
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from bench import FEATURES, ROOT, call, llama_source

BEGIN, END = "<!-- begin table: made by scripts/bench_serve.py -->", "<!-- end table -->"
NEW, PROMPT = 128, 16  # tokens of an answer and of a prompt


def build_server(work):
    """Returns the folder of llama-server and llama-quantize."""
    source, build = llama_source(work), work / "build"
    if not (build / "bin" / "llama-server").exists():
        flags = set(re.search(r"^flags\s*:(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M).group(1).split())
        options = [f"-DGGML_{option}={'ON' if flag in flags and 'AMX' not in option else 'OFF'}" for flag, option in FEATURES.items()]
        off = ["GGML_NATIVE", "LLAMA_CURL", "LLAMA_OPENSSL", "BUILD_SHARED_LIBS", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_UI"]
        call("cmake", "-S", source, "-B", build, "-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_BUILD_SERVER=ON", *options, *[f"-D{o}=OFF" for o in off])
        call("cmake", "--build", build, "-j", os.cpu_count(), "--target", "llama-server", "llama-quantize")
    return build / "bin"


class Server:
    """A server process on a port of its own."""

    def __init__(self, command, log):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.process = subprocess.Popen([str(c) for c in command] + ["--port", str(self.port)], stdout=log, stderr=log)
        atexit.register(self.process.kill)
        for _ in range(1200):
            if self.process.poll() is not None:
                sys.exit(f"{command[0]} ended with {self.process.returncode}; see {log.name}")
            try:
                if self.get("/health")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        sys.exit(f"{command[0]} does not answer")

    def get(self, path):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        c.request("GET", path)
        r = c.getresponse()
        return r.status, r.read()

    def complete(self, prompt, tokens, model=None):
        """Returns the number of generated tokens."""
        body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        if model:
            body["model"] = model
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        c.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        r = c.getresponse()
        answer = json.loads(r.read())
        if r.status != 200:
            sys.exit(f"status {r.status}: {answer}")
        return answer["usage"]["completion_tokens"]

    def rate(self, streams, rng, vocab, models=None):
        """Returns the tokens per second of so many requests at the same time."""
        prompts = [[rng.randrange(1, vocab) for _ in range(PROMPT)] for _ in range(streams)]
        with concurrent.futures.ThreadPoolExecutor(streams) as pool:
            begun = time.perf_counter()
            done = list(pool.map(lambda i: self.complete(prompts[i], NEW, models and models[i]), range(streams)))
            took = time.perf_counter() - begun
        if done != [NEW] * streams:
            sys.exit(f"{done} tokens were generated, not {NEW} each")
        return sum(done) / took

    def memory(self):
        """Returns the resident set in MB."""
        return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text()).group(1)) / 1e3

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def prepare(work, tool, model):
    """Returns the artifact and the Q4_0 file of a checkpoint."""
    programs = build_server(work)
    artifact, f16, q4 = (work / f"{model.name}{end}" for end in ("-4bit", "-f16.gguf", "-q4_0.gguf"))
    if not artifact.exists():
        call(tool, "quantize", model, "--out", artifact, "--quiet")
    if not q4.exists():
        call(tool, "export", artifact, "--to", "gguf", "--as", "f16", "--out", f16, "--quiet")
        call(programs / "llama-quantize", "--pure", f16, q4, "Q4_0")
        f16.unlink()
    return artifact, q4


def streams(args, work, tool, model, log):
    """Returns rows of the table of streams."""
    artifact, q4 = prepare(work, tool, model)
    vocab = json.loads((model / "config.json").read_text())["vocab_size"]
    ours = Server([tool, "serve", artifact, "--threads", args.threads, "--prefix-cache", 0], log)
    theirs = Server([work / "build/bin/llama-server", "-m", q4, "-t", args.threads, "-tb", args.threads, "-np", 8, "-c", 8 * 256, "--no-webui"], log)
    rows = []
    for n in (1, 8):
        rng = random.Random(n)
        rates = {ours: [], theirs: []}
        for turn in range(args.rounds + 1):
            for s in rates:
                r = s.rate(n, rng, vocab)
                if turn > 0:  # the first warms up
                    rates[s].append(r)
        ratio = statistics.median(a / b for a, b in zip(rates[ours], rates[theirs]))
        rows.append(f"| {model.name} | {n} | {statistics.median(rates[ours]):.0f} | {statistics.median(rates[theirs]):.0f} | {ratio:.2f} |")
        print(rows[-1], flush=True)
    ours.stop()
    theirs.stop()
    return rows


def random_adapter(model, out, rank, seed):
    """Writes a LoRA adapter of random weights on all projections, in PEFT's format."""
    rng, tensors = np.random.default_rng(seed), {}
    for f in model.glob("*.safetensors"):
        with safe_open(f, "numpy") as t:
            for name in t.keys():
                if "_proj.weight" not in name:
                    continue
                rows, cols = t.get_slice(name).get_shape()
                prefix = "base_model.model." + name.removesuffix(".weight")
                tensors[prefix + ".lora_A.weight"] = (rng.standard_normal((rank, cols)) / cols**0.5).astype(np.float16)
                tensors[prefix + ".lora_B.weight"] = (rng.standard_normal((rows, rank)) / 100).astype(np.float16)
    out.mkdir()
    save_file(tensors, out / "adapter_model.safetensors")
    kinds = sorted({n.split(".")[-3] for n in tensors})
    (out / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "target_modules": kinds}))


def adapters(args, work, tool, model, log):
    """Returns rows of the table of adapters."""
    artifact, _ = prepare(work, tool, model)
    vocab = json.loads((model / "config.json").read_text())["vocab_size"]
    folder = work / f"{model.name}-adapters"
    folder.mkdir(exist_ok=True)
    rows, base = [], None
    for n in (0, 1, 8, 32):
        flags = []
        for i in range(n):
            if not (folder / f"a{i}").exists():
                random_adapter(model, folder / f"a{i}", 16, i)
            flags += ["--adapter", f"a{i}={folder / f'a{i}'}"]
        s = Server([tool, "serve", artifact, "--threads", args.threads, "--allow-unbound", "--prefix-cache", 0, *flags], log)
        used = s.memory()
        if n == 0:
            base = used
            s.stop()
            continue
        rng = random.Random(n)
        first = {"same": [], "other": []}
        s.complete([1] * PROMPT, 1, "a0")
        for i in range(1, 61):  # the adapter changes every second time
            begun = time.perf_counter()
            s.complete([rng.randrange(1, vocab) for _ in range(PROMPT)], 1, f"a{i // 2 % n}")
            first["same" if i // 2 % n == (i - 1) // 2 % n else "other"].append(1e3 * (time.perf_counter() - begun))
        one, each = [], []
        for turn in range(args.rounds + 1):
            rates = s.rate(8, rng, vocab, ["a0"] * 8), s.rate(8, rng, vocab, [f"a{i % n}" for i in range(8)])
            if turn > 0:
                one.append(rates[0])
                each.append(rates[1])
        size = sum(f.stat().st_size for f in folder.glob("a0/*.safetensors")) / 1e6
        other = f"{statistics.median(first['other']):.1f}" if first["other"] else ""
        rows.append(f"| {model.name} | {n} | {used - base:.1f} ({n * size:.1f}) | {statistics.median(first['same']):.1f} | {other} | "
                    f"{statistics.median(one):.0f} | {statistics.median(each):.0f} | {statistics.median(e / o for e, o in zip(each, one)):.2f} |")
        print(rows[-1], flush=True)
        s.stop()
    return rows


def harness(args, work, tool, model, log):
    """Returns the row of the table of the harness."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    torch.set_num_threads(args.threads)
    items = [json.loads(line) for line in args.items.read_text().splitlines()]

    def requests(turn):
        """Returns the requests of a round. Each has other items: the server keeps what it has computed."""
        part = items[turn * args.limit : (turn + 1) * args.limit]
        return [Instance("loglikelihood", {}, (d["activity_label"] + ": " + d["ctx"], " " + e), i) for i, d in enumerate(part) for e in d["endings"]]

    s = Server([tool, "serve", model, "--threads", args.threads, "--parallel", 32], log)
    ours = LocalCompletionsAPI(base_url=f"http://127.0.0.1:{s.port}/v1/completions", model=model.name, tokenizer_backend="huggingface", tokenizer=str(model), num_concurrent=4, batch_size=16, max_length=1024)
    theirs = HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=16, max_length=1022)
    rates, answers, gap = {ours: [], theirs: []}, {}, 0
    for turn in range(args.rounds):
        for lm in rates:
            r = requests(turn)
            begun = time.perf_counter()
            answers[lm] = lm.loglikelihood(r, disable_tqdm=True)
            rates[lm].append(len(r) / (time.perf_counter() - begun))
        gap = max([gap, *(abs(a[0] - b[0]) for a, b in zip(answers[ours], answers[theirs]))])
    s.stop()
    ratio = statistics.median(a / b for a, b in zip(rates[ours], rates[theirs]))
    row = f"| {model.name} | {len(requests(0))} | {statistics.median(rates[ours]):.0f} | {statistics.median(rates[theirs]):.0f} | {ratio:.2f} | {gap:.1g} |"
    print(row, flush=True)
    return [row]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", type=pathlib.Path)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--model", type=pathlib.Path, action="append", default=[])
    p.add_argument("--items", type=pathlib.Path)
    p.add_argument("--limit", type=int, default=100, help="items of --items in a round")
    p.add_argument("--parts", default="streams,adapters,harness")
    p.add_argument("--update", type=pathlib.Path)
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as temp:
        work = args.work or pathlib.Path(temp)
        work.mkdir(exist_ok=True, parents=True)
        tool = pathlib.Path(temp, "afmq")
        call("go", "build", "-o", tool, "./cmd/afmq", cwd=ROOT)
        if not args.model:
            args.model = [work / "135m"]
            if not args.model[0].exists():
                call(sys.executable, ROOT / "scripts/make_synthetic_checkpoint.py", args.model[0], "--shape", "135m")
        parts = {
            "streams": ("| model | streams | afmq serve, tokens/s | llama-server Q4_0, tokens/s | ratio |\n| --- | --- | --- | --- | --- |", streams),
            "adapters": ("| model | adapters | memory added, MB (their files) | first token, ms, same adapter | another adapter | tokens/s, 8 streams of one | 8 of 8 | ratio |\n"
                         "| --- | --- | --- | --- | --- | --- | --- | --- |", adapters),
            "harness": ("| model | choices | through afmq serve, choices/s | backend hf, choices/s | ratio | largest difference of log-likelihoods |\n| --- | --- | --- | --- | --- | --- |", harness),
        }
        tables = []
        with open(work / "servers.log", "a") as log:
            for part in args.parts.split(","):
                if part == "harness" and not args.items:
                    continue
                head, measure = parts[part]
                print(head, flush=True)
                tables.append("\n".join([head, *[row for m in args.model for row in measure(args, work, tool, m, log)]]))
        if args.update:
            page = args.update.read_text()
            before, _, rest = page.partition(BEGIN)
            args.update.write_text(before + BEGIN + "\n" + "\n\n".join(tables) + "\n" + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
