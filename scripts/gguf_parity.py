#!/usr/bin/env python3
"""Checks the GGUF files of `afmq export --to gguf` in llama.cpp.

    .venv/bin/python scripts/gguf_parity.py ARTIFACT --data FILE [--bytes N] [--ctx 512] [--adapter NAME=DIR]
        [--pattern REGEX] [--work DIR]
    .venv/bin/python scripts/gguf_parity.py --families [--work DIR]
    .venv/bin/python scripts/gguf_parity.py --tokenizers [--work DIR]
    .venv/bin/python scripts/gguf_parity.py --read MODEL --data FILE [--bytes N] [--ctx 512] [--types F16,Q4_K_M,...]
        [--pattern REGEX] [--work DIR] [--update PAGE]

The first form exports ARTIFACT in F16 and

- reads every tensor with the gguf package and compares it, bit by bit, with the artifact's tensors
  dequantized in numpy;
- converts the dequantized checkpoint with llama.cpp's convert_hf_to_gguf.py and compares tensors
  and keys;
- compares the token ids of the text in llama.cpp with those of the tokenizers package;
- runs llama-perplexity on the first --bytes of the text and compares with
  `afmq eval-perplexity --protocol llamacpp`, with --adapter also with --lora.

--pattern leaves out the lines of the text that do not match it.

The second form takes the checkpoints of pkg/infer/testdata/models, quantizes them to 4 bits and
compares the logits of llama.cpp, in F32 with a float32 cache, with those of transformers for the
tensors that numpy dequantizes; and, with a random adapter, with those of PEFT. It prints what afmq
refuses to export.

The third form exports a model with each tokenizer of pkg/tokenizer/testdata, and one that
SentencePiece trains, and compares the token ids of the texts there and of the documentation in
llama.cpp with those of the tokenizers library. It prints what afmq refuses, and
texts whose ids differ although no note of the export says so.

The fourth form checks that afmq reads GGUF files. It exports the checkpoint MODEL in F16, makes a file of
each type with llama-quantize and one of MODEL with convert_hf_to_gguf.py, and

- compares the perplexity of `afmq eval-perplexity --protocol llamacpp` with that of llama-perplexity on
  the same file, and with that of transformers' GGUF loader in float32, on the first 12,000
  characters and for the token ids that the tokenizers package gives;
- gives MODEL as the reference, for which afmq compares the ids of the text with those of tokenizer.json;
- compares an artifact in blocks with its own file: equal perplexity, equal matrices in `afmq diff`.

--update writes the table to a page between its markers.

Needs scripts/setup-python gguf, cmake and a C++ compiler. llama.cpp is built in --work DIR from the
llama-cpp-python sdist that scripts/bench uses.
"""

import argparse
import copy
import ctypes
import importlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import types
import unicodedata

import gguf
import numpy as np
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file

from bench import FEATURES, call, llama_source
from parity_tools import checkpoints

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMIT = 0.002  # of the ratio of two perplexities
EXACT = 1e-6  # the same, in float32 on both sides
SOME = 12000  # characters of the text that transformers scores, which is slower
BEGIN, END = "<!-- begin table: made by scripts/gguf_parity.py -->", "<!-- end table -->"
TYPES = "F16,BF16,Q4_0,Q4_1,Q5_0,Q5_1,Q8_0,Q2_K,Q3_K_M,Q4_K_M,Q5_K_M,Q6_K,IQ4_NL,IQ4_XS"
# Changes of config.json for a second export of a checkpoint.
VARIANTS = {
    "llama-linear": {"max_position_embeddings": 4096, "rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024, "beta_fast": 9.0, "beta_slow": 2.0, "truncate": False, "attention_factor": 1.25}},
    "qwen2-yarn": {"max_position_embeddings": 4096, "rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024, "attention_factor": 0.9}},
}
TOKENIZER = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "post_processor": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2}, "merges": []},
}


def build(work):
    """Returns the source of llama.cpp and the folder of its libraries and programs."""
    source, out = llama_source(work), work / "shared"
    programs = ["llama-perplexity", "llama-quantize"]
    if not all((out / "bin" / p).exists() for p in programs):
        flags = set(re.search(r"^flags\s*:(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M).group(1).split())
        options = [f"-DGGML_{option}={'ON' if flag in flags else 'OFF'}" for flag, option in FEATURES.items()]
        off = ["GGML_NATIVE", "LLAMA_CURL", "LLAMA_OPENSSL", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_SERVER", "LLAMA_BUILD_EXAMPLES"]
        call("cmake", "-S", source, "-B", out, "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON", *options, *[f"-D{o}=OFF" for o in off])
        call("cmake", "--build", out, "-j", os.cpu_count(), "--target", *programs)
    return source, out / "bin"


class Llama:
    """llama.cpp's library with the declarations of llama-cpp-python."""

    def __init__(self, source, programs):
        os.environ["LLAMA_CPP_LIB_PATH"] = str(programs)
        package = types.ModuleType("llama_cpp")  # without what the package itself needs
        package.__path__ = [str(source.parent.parent / "llama_cpp")]
        sys.modules["llama_cpp"] = package
        self.api = importlib.import_module("llama_cpp.llama_cpp")
        self.quiet = self.api.llama_log_callback(lambda level, text, data: None)
        self.api.llama_log_set(self.quiet, None)
        self.api.llama_backend_init()

    def load(self, path, vocab_only=False):
        p = self.api.llama_model_default_params()
        p.vocab_only = vocab_only
        model = self.api.llama_model_load_from_file(str(path).encode(), p)
        if not model:
            sys.exit(f"llama.cpp does not load {path}")
        return model

    def tokens(self, path, texts, add=True, parse=False):
        """The ids of texts; add and parse are of special tokens."""
        model = self.load(path, vocab_only=True)
        ids = []
        for text in texts:
            data = text.encode()
            out = (ctypes.c_int32 * (4 * len(data) + 8))()
            n = self.api.llama_tokenize(self.api.llama_model_get_vocab(model), data, len(data), out, len(out), add, parse)
            ids.append(list(out[:n]))
        self.api.llama_model_free(model)
        return ids

    def logits(self, path, ids, lora=None):
        """Logits [len(ids), vocab]."""
        model = self.load(path)
        p = self.api.llama_context_default_params()
        p.n_ctx = p.n_batch = p.n_ubatch = -(-len(ids) // 256) * 256
        p.type_k = p.type_v = 0  # F32
        p.flash_attn_type = 0
        context = self.api.llama_init_from_model(model, p)
        if lora:
            adapter = self.api.llama_adapter_lora_init(model, str(lora).encode())
            if not adapter:
                sys.exit(f"llama.cpp does not load {lora}")
            adapters, scales = (type(adapter) * 1)(adapter), (ctypes.c_float * 1)(1)
            assert self.api.llama_set_adapters_lora(context, adapters, 1, scales) == 0
        batch = self.api.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, id in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = id, i, 1, 1
            batch.seq_id[i][0] = 0
        assert self.api.llama_decode(context, batch) == 0
        vocab = self.api.llama_vocab_n_tokens(self.api.llama_model_get_vocab(model))
        out = np.ctypeslib.as_array(self.api.llama_get_logits(context), (len(ids), vocab)).copy()
        self.api.llama_batch_free(batch)
        self.api.llama_free(context)
        self.api.llama_model_free(model)
        return out


def run_afmq(tool, *args):
    done = subprocess.run([str(tool), *map(str, args), "--json", "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return done.returncode, json.loads(done.stdout)


def afmq(tool, *args):
    code, answer = run_afmq(tool, *args)
    if code:
        sys.exit(f"afmq {' '.join(map(str, args))}: {answer}")
    return answer


def dequantize(artifact, name, stored, shape):
    """A tensor of the artifact in float32, by its stored parts."""
    if name in stored:
        return stored[name].float().numpy()
    if name + ".q" in stored:
        return stored[name + ".q"].numpy().astype(np.float32) * stored[name + ".scale"].numpy()[:, None]
    packed, lut = stored[name + ".indices"].numpy(), stored[name + ".lut"].float().numpy()
    bits = lut.shape[1].bit_length() - 1
    rows, cols = shape
    flat = np.unpackbits(packed, axis=1, bitorder="little")[:, : cols * bits].reshape(rows, cols, bits)
    index = (flat.astype(np.int64) << np.arange(bits)).sum(-1)
    group = json.loads((artifact / "manifest.json").read_text())["plan"]["group_rows"]
    w = lut[np.arange(rows)[:, None] // group, index]
    if name + ".row_scale" in stored:
        w = w * stored[name + ".row_scale"].float().numpy()[:, None]
    return w


def tensors(artifact, plain):
    """The tensors of an artifact by name, dequantized in float32."""
    stored = load_file(artifact / "model.safetensors")
    return {k: dequantize(artifact, k, stored, v.shape) for k, v in load_file(plain / "model.safetensors").items()}


def check_tensors(path, artifact, plain, kind):
    """Compares every tensor with the artifact's; kind is that of matrices."""
    config = json.loads((artifact / "config.json").read_text())
    reader = gguf.GGUFReader(path)
    arch = reader.get_field("general.architecture").contents()
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch.upper()], config["num_hidden_layers"])
    got = {t.name: t for t in reader.tensors}
    wanted = tensors(artifact, plain)
    for name, want in wanted.items():
        part = name.split(".")[-2]
        if arch == "llama" and part in ("q_proj", "k_proj"):
            heads = config["num_attention_heads"] if part == "q_proj" else config.get("num_key_value_heads") or config["num_attention_heads"]
            want = want.reshape(heads, 2, -1, *want.shape[1:]).swapaxes(1, 2).reshape(want.shape)
        t = got.pop(names.get_name(name, (".weight", ".bias")))
        of = kind if want.ndim == 2 else np.float32
        if tuple(reversed(t.shape.tolist())) != want.shape or t.data.dtype != of or t.data.tobytes() != want.astype(of).tobytes():
            sys.exit(f"{t.name} differs from {name} of the artifact")
    rest = set(got) - {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}
    if rest:
        sys.exit(f"more tensors than the artifact has: {sorted(rest)}")
    return len(wanted)


CONVERTER = """
import sys
source, pre = sys.argv.pop(1), sys.argv.pop(1)
sys.path[:0] = [source + "/gguf-py", source]
import conversion.base as base
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: pre  # it knows the tokenizers of published models
import convert_hf_to_gguf
convert_hf_to_gguf.main()
"""
# Keys that only one of the two writes, or in its own way.
OURS = {"attention.key_length", "attention.value_length", "vocab_size", "rope.dimension_count"}


def convert(source, path, plain, temp):
    """Converts a checkpoint with llama.cpp's own converter; the pre-tokenizer is that of the file at path."""
    theirs = temp / "theirs.gguf"
    pre = gguf.GGUFReader(path).get_field("tokenizer.ggml.pre").contents()
    call(sys.executable, "-c", CONVERTER, source, pre, plain, "--outfile", theirs, "--outtype", "f16")
    return theirs


def check_converter(source, path, plain, temp):
    """Compares tensors and keys with those of llama.cpp's own converter."""
    ours = gguf.GGUFReader(path)
    theirs = gguf.GGUFReader(convert(source, path, plain, temp))
    a, b = ({t.name: t for t in r.tensors} for r in (ours, theirs))
    if set(a) != set(b):
        sys.exit(f"the converter has other tensors: {sorted(set(a) ^ set(b))}")
    for name in a:
        if a[name].tensor_type != b[name].tensor_type or a[name].data.tobytes() != b[name].data.tobytes():
            sys.exit(f"{name} differs from that of the converter")
    arch = ours.get_field("general.architecture").contents()
    left, right = (
        {k: f.contents() for k, f in r.fields.items() if not re.match(r"GGUF\.|afmq\.|general\.(?!architecture|file_type)", k)}
        for r in (ours, theirs)
    )
    differ = []
    for key in sorted(set(left) | set(right)):
        if key in left and key in right and left[key] == right[key]:
            continue
        if key in left and key not in right and key.removeprefix(arch + ".") in OURS:
            continue
        differ.append(f"{key}: {str(left.get(key))[:60]} here, {str(right.get(key))[:60]} there")
    print(f"convert_hf_to_gguf.py: {len(a)} tensors equal, {len(left) - len(differ)} keys as there" + "".join("\n  " + d for d in differ))


def perplexity(programs, path, text, ctx, lora=None):
    more = ["--lora", lora] if lora else []
    for _ in range(3):  # it may end before its thread for the log has written the last lines
        out = call(programs / "llama-perplexity", "-m", path, "-f", text, "-c", ctx, "-b", ctx, *more, log=True)
        if found := re.search(r"Final estimate: PPL = ([\d.]+)", out):
            return float(found.group(1))
    sys.exit(f"llama-perplexity gives no estimate:\n{out[-2000:]}")


def compare(name, theirs, ours):
    print(f"{name}: perplexity {theirs:.4f} in llama.cpp, {ours:.4f} in afmq, ratio {theirs / ours:.6f}")
    if not abs(theirs / ours - 1) <= LIMIT:
        sys.exit("the perplexities differ")


def check_artifact(args, tool, source, programs, llama, temp):
    artifact = args.artifact.resolve()
    path, plain = temp / "model.gguf", temp / "plain"
    lora = ["--adapter", args.adapter] if args.adapter else []
    r = afmq(tool, "export", artifact, "--to", "gguf", "--as", "f16", "--out", path, *lora)
    afmq(tool, "dequantize", artifact, "--out", plain)
    print(f"{r['architecture']}, tokenizer {r['tokenizer']}, pre-tokenizer {r['pre_tokenizer']}; {r['bytes']} bytes")
    print(f"{check_tensors(path, artifact, plain, np.float16)} tensors equal to the artifact's, bit for bit")
    check_converter(source, path, plain, temp)
    text, data = write_text(args, temp)
    want = tokenizers.Tokenizer.from_file(str(artifact / "tokenizer.json")).encode(data).ids
    [got] = llama.tokens(path, [data])
    if got != want:
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        sys.exit(f"token {at} of {len(want)} differs: {got[at:at + 5]} in llama.cpp, {want[at:at + 5]}")
    print(f"{len(got)} token ids of {len(data.encode())} bytes equal to those of the tokenizers package")
    evaluation = afmq(tool, "eval-perplexity", artifact, "--data", text, "--ctx", args.ctx, "--protocol", "llamacpp", *lora)
    compare("model", perplexity(programs, path, text, args.ctx), evaluation["perplexity"])
    for f, e in zip(r["adapters"], evaluation.get("adapters") or []):
        compare("with " + f["name"], perplexity(programs, path, text, args.ctx, f["file"]), e["perplexity"])


def write_text(args, temp):
    """Writes the part of the text that is used; returns its path and the text."""
    data = args.data.read_bytes()[: args.bytes].decode("utf-8", "ignore")
    if args.pattern:
        data = "".join(line for line in data.splitlines(True) if re.fullmatch(args.pattern, line.rstrip("\n")))
    path = temp / "text.txt"
    path.write_text(data, newline="")
    return path, data


def transformers_perplexity(model, path, windows):
    """The perplexity by the protocol llamacpp, of the weights that transformers' loader gives."""
    config = transformers.AutoConfig.from_pretrained(model)  # the loader ignores attention.key_length
    loaded = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, config=config, dtype=torch.float32).eval()
    nats, count = 0.0, 0
    for ids in windows:
        with torch.no_grad():
            log = torch.log_softmax(loaded(torch.tensor([ids])).logits[0].double(), -1)
        for at in range(len(ids) // 2 + 1, len(ids)):
            nats -= log[at - 1, ids[at]].item()
            count += 1
    return float(np.exp(nats / count))


def check_reading(args, tool, source, programs, temp):
    """Returns the lines of the table."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    model = args.read.resolve()
    text, data = write_text(args, temp)
    encoding = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    some = temp / "some.txt"
    some.write_text(data[:SOME], newline="")
    ids = encoding.encode(data[:SOME]).ids
    first = encoding.encode("").ids  # the token that the post-processor adds, if it does
    windows = [first + ids[i + len(first) : i + args.ctx] for i in range(0, len(ids) - args.ctx + 1, args.ctx)]

    def evaluate(path, text, *more):
        return afmq(tool, "eval-perplexity", path, "--data", text, "--ctx", args.ctx, "--protocol", "llamacpp", *more)

    kept, blocks, full, own = temp / "kept", temp / "blocks", temp / "F16.gguf", temp / "own.gguf"
    afmq(tool, "quantize", model, "--grid", "gguf", "--override", ".=16", "--out", kept)
    afmq(tool, "export", kept, "--to", "gguf", "--out", full)
    lines = ["| type | bytes of the file | perplexity in llama.cpp | afmq | ratio | transformers / afmq, less 1 |", "| --- | --- | --- | --- | --- | --- |"]
    for kind in args.types.split(","):
        path = temp / f"{kind}.gguf"
        if kind != "F16":
            call(programs / "llama-quantize", full, path, kind, log=True)
        theirs, ours = perplexity(programs, path, text, args.ctx), evaluate(path, text, "--reference", model)["perplexity"]
        compare(kind, theirs, ours)
        exact = evaluate(path, some, "--compute", "f32")["perplexity"]
        independent = transformers_perplexity(model, path, windows)
        if not abs(independent / exact - 1) <= EXACT:
            sys.exit(f"{kind}: perplexity {independent} in transformers, {exact} in afmq")
        lines.append(f"| {kind} | {path.stat().st_size:,} | {theirs:.4f} | {ours:.4f} | {theirs / ours:.6f} | {independent / exact - 1:.1e} |")
    print("each file has the token ids of tokenizer.json")
    code, r = run_afmq(tool, "eval-perplexity", convert(source, full, model, temp), "--data", text, "--ctx", args.ctx, "--reference", model)
    print("convert_hf_to_gguf.py: " + (r["error"]["message"].split(": ", 1)[-1] if code else f"the same ids, mean divergence {r['kl']['mean']:.1e}"))
    afmq(tool, "quantize", model, "--grid", "gguf", "--types", args.blocks, "--out", blocks)
    afmq(tool, "export", blocks, "--to", "gguf", "--out", own)
    a, b = (evaluate(path, text, "--compute", "f32")["perplexity"] for path in (blocks, own))
    d = afmq(tool, "diff", blocks, own)
    print(f"artifact in {args.blocks}: perplexity {a!r}, its file {b!r}; {sum(l['same'] for l in d['layers'])} of {len(d['layers'])} matrices equal byte for byte, distance of all weights {d['totals']['weight_distance']}")
    if a != b or not all(l["same"] for l in d["layers"]) or d["totals"]["weight_distance"] != 0:
        sys.exit("the artifact and its file differ")
    return lines


def random_adapter(plain, out):
    """A LoRA adapter of every projection, in PEFT's files."""
    out.mkdir()
    rng = torch.Generator().manual_seed(1)
    tensors = {}
    for name, w in load_file(plain / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            module = "base_model.model." + name.removesuffix(".weight")
            tensors[module + ".lora_A.weight"] = torch.randn(3, w.shape[1], generator=rng) / w.shape[1] ** 0.5
            tensors[module + ".lora_B.weight"] = torch.randn(w.shape[0], 3, generator=rng) * 0.2
    save_file(tensors, out / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 5.0, "bias": "none",
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    }
    (out / "adapter_config.json").write_text(json.dumps(config))


def check_families(tool, llama, temp):
    from peft import PeftModel

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    sources = checkpoints()
    for source, variant in [(s, None) for s in sources] + [(s, VARIANTS[s.name]) for s in sources if s.name in VARIANTS]:
        name = source.name + (" with yarn" if variant else "")
        dir = temp / name
        model, artifact, plain, lora = dir / "model", dir / "artifact", dir / "plain", dir / "lora"
        shutil.copytree(source, model)
        if variant:
            config = json.loads((model / "config.json").read_text())
            (model / "config.json").write_text(json.dumps(config | variant))
        (model / "tokenizer.json").write_text(json.dumps(TOKENIZER))
        lengths = [40]
        if "longrope" in source.name:  # llama.cpp has contexts of multiples of 256
            config = json.loads((model / "config.json").read_text())
            config["rope_scaling"]["original_max_position_embeddings"] = 256
            config["max_position_embeddings"] = 1024
            (model / "config.json").write_text(json.dumps(config))
            lengths = [40, 300]  # with the short and with the long factors
        afmq(tool, "quantize", model, "--bits", "4", "--out", artifact)
        afmq(tool, "dequantize", artifact, "--out", plain)
        random_adapter(plain, lora)
        path = dir / "model.gguf"
        command = ["export", artifact, "--to", "gguf", "--as", "f32", "--out", path, "--adapter", f"r={lora}", "--allow-unbound"]
        code, r = run_afmq(tool, *command)
        if code:
            error = r["error"]
            print(f"{name}: exit code {code}, {error['message'].split(': ', 1)[-1]}")
            context = re.search(r"--ctx (\d+)", error.get("hint") or "")
            if not context:
                continue
            r = afmq(tool, *command, "--ctx", context.group(1))
        check_tensors(path, artifact, plain, np.float32)
        reference = transformers.AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32, attn_implementation="eager")
        reference.load_state_dict({k: torch.tensor(v) for k, v in tensors(artifact, plain).items()}, strict=False)
        adapted = PeftModel.from_pretrained(copy.deepcopy(reference), lora).eval()
        for n in lengths:
            if len(lengths) == 1:
                n = min(n, r["context"])
            ids = np.random.default_rng(3).integers(0, reference.config.vocab_size, n).tolist()
            errors = []
            for theirs, adapter in (reference, None), (adapted, dir / "model-r.gguf"):
                with torch.no_grad():
                    want = theirs(torch.tensor([ids])).logits[0].numpy()
                got = llama.logits(path, ids, adapter)
                errors.append(float(np.abs(got - want).max() / np.abs(want).max()))
            print(f"{name}: {n} tokens, logits within {errors[0]:.1e}, with an adapter {errors[1]:.1e}")
            if not max(errors) < 5e-4:
                sys.exit("the logits differ")


def sentencepiece_model(temp):
    """Vocabulary and merges of a model that SentencePiece trains on the documentation, converted as
    transformers does."""
    import sentencepiece
    from transformers.tokenization_utils_base import generate_merges

    lines = [line for page in sorted((ROOT / "docs").glob("*.md")) for line in page.read_text().splitlines() if line.strip()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(temp / "sp"), model_type="bpe", vocab_size=2000, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(temp / "sp.model"))
    vocab = [model.id_to_piece(i) for i in range(model.vocab_size())]
    return lines, {"vocab": vocab, "merges": [list(m) for m in generate_merges({t: i for i, t in enumerate(vocab)})]}


def concerned(notes, text, added):
    """Whether notes of an export say that the ids of a text may differ."""
    return any(
        "NFC" in n and not unicodedata.is_normalized("NFC", text)
        or "adds a space" in n and (text[:1] in (" ", "▁") or any(a in text for a in added))
        or "expression" in n and any(ord(c) > 127 for c in text)
        or ("added tokens" in n or "special token" in n) and any(a in text for a in added)
        for n in notes
    )


def check_tokenizers(tool, llama, temp):
    testdata = ROOT / "pkg" / "tokenizer" / "testdata"
    golden, vocabularies, texts = (json.loads((testdata / f"{n}.json").read_text()) for n in ("golden", "vocabularies", "texts"))
    for g in list(golden):
        if g["name"] in ("llama3", "o200k"):
            golden.append(g | {"name": g["name"] + " without ignore_merges", "model": {"ignore_merges": False}})
    lines, vocabularies["sentencepiece"] = sentencepiece_model(temp)
    golden.append(next(g for g in golden if g["name"] == "llama2") | {"name": "SentencePiece's own", "vocabulary": "sentencepiece"})
    texts += lines
    base = ROOT / "pkg" / "infer" / "testdata" / "models" / "llama2-f32"
    weights, config = load_file(base / "model.safetensors"), json.loads((base / "config.json").read_text())
    failed = False
    for g in golden:
        v = vocabularies[g["vocabulary"]]
        added = {t["content"]: t["id"] for t in g["parts"].get("added_tokens", [])}
        size = max([len(v["vocab"]), *(i + 1 for i in added.values())])
        vocab, merges = list(v["vocab"]), v["merges"]
        if "Ġ" not in vocab and g["vocabulary"] != "sentencepiece":
            # The vocabularies were cut: merges do not make all tokens, and llama.cpp would.
            made = {t for t in vocab if len(t) == 1}
            for _ in vocab:
                made |= {a + b for a, b in merges if a in made and b in made}
            merges = [m for m in merges if m[0] in made and m[1] in made]
            vocab = [t if t in made or t in added or t[:1] == "<" else chr(0xE000 + i) for i, t in enumerate(vocab)]
        options = {k: o for k, o in g["model"].items() if k != "merges"}
        file = {"version": "1.0", "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(vocab)}, "merges": merges, **options}, **g["parts"]}
        model, artifact, path = temp / g["name"], temp / (g["name"] + "-4bit"), temp / (g["name"] + ".gguf")
        model.mkdir()
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            weights[name] = torch.randn(size, config["hidden_size"])
        save_file(weights, model / "model.safetensors")
        (model / "config.json").write_text(json.dumps(config | {"vocab_size": size}))
        (model / "tokenizer.json").write_text(json.dumps(file))
        afmq(tool, "quantize", model, "--bits", "4", "--out", artifact)
        code, r = run_afmq(tool, "export", artifact, "--to", "gguf", "--as", "f16", "--out", path)
        if code:
            print(f"{g['name']}: exit code {code}, {r['error']['message'].split(': ', 1)[-1]}")
            continue
        if any("no byte tokens" in n for n in r["notes"]):
            print(f"{g['name']}: {r['notes']}")
            continue
        library = tokenizers.Tokenizer.from_str(json.dumps(file))
        pairs = [(t, library.encode(t, add_special_tokens=False).ids) for t in texts]
        differ, excused = [], 0
        for parse in False, True:  # special tokens are parsed where the text has one that was added
            part = [(t, ids) for t, ids in pairs if parse == any(a in t for a in added)]
            for (text, want), got in zip(part, llama.tokens(path, [t for t, _ in part], add=False, parse=parse)):
                if got != want:
                    excused += concerned(r["notes"], text, added)
                    differ += [] if concerned(r["notes"], text, added) else [(text, got, want)]
        print(f"{g['name']}: {r['tokenizer']}, {r['pre_tokenizer']}: {len(pairs)} texts, {excused} differ as noted; notes: {r['notes']}")
        for text, a, b in differ[:6]:
            print(f"  {text[:60]!r}: {a[:8]}, expected {b[:8]}")
        failed |= bool(differ)
    if failed:
        sys.exit("ids differ without a note")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("artifact", type=pathlib.Path, nargs="?")
    p.add_argument("--data", type=pathlib.Path)
    p.add_argument("--bytes", type=int, default=60000, help="of the text")
    p.add_argument("--ctx", type=int, default=512)
    p.add_argument("--adapter", help="NAME=DIR")
    p.add_argument("--pattern", help="of the lines of the text")
    p.add_argument("--families", action="store_true")
    p.add_argument("--tokenizers", action="store_true")
    p.add_argument("--read", type=pathlib.Path, metavar="MODEL")
    p.add_argument("--types", default=TYPES, help="of llama-quantize")
    p.add_argument("--blocks", default="q4_k", help="type of the artifact that is compared with its own file")
    p.add_argument("--update", type=pathlib.Path)
    p.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "llama.cpp")
    args = p.parse_args()
    if bool(args.artifact) + bool(args.read) + args.families + args.tokenizers != 1 or (args.artifact or args.read) and not args.data:
        p.error("give ARTIFACT and --data, --read MODEL and --data, --families or --tokenizers")
    page = args.update.read_text() if args.update else ""
    if args.update and (BEGIN not in page or not args.read):
        p.error(f"--update is for --read and a page with the table of this script, not for {args.update}")
    args.work.mkdir(parents=True, exist_ok=True)
    source, programs = build(args.work.resolve())
    llama = Llama(source, programs)
    with tempfile.TemporaryDirectory() as temp:
        temp = pathlib.Path(temp)
        tool = temp / "afmq"
        call("go", "build", "-o", tool, "./cmd/afmq", cwd=ROOT)
        if args.families:
            check_families(tool, llama, temp)
        elif args.tokenizers:
            check_tokenizers(tool, llama, temp)
        elif args.read:
            lines = check_reading(args, tool, source, programs, temp)
            print("\n".join(lines))
            if args.update:
                head, rest = page.split(BEGIN, 1)
                args.update.write_text(head + BEGIN + "\n" + "\n".join(lines) + "\n" + END + rest.split(END, 1)[1])
        else:
            check_artifact(args, tool, source, programs, llama, temp)


if __name__ == "__main__":
    main()
