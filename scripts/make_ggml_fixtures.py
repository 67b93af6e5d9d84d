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
        self.lib.ggml_validate_row_data.restype = ctypes.c_bool

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

    def valid(self, kind, data):
        """Whether ggml finds the numbers in the blocks finite."""
        return self.lib.ggml_validate_row_data(ctypes.c_int(kind), data, ctypes.c_size_t(len(data)))

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
    """n rows of weights: normal, or with heavy tails and an offset."""
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


T = gguf.GGUFValueType
# A value of every type, and arrays.
VALUES = [
    ("a.uint8", T.UINT8, 255, None), ("a.int8", T.INT8, -128, None), ("a.uint16", T.UINT16, 65535, None), ("a.int16", T.INT16, -32768, None),
    ("a.uint32", T.UINT32, 2**32 - 1, None), ("a.int32", T.INT32, -2**31, None), ("a.uint64", T.UINT64, 2**64 - 1, None), ("a.int64", T.INT64, -2**63, None),
    ("a.float32", T.FLOAT32, 0.15625, None), ("a.float64", T.FLOAT64, 1 / 3, None), ("a.true", T.BOOL, True, None), ("a.false", T.BOOL, False, None),
    ("a.string", T.STRING, "größe\n層", None), ("a.empty", T.STRING, "", None),
    ("l.uint8", T.ARRAY, [1, 2, 255], T.UINT8), ("l.int8", T.ARRAY, [-1, 127], T.INT8), ("l.uint16", T.ARRAY, [1, 65535], T.UINT16), ("l.int16", T.ARRAY, [-2], T.INT16),
    ("l.uint32", T.ARRAY, [1, 2], T.UINT32), ("l.int32", T.ARRAY, [-1, 2], T.INT32), ("l.uint64", T.ARRAY, [2**63], T.UINT64), ("l.int64", T.ARRAY, [-5], T.INT64),
    ("l.float32", T.ARRAY, [0.5, -2.0], T.FLOAT32), ("l.float64", T.ARRAY, [0.1], T.FLOAT64), ("l.bool", T.ARRAY, [True, False], T.BOOL), ("l.string", T.ARRAY, ["a", "", "ü"], T.STRING),
]


def write_gguf(path, values, tensors):
    """Writes a file with the gguf package, and what is in it as JSON beside it.

    values: (key, type, value, type of the elements); tensors: (name, type, shape, bytes)."""
    w = gguf.GGUFWriter(path, "test")
    for key, kind, value, element in values:
        if key == "general.alignment":
            w.add_custom_alignment(value)
        else:
            w.add_key_value(key, value, kind, element)
    described = []
    for name, kind, shape, data in tensors:
        t = gguf.GGMLQuantizationType[kind]
        w.add_tensor(name, np.frombuffer(data, np.uint8).reshape(gguf.quant_shape_to_byte_shape(shape, t)), raw_dtype=t)
        described.append({"name": name, "type": kind, "shape": list(shape), "data": data.hex()})
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    metadata = [{"key": "general.architecture", "type": "string", "value": "test"}]
    for key, kind, value, element in values:
        metadata.append({"key": key, "type": (kind.name if element is None else "[]" + element.name).lower(), "value": value})
    text = json.dumps({"metadata": metadata, "tensors": described}, indent=1)
    path.with_suffix(".json").write_text(text + "\n")


def gguf_files(testdata):
    rng = np.random.default_rng(21)
    testdata.mkdir(parents=True, exist_ok=True)
    tensors = []
    for kind, shape in [("F32", (3,)), ("F16", (2, 5)), ("BF16", (1, 2, 3)), ("Q4_0", (2, 32)), ("Q8_0", (1, 1, 2, 32)), ("Q4_K", (1, 256)), ("IQ4_XS", (2, 256)), ("TQ1_0", (1, 256)), ("I32", (4,))]:
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
        tensors.append((f"t.{kind}", kind, shape, rng.integers(0, 256, int(np.prod(shape)) // block * size, np.uint8).tobytes()))
    write_gguf(testdata / "all.gguf", VALUES, tensors)
    write_gguf(testdata / "aligned.gguf", [("general.alignment", T.UINT32, 64, None)], tensors[:4])
    write_gguf(testdata / "none.gguf", [], [])
    return (testdata / "all.gguf").read_bytes()


def malformed(whole):
    """(what is wrong, file): most are one change away from a valid file."""
    def string(s):
        s = s.encode() if isinstance(s, str) else s
        return struct.pack("<Q", len(s)) + s

    def file(*keys, tensors=(), data=b"", version=3, magic=b"GGUF", n_tensors=None, n_keys=None):
        head = magic + struct.pack("<IQQ", version, len(tensors) if n_tensors is None else n_tensors, len(keys) if n_keys is None else n_keys)
        head += b"".join(keys) + b"".join(tensors)
        return head + (b"\0" * (-len(head) % 32) + data if tensors else b"")

    def key(name, kind, value):
        return string(name) + struct.pack("<I", kind) + value

    def tensor(name="t", dims=(8,), kind=0, offset=0):
        return string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)

    one = key("k", T.UINT32, b"\1\0\0\0")
    yield "valid", file(one, tensors=[tensor()], data=bytes(32))
    yield "version 2", file(one, tensors=[tensor()], data=bytes(32), version=2)
    yield "nothing in it", file()
    yield "bytes after the data", file(tensors=[tensor()], data=bytes(100))
    yield "empty file", b""
    yield "three bytes", b"GGU"
    yield "another magic", file(one, magic=b"GGML")
    for version in 0, 1, 4, 1 << 24, 3 << 24:
        yield f"version {version:#x}", file(one, version=version)
    yield "too many keys", file(one, n_keys=2)
    yield "far too many keys", file(one, n_keys=1 << 62)
    yield "negative keys", file(one, n_keys=(1 << 64) - 1)
    yield "too many tensors", file(one, tensors=[tensor()], n_tensors=3)
    yield "far too many tensors", file(one, tensors=[tensor()], n_tensors=1 << 60)
    yield "empty key", file(key("", T.UINT8, b"\1"))
    yield "duplicate key", file(one, one)
    yield "key longer than the file", file(struct.pack("<Q", 1 << 40) + b"k")
    yield "value type 13", file(key("k", 13, bytes(8)))
    yield "value type -1", file(key("k", 0xFFFFFFFF, bytes(8)))
    yield "value cut off", file(key("k", T.UINT64, b"\1\2\3"))
    yield "string longer than the file", file(key("k", T.STRING, struct.pack("<Q", 99) + b"abc"))
    yield "array longer than the file", file(key("k", T.ARRAY, struct.pack("<IQ", T.UINT32, 1 << 61)))
    yield "array of strings longer than the file", file(key("k", T.ARRAY, struct.pack("<IQ", T.STRING, 1 << 30)))
    yield "array of the unknown type 13", file(key("k", T.ARRAY, struct.pack("<IQ", 13, 0)))
    yield "empty array", file(key("k", T.ARRAY, struct.pack("<IQ", T.INT16, 0)))
    yield "array of arrays", file(key("k", T.ARRAY, struct.pack("<IQIQB", T.ARRAY, 1, T.UINT8, 1, 7)))
    yield "bool 2", file(key("k", T.BOOL, b"\2"))
    for n in 0, 3, 48, 1, 16:
        yield f"alignment {n}", file(key("general.alignment", T.UINT32, struct.pack("<I", n)), tensors=[tensor()], data=bytes(64))
    yield "alignment of another type", file(key("general.alignment", T.UINT64, struct.pack("<Q", 32)))
    yield "five dimensions", file(tensors=[tensor(dims=(2, 2, 2, 1, 1))], data=bytes(32))
    yield "no dimensions", file(tensors=[tensor(dims=())], data=bytes(32))
    yield "a dimension of 0", file(tensors=[tensor(dims=(0, 4))], data=b"")
    yield "a negative dimension", file(tensors=[tensor(dims=((1 << 64) - 8,))], data=bytes(32))
    yield "too many elements", file(tensors=[tensor(dims=(1 << 32, 1 << 32))], data=bytes(32))
    yield "too many elements, then 0", file(tensors=[tensor(dims=(1 << 32, 1 << 32, 0))], data=bytes(32))
    yield "part of a block", file(tensors=[tensor(dims=(33,), kind=2)], data=bytes(64))
    yield "no dimensions of Q4_0", file(tensors=[tensor(dims=(), kind=2)], data=bytes(64))
    for kind in 4, 31, 36, 43, 1000, 0xFFFFFFFF:
        yield f"tensor type {kind}", file(tensors=[tensor(kind=kind, dims=(256,))], data=bytes(2048))
    yield "duplicate tensor", file(tensors=[tensor(), tensor(offset=32)], data=bytes(64))
    yield "two tensors", file(tensors=[tensor(), tensor("u", offset=32)], data=bytes(64))
    yield "overlap", file(tensors=[tensor(), tensor("u", offset=0)], data=bytes(64))
    yield "gap", file(tensors=[tensor(), tensor("u", offset=64)], data=bytes(96))
    yield "unaligned offset", file(tensors=[tensor(dims=(2,)), tensor("u", offset=8)], data=bytes(64))
    yield "name of 63 bytes", file(tensors=[tensor("n" * 63)], data=bytes(32))
    yield "name of 64 bytes", file(tensors=[tensor("n" * 64)], data=bytes(32))
    yield "no name", file(tensors=[tensor("")], data=bytes(32))
    yield "data cut off", file(tensors=[tensor()], data=bytes(31))
    yield "last padding missing", file(tensors=[tensor(dims=(2,))], data=bytes(8))
    yield "no data, no padding", file(tensors=[tensor(dims=(0,))])[:-1]
    for n in range(4, 1800, 61):
        yield f"cut at {n}", whole[:n]


def verdicts(lib, whole):
    """Malformed and unusual files, and whether ggml's reader accepts their headers."""
    out = []
    with tempfile.TemporaryDirectory() as tmp:
        path = pathlib.Path(tmp) / "f.gguf"
        for name, data in malformed(whole):
            path.write_bytes(data)
            out.append({"name": name, "accepts": lib.reads(path), "file": data.hex()})
    return json.dumps(out, indent=0).encode()


def check(lib, directory):
    """Compares files that our writer wrote with what it was given. Returns the exit status."""
    failures = 0
    paths = sorted(directory.glob("*.gguf"))
    for path in paths:
        want = json.loads(path.with_suffix(".json").read_text())
        reader = gguf.GGUFReader(path)
        problems = [] if lib.reads(path) else ["ggml does not read it"]
        fields = {k: f for k, f in reader.fields.items() if not k.startswith("GGUF.")}
        if list(fields) != [m["key"] for m in want["metadata"]]:
            problems.append(f"keys {list(fields)}")
        for m in want["metadata"]:
            f = fields[m["key"]]
            kind = "[]" + f.types[-1].name.lower() if f.types[0] == T.ARRAY else f.types[0].name.lower()
            if kind != m["type"] or f.contents() != m["value"]:
                problems.append(f"key {m['key']}: {kind} {f.contents()!r}")
        if [t.name for t in reader.tensors] != [t["name"] for t in want["tensors"]]:
            problems.append(f"tensors {[t.name for t in reader.tensors]}")
        for t, w in zip(reader.tensors, want["tensors"]):
            if t.tensor_type.name != w["type"] or [int(n) for n in reversed(t.shape)] != w["shape"] or t.data.tobytes() != bytes.fromhex(w["data"]):
                problems.append(f"tensor {t.name}: {t.tensor_type.name} {t.shape}")
            elif "weights" in w:
                values = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
                if not np.array_equal(values.reshape(-1), np.frombuffer(bytes.fromhex(w["weights"]), np.float32), equal_nan=True):
                    problems.append(f"tensor {t.name}: other values")
                if not lib.valid(t.tensor_type, t.data.tobytes()):
                    problems.append(f"tensor {t.name}: ggml finds its blocks invalid")
        for p in problems:
            print(f"{path}: {p}")
        failures += len(problems)
    print(f"{len(paths)} files, {failures} differences")
    return 1 if failures or not paths else 0


def write_gz(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, 9, mtime=0))


def write_all(lib):
    testdata = ROOT / "pkg/ggml/testdata"
    write_gz(testdata / "blocks.bin.gz", blocks(lib))
    write_gz(testdata / "fits.bin.gz", fits(lib))
    testdata = ROOT / "pkg/gguf/testdata"
    write_gz(testdata / "verdicts.json.gz", verdicts(lib, gguf_files(testdata)))


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
