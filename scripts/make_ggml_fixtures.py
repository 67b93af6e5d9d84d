#!/usr/bin/env python3
"""Makes the test data of pkg/ggml and pkg/gguf with ggml and the gguf package, and checks what
afmq writes with them.

    .venv/bin/python scripts/make_ggml_fixtures.py
        writes pkg/ggml/testdata: random blocks with the values that ggml dequantizes them to,
        and rows with what ggml quantizes them to; and pkg/gguf/testdata: files written by the
        gguf package, and malformed files with the verdict of ggml's reader. Deterministic.

    .venv/bin/python scripts/make_ggml_fixtures.py --fits DIR [--model MODEL]
    AFMQ_GGML_FITS=DIR go test -run TestCompareFits -v ./pkg/ggml
        compares the weighted squared errors of both quantizers: on normal rows, on rows with
        heavy tails and on the matrices of MODEL (safetensors, F16).

    AFMQ_GGUF_OUT=DIR go test -run TestWriteForOthers ./pkg/gguf
    .venv/bin/python scripts/make_ggml_fixtures.py --check DIR
        reads the files that our writer wrote with the gguf package and with ggml, and compares
        metadata, names, shapes, types, bytes and dequantized values.

Needs scripts/setup-python gguf, cmake and a C++ compiler. ggml is built from the llama-cpp-python
sdist that scripts/bench uses, without fused multiplication, in --work DIR.
"""

import argparse
import ctypes
import gzip
import json
import os
import pathlib
import struct
import sys
import tempfile

import gguf
import numpy as np

from bench import call, llama_source

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]
FLOATS = ["F16", "BF16"]
# Where the fp16 scales of a block are.
SCALES = {"Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "Q4_1": [0, 2], "Q5_1": [0, 2]}
HOSTILE = [0x7C00, 0xFC00, 0x7E01, 0xFFFF, 0x7BFF, 0x8000, 0x0001, 0x83FF]  # infinities, NaNs, extremes


class GGML:
    """ggml's conversions and reader, called in its own library."""

    def __init__(self, work):
        source = llama_source(work)
        library = work / "base" / "bin" / "libggml-base.so"
        if not library.exists():
            off = ["GGML_NATIVE", "LLAMA_CURL", "LLAMA_OPENSSL", "LLAMA_BUILD_COMMON", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_TOOLS", "LLAMA_BUILD_SERVER", "LLAMA_BUILD_EXAMPLES"]
            call("cmake", "-S", source, "-B", work / "base", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON", "-DCMAKE_C_FLAGS=-ffp-contract=off", *[f"-D{o}=OFF" for o in off])
            call("cmake", "--build", work / "base", "-j", os.cpu_count(), "--target", "ggml-base")
        self.lib = ctypes.CDLL(str(library))
        self.lib.gguf_init_from_file.restype = ctypes.c_void_p
        self.lib.ggml_quantize_chunk.restype = ctypes.c_size_t

    def dequantize(self, name, data, n):
        out = np.zeros(n, np.float32)
        function = {"F16": "ggml_fp16_to_fp32_row", "BF16": "ggml_bf16_to_fp32_row"}.get(name, "dequantize_row_" + name.lower().replace("_k", "_K"))
        getattr(self.lib, function)(data, out.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(n))
        return out

    def quantize(self, name, x, weights):
        """The bytes of the rows of x, [rows, columns]; weights, [columns], may be None."""
        t = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[t]
        x = np.ascontiguousarray(x, np.float32)
        out = np.zeros(x.size // block * size, np.uint8)
        w = None if weights is None else np.ascontiguousarray(weights, np.float32).ctypes.data_as(ctypes.c_void_p)
        done = self.lib.ggml_quantize_chunk(ctypes.c_int(t), x.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(0), ctypes.c_int64(x.shape[0]), ctypes.c_int64(x.shape[1]), w)
        assert done == out.size
        return out.tobytes()

    def reads(self, path):
        """Whether ggml's reader accepts the header of a file. It runs in a process of its own,
        because it may abort."""
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

            class Params(ctypes.Structure):
                _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]

            os._exit(0 if self.lib.gguf_init_from_file(str(path).encode(), Params(True, None)) else 1)
        return os.waitpid(pid, 0)[1] == 0


def blocks(lib):
    """Records of: type, number of blocks, their bytes, the float32 of their weights."""
    rng = np.random.default_rng(11)
    out = b""
    for name in FLOATS + NAMES:
        t = gguf.GGMLQuantizationType[name]
        weights, size = gguf.GGML_QUANT_SIZES[t]
        count = {1: 4096, 32: 48, 256: 10}[weights]
        data = rng.integers(0, 256, (count, size), np.uint8)
        if weights > 1:
            for i in range(count):
                for at in SCALES.get(name, [0]):
                    # Half of the blocks have scales as models have them, some hostile ones, the
                    # rest any bits.
                    scale = int(np.float16(rng.normal() * 0.01).view(np.uint16)) if i % 2 else HOSTILE[(i // 2 + at) % 8] if i % 4 else None
                    if scale is not None:
                        data[i, at:at + 2] = np.frombuffer(struct.pack("<H", scale), np.uint8)
        values = lib.dequantize(name, data.tobytes(), count * weights)
        out += struct.pack("<II", t, count) + data.tobytes() + values.tobytes()
    return out


def rows(rng, kind, n, columns):
    """Rows of n weights: normal, or with heavy tails and an offset as K cache and norms have."""
    x = rng.normal(size=(n, columns)) if kind == "normal" else rng.standard_t(3, size=(n, columns)) + 0.3
    return (0.02 * x).astype(np.float32)


def fits(lib):
    """Records of: type, rows, columns, importance, weights, ggml's bytes."""
    rng = np.random.default_rng(12)
    out = b""
    n, columns = 4, 512
    importance = rng.lognormal(size=columns).astype(np.float32)
    for kind in "normal", "tails":
        x = rows(rng, kind, n, columns)
        for name in NAMES:
            out += struct.pack("<III", gguf.GGMLQuantizationType[name], n, columns)
            out += importance.tobytes() + x.tobytes() + lib.quantize(name, x, importance)
    return out


def write_gz(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, 9, mtime=0))


def write_all(lib):
    testdata = ROOT / "pkg/ggml/testdata"
    write_gz(testdata / "blocks.bin.gz", blocks(lib))
    write_gz(testdata / "fits.bin.gz", fits(lib))


def read_safetensors(path):
    """The F16 matrices of a safetensors file as float32, by name."""
    blob = np.memmap(path, np.uint8, "r")
    n = struct.unpack("<Q", blob[:8].tobytes())[0]
    out = {}
    for name, t in json.loads(blob[8:8 + n].tobytes()).items():
        if name != "__metadata__" and len(t["shape"]) == 2 and t["dtype"] == "F16":
            begin, end = t["data_offsets"]
            out[name] = blob[8 + n + begin:8 + n + end].view(np.float16).reshape(t["shape"]).astype(np.float32)
    return out


def own_weighting(name, x, importance):
    """The weights, as x, that ggml gives to the errors of a row x in its search."""
    if name in ("Q6_K", "Q8_0"):
        return importance
    block = {"IQ4_NL": 32}.get(name, 256 if name[0] == "I" or name[-1] == "K" else x.size)
    square = np.repeat(np.mean(x.reshape(-1, block) ** 2, axis=1), block)
    return importance * np.sqrt((1 if name == "Q2_K" or block == x.size else 2) * square + x * x)


def write_fits(lib, out, model):
    """For TestCompareFits: for each set and type a file of records like those of fits."""
    rng = np.random.default_rng(13)
    sets = {"normal": rows(rng, "normal", 64, 1024), "tails": rows(rng, "tails", 64, 1024)}
    if model:
        for name, x in read_safetensors(model / "model.safetensors").items():
            if x.shape[1] % 256 == 0 and "embed" not in name and ("layers.0." in name or "layers.5." in name):
                sets[name] = x[:256]
    out.mkdir(parents=True, exist_ok=True)
    for s, x in sets.items():
        importance = rng.lognormal(size=x.shape[1]).astype(np.float32)
        for weighting in "importance", "uniform":
            w = importance if weighting == "importance" else np.ones_like(importance)
            for name in NAMES:
                head = struct.pack("<III", gguf.GGMLQuantizationType[name], *x.shape)
                data = lib.quantize(name, x, w)
                (out / f"{s}.{weighting}.{name}.fit").write_bytes(head + w.tobytes() + x.tobytes() + data)
        for name in NAMES:
            head = struct.pack("<III", gguf.GGMLQuantizationType[name], 1, x.shape[1])
            records = [head + own_weighting(name, row, importance).astype(np.float32).tobytes() + row.tobytes() + lib.quantize(name, row[None], importance) for row in x[:32]]
            (out / f"{s}.own.{name}.fit").write_bytes(b"".join(records))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path.home() / ".cache" / "afmq-bench", help="where ggml is built; that of scripts/bench")
    parser.add_argument("--fits", type=pathlib.Path, metavar="DIR", help="write rows for TestCompareFits")
    parser.add_argument("--model", type=pathlib.Path, help="a checkpoint whose matrices --fits adds")
    parser.add_argument("--check", type=pathlib.Path, metavar="DIR", help="check the files in DIR")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    lib = GGML(args.work)
    if args.fits:
        write_fits(lib, args.fits, args.model)
    elif args.check:
        sys.exit(check(lib, args.check))
    else:
        write_all(lib)


if __name__ == "__main__":
    main()
