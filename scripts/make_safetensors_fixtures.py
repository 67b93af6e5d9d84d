#!/usr/bin/env python3
"""Makes pkg/safetensors/testdata with the reference implementation, and checks files
written by afmq with it.

    python scripts/make_safetensors_fixtures.py
        writes pkg/safetensors/testdata: files by the Python library with a JSON
        description of each (names, types, shapes, bytes, values as float32 by
        torch), and verdicts.json, malformed and unusual files with the verdict of
        the library. Deterministic.

    AFMQ_SAFETENSORS_OUT=/tmp/out go test -run TestWriteForReference ./pkg/safetensors
    python scripts/make_safetensors_fixtures.py --check /tmp/out/*.safetensors
        loads what our writer wrote with the library's safe_open, by memory map
        and by pread, and compares names, types, shapes, bytes and metadata with
        the description next to each file (same name, .json). Exit status 1 and a
        line per difference if there is any.

Needs torch and safetensors (scripts/requirements.in); written for safetensors 0.8.
"""

import base64
import json
import pathlib
import re
import struct
import sys
import tempfile
import zlib

import numpy as np
import safetensors
import torch
from safetensors import TensorSpec, safe_open

TESTDATA = pathlib.Path(__file__).resolve().parent.parent / "pkg/safetensors/testdata"

# Names of a type: in the format, in TensorSpec, in torch.
TYPES = {
    "F64": ("float64", torch.float64), "F32": ("float32", torch.float32),
    "F16": ("float16", torch.float16), "BF16": ("bfloat16", torch.bfloat16),
    "I8": ("int8", torch.int8), "I16": ("int16", torch.int16),
    "I32": ("int32", torch.int32), "I64": ("int64", torch.int64),
    "U8": ("uint8", torch.uint8), "U16": ("uint16", torch.uint16),
    "U32": ("uint32", torch.uint32), "U64": ("uint64", torch.uint64),
    "BOOL": ("bool", torch.bool),
    "F8_E4M3": ("float8_e4m3fn", torch.float8_e4m3fn), "F8_E5M2": ("float8_e5m2", torch.float8_e5m2),
}


def raw(t):
    """The bytes of a tensor."""
    return t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""


def describe(name, dtype, shape, data):
    """Expected content: bytes, and float32 values with the bits of torch."""
    t = torch.frombuffer(bytearray(data), dtype=TYPES[dtype][1]) if data else torch.empty(0)
    bits = [int(v) for v in t.to(torch.float32).contiguous().numpy().view(np.uint32)]
    return {"name": name, "dtype": dtype, "shape": list(shape), "data": data.hex(), "float32": bits}


def serialize(tensors, metadata):
    """tensors: name -> (format's type, shape, bytes)."""
    keep, specs = [], {}
    for name, (dtype, shape, data) in tensors.items():
        buf = np.frombuffer(data or b"\0", dtype=np.uint8).copy()
        keep.append(buf)
        specs[name] = TensorSpec(dtype=TYPES[dtype][0], shape=list(shape), data_ptr=buf.ctypes.data, data_len=len(data))
    return bytes(safetensors.serialize(specs, metadata=metadata))


def order(blob):
    """Names in the order of the data."""
    n = struct.unpack("<Q", blob[:8])[0]
    head = json.loads(blob[8:8 + n])
    head.pop("__metadata__", None)
    return sorted(head, key=lambda k: head[k]["data_offsets"])


def write(stem, tensors, metadata):
    blob = serialize(tensors, metadata)
    (TESTDATA / f"{stem}.safetensors").write_bytes(blob)
    described = {"metadata": metadata, "tensors": [describe(k, *tensors[k]) for k in order(blob)]}
    text = json.dumps(described, ensure_ascii=True, indent=None, separators=(",", ":"))
    (TESTDATA / f"{stem}.json").write_text(text.replace('{"name"', '\n{"name"') + "\n")


def sample(dtype):
    """Every corner of a type's values, then random ones."""
    rng = np.random.default_rng(7)
    inf, nan = float("inf"), float("nan")
    floats = [0.0, -0.0, 1.0, -1.5, 1 / 3, inf, -inf, nan]
    match dtype:
        case "F64":
            ties = [1 + 2.0**-24, 1 + 3 * 2.0**-24, 1 + 2.0**-24 + 2.0**-50, 1e300, -1e300, 2.0**-149, 2.0**-150, 3 * 2.0**-150]
            t = torch.tensor(floats + ties + [3.4028235677973366e38, 3.4028235677973362e38], dtype=torch.float64)
        case "F32":
            t = torch.tensor(floats + [1e-45, 3.4e38, 2.0**-126], dtype=torch.float32)
        case "F16":
            t = torch.tensor(floats + [6e-8, 5.9e-5, 65504.0, 6.1e-5], dtype=torch.float16)
        case "BF16":
            t = torch.tensor(floats + [9.2e-41, 3.38e38, 1.1755e-38], dtype=torch.bfloat16)
        case "F8_E4M3" | "F8_E5M2":
            t = torch.arange(256, dtype=torch.int16).to(torch.uint8).view(TYPES[dtype][1])
        case "BOOL":
            t = torch.tensor([False, True, True, False, True])
        case _:
            info = np.iinfo(TYPES[dtype][0])
            v = [info.min, info.max, info.max - 1, 0, 1, info.max // 2 + 1, info.max // 3]
            for e in (24, 25, 31, 40, 53, 62):  # neighbours of ties in float32
                v += [x for x in (2**e - 1, 2**e + 1, 2**e + 2 ** (e - 24), 2**e + 3 * 2 ** (e - 24), 2**e + 2 ** (e - 24) + 1) if x <= info.max]
            v += [-x for x in v if info.min <= -x < 0]
            v += rng.integers(info.min, info.max, 5, dtype=TYPES[dtype][0], endpoint=True).tolist()
            t = torch.from_numpy(np.array(v, dtype=TYPES[dtype][0]))
    return dtype, tuple(t.shape), raw(t)


def fixtures():
    every = {f"{d.lower()}.values": sample(d) for d in TYPES}
    for d in ("F32", "F16", "BOOL", "I64"):
        one = raw(torch.ones(1, dtype=TYPES[d][1]))
        every[f"{d.lower()}.scalar"] = (d, (), one)
        every[f"{d.lower()}.empty"] = (d, (0,), b"")
    every["empty.rank3"] = ("BF16", (3, 0, 2), b"")
    every["f32.rank4"] = ("F32", (1, 2, 3, 1), raw(torch.arange(6, dtype=torch.float32)))
    for name in ("", " ", "a/b\\c", 'quote"d', "tab\tnewline\n\x01\x7f", "<&>\u2028", "größe", "层.0.权重", "\U0001f600", "e\u0301"):
        every[name] = ("U8", (len(name.encode()),), name.encode())
    write("all", every, {"format": "pt"})
    write("plain", {"weight": sample("BF16")}, None)
    write("none", {}, None)
    write("metadata", {"w": ("U8", (1,), b"\7")}, {"kéy\n": 'välue "\\'})


def cases():
    """(name, file): malformed and unusual files, most of them one change away from a valid one."""
    def pack(header, data=b"", n=None):
        h = header if isinstance(header, bytes) else header.encode()
        return struct.pack("<Q", len(h) if n is None else n) + h + data

    def one(dtype='"F32"', shape="[2]", offsets="[0,8]", extra="", data=8):
        return pack(f'{{"w":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}{extra}}}}}', b"\0" * data)

    def many(*tensors, data=8):
        return pack("{" + ",".join(f'"{n}":{{"dtype":"U8","shape":[{b - a}],"data_offsets":[{a},{b}]}}' for n, a, b in tensors) + "}", b"\0" * data)

    good = one()
    yield "good", good
    yield "good/padded", pack(good[8:-8].decode() + "   ", b"\0" * 8)
    yield "good/padded-newlines", pack(good[8:-8].decode() + " \n\t\r", b"\0" * 8)
    yield "good/other-key-order", pack('{"w":{"data_offsets":[0,8],"shape":[2],"dtype":"F32"}}', b"\0" * 8)
    yield "good/space-inside", pack('{ "w" :\n{"data_offsets" : [ 0 , 8 ], "shape":[ 2 ],\t"dtype":"F32" } }', b"\0" * 8)
    yield "good/unaligned", pack(good[8:-8].decode() + " ", b"\0" * 8)
    yield "file/empty", b""
    yield "file/seven-bytes", good[:7]
    yield "file/length-only", good[:8]
    yield "file/cut-header", good[:20]
    yield "file/cut-data", good[:-1]
    yield "file/longer", good + b"\0"
    yield "length/zero", struct.pack("<Q", 0)
    yield "length/one-more", pack(good[8:-8].decode(), n=len(good) - 7)
    yield "length/2^63", pack("{}", n=2**63)
    yield "length/2^64-1", pack("{}", n=2**64 - 1)
    yield "length/2^64-8", pack("{}", n=2**64 - 8)
    yield "length/limit", pack("{}", n=100_000_001)
    yield "json/empty-object", pack("{}")
    yield "json/spaces-only", pack("        ")
    yield "json/space-first", pack(" " + good[8:-8].decode(), b"\0" * 8)
    yield "json/array", pack("[]")
    yield "json/null", pack("null")
    yield "json/number", pack("1")
    yield "json/unterminated", pack('{"w"')
    yield "json/trailing-comma", pack('{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},}', b"\0" * 8)
    yield "json/trailing-comma-array", one(shape="[2,]")
    yield "json/trailing-garbage", pack(good[8:-8].decode() + "x", b"\0" * 8)
    yield "json/two-objects", pack("{}{}")
    yield "json/nul-padding", pack(b"{}\0\0\0\0\0\0")
    yield "json/comment", pack("{/**/}")
    yield "json/single-quotes", pack("{'w':1}")
    yield "json/bad-utf8", pack(b'{"\xff":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
    yield "json/bom", pack(b"\xef\xbb\xbf{}")
    yield "json/control-char", pack('{"a\tb":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
    yield "json/lone-surrogate", pack('{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
    yield "json/lone-low-surrogate", pack('{"\\udc00":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
    yield "json/surrogate-then-char", pack('{"\\ud800\\u0041":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
    yield "json/surrogate-pair", pack('{"\\ud83d\\ude00":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
    yield "json/escapes", pack('{"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u0000":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
    yield "json/bad-escape", pack('{"\\x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
    yield "json/bad-hex", pack('{"\\u00g0":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
    yield "json/deep-array", pack("[" * 100_000)
    yield "json/deep-object", pack('{"w":' * 1000)
    yield "tensor/null", pack('{"w":null}')
    yield "tensor/string", pack('{"w":"x"}')
    yield "tensor/number", pack('{"w":1}')
    yield "tensor/as-array", pack('{"w":["F32",[2],[0,8]]}', b"\0" * 8)
    yield "tensor/empty-object", pack('{"w":{}}')
    yield "tensor/empty-name", pack('{"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
    yield "tensor/no-dtype", pack('{"w":{"shape":[2],"data_offsets":[0,8]}}', b"\0" * 8)
    yield "tensor/no-shape", pack('{"w":{"dtype":"F32","data_offsets":[0,8]}}', b"\0" * 8)
    yield "tensor/no-offsets", pack('{"w":{"dtype":"F32","shape":[2]}}', b"\0" * 8)
    yield "tensor/extra-key", one(extra=',"x":{"y":[1,-2.5e3,null,true,"z"]}')
    yield "tensor/extra-key-bad-number", one(extra=',"x":01')
    yield "tensor/extra-key-bad-word", one(extra=',"x":nul')
    yield "tensor/extra-key-deep", one(extra=',"x":' + "[" * 120 + "]" * 120)
    yield "tensor/extra-key-too-deep", one(extra=',"x":' + "[" * 200 + "]" * 200)
    yield "tensor/duplicate-dtype", one(extra=',"dtype":"F32"')
    yield "tensor/duplicate-shape", one(extra=',"shape":[2]')
    yield "tensor/duplicate-offsets", one(extra=',"data_offsets":[0,8]')
    yield "tensor/duplicate-extra", one(extra=',"x":1,"x":2')
    yield "tensor/duplicate-name", pack('{"w":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"w":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}', b"\0" * 8)
    yield "tensor/duplicate-name-escaped", pack('{"w":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"\\u0077":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}', b"\0" * 8)
    for d in ("F33", "f32", "", "F32 ", "float32"):
        yield f"dtype/{d!r}", one(dtype=f'"{d}"')
    yield "dtype/null", one(dtype="null")
    yield "dtype/number", one(dtype="1")
    yield "dtype/F8_E4M3", one(dtype='"F8_E4M3"', shape="[8]")
    yield "dtype/F8_E8M0", one(dtype='"F8_E8M0"', shape="[8]")
    yield "dtype/C64", one(dtype='"C64"', shape="[1]")
    yield "dtype/F4", one(dtype='"F4"', shape="[16]")
    yield "shape/scalar", one(shape="[]", offsets="[0,4]", data=4)
    yield "shape/zero", one(shape="[0]", offsets="[0,0]", data=0)
    yield "shape/zero-behind-large", one(shape="[4294967296,2147483647,0]", offsets="[0,0]", data=0)
    yield "shape/null", one(shape="null")
    yield "shape/number", one(shape="2")
    yield "shape/string", one(shape='["2"]')
    yield "shape/nested", one(shape="[[2]]")
    yield "shape/negative", one(shape="[-2]")
    yield "shape/negative-pair", one(shape="[-1,-2]")
    yield "shape/minus-zero", one(shape="[-0]", offsets="[0,0]", data=0)
    yield "shape/float", one(shape="[2.0]")
    yield "shape/exponent", one(shape="[2e0]")
    yield "shape/leading-zero", one(shape="[02]")
    yield "shape/plus", one(shape="[+2]")
    yield "shape/hex", one(shape="[0x2]")
    yield "shape/bool", one(shape="[true]")
    yield "shape/2^64", one(shape="[18446744073709551616]")
    yield "shape/wraps-to-2", one(shape="[18446744073709551618]")
    yield "shape/product-wraps", one(shape="[4294967296,4294967296,2]")
    yield "shape/product-wraps-to-zero", one(shape="[4294967296,4294967296]", offsets="[0,0]", data=0)
    yield "shape/bytes-wrap", one(shape="[4611686018427387906]")
    yield "shape/overflow-then-zero", one(shape="[4294967296,4294967296,0]", offsets="[0,0]", data=0)
    yield "shape/zero-then-overflow", one(shape="[0,4294967296,4294967296]", offsets="[0,0]", data=0)
    yield "shape/too-small", one(shape="[1]")
    yield "shape/too-large", one(shape="[3]")
    yield "shape/many-ones", one(shape="[" + "1," * 3000 + "2]")
    yield "offsets/one", one(offsets="[8]")
    yield "offsets/three", one(offsets="[0,8,16]")
    yield "offsets/none", one(offsets="[]")
    yield "offsets/backwards", one(offsets="[8,0]")
    yield "offsets/negative", one(offsets="[-8,0]")
    yield "offsets/float", one(offsets="[0,8.0]")
    yield "offsets/object", one(offsets='{"0":0,"1":8}')
    yield "offsets/2^64", one(offsets="[0,18446744073709551624]")
    yield "offsets/beyond", one(shape="[4]", offsets="[0,16]")
    yield "offsets/huge-span", one(shape="[1]", offsets="[9223372036854775803,9223372036854775807]")
    yield "offsets/gap-first", one(shape="[1]", offsets="[4,8]")
    yield "offsets/gap-last", one(shape="[1]", offsets="[0,4]")
    yield "layout/two", many(("a", 0, 3), ("b", 3, 8))
    yield "layout/other-order", many(("b", 3, 8), ("a", 0, 3))
    yield "layout/gap", many(("a", 0, 3), ("b", 4, 8))
    yield "layout/overlap", many(("a", 0, 5), ("b", 3, 8))
    yield "layout/same", many(("a", 0, 8), ("b", 0, 8))
    yield "layout/inside", many(("a", 0, 8), ("b", 3, 5))
    yield "layout/empties", many(("e0", 0, 0), ("a", 0, 3), ("e3", 3, 3), ("f3", 3, 3), ("b", 3, 8), ("e8", 8, 8))
    yield "layout/empty-inside", many(("a", 0, 8), ("e", 4, 4))
    yield "layout/empty-beyond", many(("a", 0, 8), ("e", 9, 9))
    meta = '{"__metadata__":%s}'
    yield "metadata/empty", pack(meta % "{}")
    yield "metadata/string", pack(meta % '{"a":"b"}')
    yield "metadata/null", pack(meta % "null")
    yield "metadata/null-value", pack(meta % '{"a":null}')
    yield "metadata/number-value", pack(meta % '{"a":1}')
    yield "metadata/nested", pack(meta % '{"a":{"b":"c"}}')
    yield "metadata/array", pack(meta % "[]")
    yield "metadata/is-string", pack(meta % '"x"')
    yield "metadata/is-tensor", pack(meta % '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}', b"\0" * 8)
    yield "metadata/duplicate-key", pack(meta % '{"a":"b","a":"c"}')
    yield "metadata/twice", pack('{"__metadata__":{},"__metadata__":{}}')
    yield "metadata/last", pack('{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"__metadata__":{"a":"b"}}', b"\0")


def opens(path):
    try:
        with safe_open(path, framework="pt") as f:
            for name in f.keys():
                f.get_slice(name).get_shape()
        return True, ""
    except Exception as e:
        # Which of two tensors it names depends on the order of a hash map.
        return False, re.sub("`[^`]*`", "`…`", str(e))


def verdicts():
    rows, seen = [], set()
    with tempfile.TemporaryDirectory() as d:
        for name, blob in cases():
            assert name not in seen, name
            seen.add(name)
            path = pathlib.Path(d) / "f.safetensors"
            path.write_bytes(blob)
            ok, why = opens(path)
            rows.append(json.dumps({"name": name, "file": pack_bytes(blob), "accepted": ok, "said": why[:120]}))
    (TESTDATA / "verdicts.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")
    print(f"{len(rows)} verdicts by safetensors {safetensors.__version__}")


def pack_bytes(blob):
    """Base64 of the zlib-compressed file: some are long runs of one character."""
    return base64.b64encode(zlib.compress(blob, 9)).decode()


def check(path):
    want = json.loads(path.with_suffix(".json").read_text())
    bad = []
    for backend in ("mmap", "pread"):
        with safe_open(path, framework="pt", backend=backend) as f:
            if (f.metadata() or None) != (want["metadata"] or None):
                bad.append(f"metadata {f.metadata()} != {want['metadata']}")
            names = sorted(t["name"] for t in want["tensors"])
            if sorted(f.keys()) != names:
                bad.append(f"names {sorted(f.keys())} != {names}")
                continue
            for t in want["tensors"]:
                got = f.get_slice(t["name"])
                tensor = f.get_tensor(t["name"])
                if got.get_dtype() != t["dtype"] or list(got.get_shape()) != t["shape"]:
                    bad.append(f"{t['name']!r}: {got.get_dtype()} {got.get_shape()} != {t['dtype']} {t['shape']}")
                elif tensor.dtype != TYPES[t["dtype"]][1] or list(tensor.shape) != t["shape"]:
                    bad.append(f"{t['name']!r}: loads as {tensor.dtype} {list(tensor.shape)}")
                elif raw(tensor).hex() != t["data"]:
                    bad.append(f"{t['name']!r}: bytes differ")
    for line in bad:
        print(f"{path}: {line}")
    print(f"{path}: {len(want['tensors'])} tensors, {'DIFFERS' if bad else 'the same'}")
    return not bad


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        files = [pathlib.Path(p) for p in sys.argv[2:]]
        if not files:
            sys.exit("--check needs files")
        sys.exit(0 if all([check(p) for p in files]) else 1)
    if sys.argv[1:]:
        sys.exit(__doc__)
    TESTDATA.mkdir(parents=True, exist_ok=True)
    fixtures()
    verdicts()
