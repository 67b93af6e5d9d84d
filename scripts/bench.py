"""Compares the speed of afmq with other programs and prints a table of ratios.

    scripts/bench [--work DIR] [--threads N] [--rounds N]

It writes a synthetic Llama of 1 B parameters, palettizes it at 4 bits with afmq and quantizes it
to Q4_0 with llama.cpp. llama.cpp is built from the source in the llama-cpp-python sdist, with
the instruction sets that this machine reports enabled by name (a "native" build may use some
that a virtual machine hides). DIR keeps all files for the next run (6 GB).

Programs alternate for --rounds rounds; a row gives the median rate of each and the median of
the ratios of each round. Decode is batch 1 after a short prompt; its share of plain reading is
the bytes of all weights, read once per token, divided by the bandwidth of plain reading in the
same run. Products of matrices are [512, 2048] x [2048, 2048], fp32.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tarfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SDIST = "llama-cpp-python==0.3.36"
# llama.cpp's option for each flag of /proc/cpuinfo.
FEATURES = {
    "avx": "AVX", "avx2": "AVX2", "fma": "FMA", "f16c": "F16C", "bmi2": "BMI2", "avx512f": "AVX512",
    "avx512vbmi": "AVX512_VBMI", "avx512_vnni": "AVX512_VNNI", "avx512_bf16": "AVX512_BF16",
    "amx_tile": "AMX_TILE", "amx_int8": "AMX_INT8", "amx_bf16": "AMX_BF16",
}
TARGETS = ["llama-bench", "llama-perplexity", "llama-quantize"]


def call(*command, log=False, **more):
    """Returns the output of the command; with log, standard error is included."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr if log else done.stdout


def llama_source(work):
    """Returns the source of llama.cpp, downloaded to work unless it is there."""
    found = list(work.glob("llama_cpp_python-*.tar.gz"))
    if not found:
        call(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", SDIST.split("==")[0], SDIST, "-d", work)
        found = list(work.glob("llama_cpp_python-*.tar.gz"))
    source = work / found[0].name.removesuffix(".tar.gz") / "vendor" / "llama.cpp"
    if not source.exists():
        with tarfile.open(found[0]) as t:
            t.extractall(work, filter="data")
    return source


def build_llama(work):
    """Returns the source and the folder of the programs."""
    source = llama_source(work)
    build = work / "build"
    if not all((build / "bin" / t).exists() for t in TARGETS):
        flags = set(re.search(r"^flags\s*:(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M).group(1).split())
        options = [f"-DGGML_{option}={'ON' if flag in flags else 'OFF'}" for flag, option in FEATURES.items()]
        off = ["GGML_NATIVE", "LLAMA_CURL", "LLAMA_OPENSSL", "BUILD_SHARED_LIBS", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_SERVER", "LLAMA_BUILD_EXAMPLES"]
        call("cmake", "-S", source, "-B", build, "-DCMAKE_BUILD_TYPE=Release", *options, *[f"-D{o}=OFF" for o in off])
        call("cmake", "--build", build, "-j", os.cpu_count(), "--target", *TARGETS)
    return source, build / "bin"


def write_gguf(source, model, path):
    """Writes a Llama checkpoint as GGUF in F16, with llama.cpp's own package for the format."""
    sys.path.insert(0, str(source / "gguf-py"))
    import gguf
    import numpy
    import safetensors

    config = json.loads((model / "config.json").read_text())
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    w = gguf.GGUFWriter(path, "llama")
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    w.add_rope_dimension_count(config["head_dim"])
    w.add_rope_freq_base(config["rope_theta"])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_vocab_size(config["vocab_size"])
    tokenizer = json.loads((model / "tokenizer.json").read_text())["model"]
    tokens = [f"<unused{i}>" for i in range(config["vocab_size"])]
    for token, i in tokenizer["vocab"].items():
        tokens[i] = token
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.NORMAL] * len(tokens))
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["merges"]])
    w.add_bos_token_id(0)
    w.add_eos_token_id(0)
    w.add_add_bos_token(False)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    with safetensors.safe_open(model / "model.safetensors", "numpy") as f:
        for name in f.keys():
            a = f.get_tensor(name)
            for part, count in (("q_proj", heads), ("k_proj", kv)):
                if part in name:  # llama.cpp rotates neighbours, Hugging Face halves
                    a = a.reshape(count, 2, -1, a.shape[1]).swapaxes(1, 2).reshape(a.shape)
            w.add_tensor(names.get_name(name, (".weight",)), numpy.ascontiguousarray(a if a.ndim > 1 else a.astype(numpy.float32)))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def prepare(work, tool):
    source, programs = build_llama(work)
    model, artifact = work / "1b", work / "1b-4bit"
    if not model.exists():
        call(sys.executable, ROOT / "scripts" / "make_synthetic_checkpoint.py", model, "--shape", "1b")
    if not artifact.exists():
        call(tool, "quantize", model, "--out", artifact, "--quiet")
    f16, q4 = work / "1b-f16.gguf", work / "1b-q4_0.gguf"
    if not q4.exists():
        write_gguf(source, model, f16)
        call(programs / "llama-quantize", "--pure", f16, q4, "Q4_0")
        f16.unlink()
    text = work / "text.txt"
    if not text.exists():
        text.write_text("The river ran past the old mill and into the town. " * 160)
    return programs, artifact, q4, text


SIZE = 2048  # of the products, which are cubes


def kernels(args):
    """Returns the rates of our kernels and of the machine by name: GB/s and GF/s."""
    pattern = f"Limits|MulT/m={SIZE},n={SIZE},k={SIZE}/(F32|LUT4)/.*/threads={args.threads}$"
    options = ["-test.run", "^$", "-test.bench", pattern, "-test.benchtime", "5x"]
    command = [args.kernel_test, *options] if args.kernel_test else ["go", "test", "./internal/kernel", "-args", *options]
    text = call(*command, env={**os.environ, "GOMAXPROCS": str(args.threads)}, cwd=ROOT)
    rates = {}
    for name, rest in re.findall(r"^Benchmark(\S+?)(?:-\d+)?\s(.*)$", text, re.M):
        for value, unit in re.findall(r"([\d.]+) (\S*G\S/s)", rest):
            if name == "Limits":
                rates[unit.split("-")[0]] = float(value)
            else:
                form, compute = name.split("/")[2:4]
                rates[f"{form} {compute}"] = float(value)
    return rates


def dense_products(threads):
    """Returns GF/s of numpy's OpenBLAS, of PyTorch in fp32 and under bf16 autocast."""
    import numpy
    import torch

    torch.set_num_threads(threads)
    m, n, k = SIZE, SIZE, SIZE
    rng = numpy.random.default_rng(1)
    a, b = rng.standard_normal((m, k), numpy.float32), rng.standard_normal((n, k), numpy.float32)
    ta, tb = torch.from_numpy(a), torch.from_numpy(b)

    def best(f):
        f()
        times = []
        for _ in range(12):
            begun = time.perf_counter()
            f()
            times.append(time.perf_counter() - begun)
        return 2e-9 * m * n * k / min(times)

    def autocast():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.nn.functional.linear(ta, tb)

    with torch.no_grad():
        return best(lambda: a @ b.T), best(lambda: torch.nn.functional.linear(ta, tb)), best(autocast)


def bench_llama(programs, q4, threads, *args):
    out = json.loads(call(programs / "llama-bench", "-m", q4, "-t", threads, "-r", "1", "-o", "json", *args))
    return out[0]["avg_ts"]


def one_round(args, tool, programs, artifact, q4, text):
    ours = kernels(args)
    blas, torch32, torch16 = dense_products(args.threads)
    t = ("--threads", args.threads, "--json", "--quiet")
    rows = [("plain reading, GB/s", ours["stream"], None), ("multiply-adds fp32, GF/s", ours["peak"], None)]
    if "tiles" in ours:
        rows.append(("bfloat16 products on tiles, GF/s", ours["tiles"], None))

    llama_decode = bench_llama(programs, q4, args.threads, "-p", "0", "-n", "64")
    log = call(programs / "llama-perplexity", "-m", q4, "-f", text, "-c", "512", "-t", args.threads, log=True)
    llama_ppl = 512 * int(re.search(r"n_seq=(\d+)", log).group(1)) / float(re.search(r"([\d.]+) seconds per pass", log).group(1))
    weights, llama_weights = ((p.stat().st_size / 1e9) for p in (artifact / "model.safetensors", q4))
    for compute in ("auto", "f32"):
        generated = json.loads(call(tool, "generate", artifact, "--prompt", "The river", "--max-tokens", "64", "--ignore-eos", "--compute", compute, *t))
        decode, name = generated["tokens_per_second"], generated["compute"]
        rows.append((f"decode {name}, share of plain reading: llama.cpp", decode * weights / ours["stream"], llama_decode * llama_weights / ours["stream"]))
        rows.append((f"decode {name}, tokens/s: llama.cpp Q4_0", decode, llama_decode))
    for compute in ("auto", "f32"):
        ppl = json.loads(call(tool, "eval-perplexity", artifact, "--data", text, "--ctx", "512", "--protocol", "llamacpp", "--compute", compute, *t))
        scored = ppl["ctx"] - ppl["ctx"] // 2 - 1  # of each window
        speed = ppl["ctx"] * (ppl["tokens"] / scored) / ppl["seconds"]
        rows.append((f"perplexity {ppl['compute']}, tokens/s: llama-perplexity Q4_0", speed, llama_ppl))

    peers = [("f32", "OpenBLAS", blas), ("f32", "PyTorch", torch32), ("i16", "OpenBLAS, fp32", blas), ("split", "our f32", None), ("bf16", "PyTorch, bf16 autocast", torch16)]
    for form, title in (("F32", "dense"), ("LUT4", "4-bit palette")):
        for compute, peer, rate in peers:
            if f"{form} {compute}" in ours:
                rows.append((f"product {title} {compute}, GF/s: {peer}", ours[f"{form} {compute}"], rate or ours[f"{form} f32"]))
        if "tiles" in ours:
            rows.append((f"product {title} bf16, GF/s: tile peak", ours[f"{form} bf16"], ours["tiles"]))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path.home() / ".cache" / "afmq-bench")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tool", type=pathlib.Path, help="a built afmq, for machines without Go")
    parser.add_argument("--kernel-test", type=pathlib.Path, help="what `go test -c ./internal/kernel` built, likewise")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    tool = args.tool or args.work / "afmq"
    if not args.tool:
        call("go", "build", "-o", tool, "./cmd/afmq", cwd=ROOT)
    prepared = prepare(args.work, tool)
    rounds = [one_round(args, tool, *prepared) for _ in range(args.rounds)]
    print(f"{args.threads} threads, {args.rounds} rounds, medians; the peer is named after the colon\n")
    print("| | afmq | peer | ratio |\n| --- | --- | --- | --- |")
    for row in zip(*rounds, strict=True):
        ours, theirs = statistics.median(r[1] for r in row), [r[2] for r in row if r[2]]
        cells = [f"{statistics.median(theirs):.4g}", f"{statistics.median(r[1] / r[2] for r in row):.2f}"] if theirs else ["", ""]
        print(f"| {row[0][0]} | {ours:.4g} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
