"""Checks a Core ML package of `afmq export` with coremltools and numpy.

    .venv/bin/python scripts/coreml_parity.py PACKAGE --artifact ARTIFACT [--data FILE] [--bytes 20000] [--ctx 256]
        [--adapter NAME=DIR]

Needs scripts/setup-python coreml. Core ML itself runs on Apple's systems only. This script

- loads the package with coremltools, whose MIL front end checks every operation and infers all
  shapes, and compares these with the declared ones;
- compares the indices, tables and row scales in weight.bin with the artifact's, bit by bit;
- with --data runs the text through the program in numpy, operation by operation, once with every
  result rounded to fp16 and once in float32, and prints both perplexities beside that of
  `afmq eval-perplexity`, and the mean KL divergence of the fp16 run from the float32 run.

--adapter runs the functions of an adapter and compares with `eval-perplexity --adapter`.
It fails if anything differs, or if the perplexities differ by more than 0.5 % (fp16) or 0.1 %
(float32).
"""

import argparse
import json
import logging
import math
import pathlib
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import coremltools
import numpy
import tokenizers
from coremltools.converters.mil.frontend.milproto import load as milproto
from safetensors import numpy as safetensors

ROOT = pathlib.Path(__file__).resolve().parent.parent
NUMPY = {"FLOAT16": numpy.float16, "INT8": numpy.int8, "INT32": numpy.int32, "UINT8": numpy.uint8, "BOOL": numpy.bool_}
TYPES = {v: k for k, v in coremltools.proto.MIL_pb2.DataType.items()}


class Package:
    def __init__(self, path):
        self.model = coremltools.models.MLModel(str(path), skip_model_load=True)
        self.spec = self.model.get_spec()
        self.weights = (pathlib.Path(self.model.weights_dir) / "weight.bin").read_bytes()

    def operations(self, function):
        f = self.spec.mlProgram.functions[function]
        return f.block_specializations[f.opset].operations

    def raw(self, value):
        """The bytes of a constant in weight.bin."""
        at = value.blobFileValue.offset
        word = numpy.frombuffer(self.weights, "<u8", 3, at + 8)
        if numpy.frombuffer(self.weights, "<u4", 1, at)[0] != 0xDEADBEEF:
            sys.exit(f"no record at byte {at} of weight.bin")
        return self.weights[int(word[1]) : int(word[1] + word[0])]

    def read(self, value):
        """The array, number or text of a MIL value."""
        tensor = value.type.tensorType
        kind, shape = TYPES[tensor.dataType], [d.constant.size for d in tensor.dimensions]
        if value.WhichOneof("value") == "blobFileValue":
            data = self.raw(value)
            if kind in NUMPY:
                return numpy.frombuffer(data, NUMPY[kind]).reshape(shape)
            bits, n = int(kind.removeprefix("UINT")), math.prod(shape)
            flat = numpy.unpackbits(numpy.frombuffer(data, numpy.uint8), bitorder="little")[: n * bits]
            return (flat.reshape(n, bits) << numpy.arange(bits)).sum(-1).astype(numpy.uint8).reshape(shape)
        immediate = value.immediateValue.tensor
        values = getattr(immediate, immediate.WhichOneof("value")).values
        if kind == "STRING":
            return values[0]
        if kind == "FLOAT16":
            return numpy.frombuffer(values, numpy.float16).reshape(shape)
        return numpy.array(list(values), NUMPY[kind]).reshape(shape)


def check_types(package):
    """Compares the shapes that coremltools infers with the declared ones."""
    program = milproto.load(
        package.spec, specification_version=package.spec.specificationVersion, file_weights_dir=package.model.weights_dir
    )
    compared = 0
    for name, function in program.functions.items():
        declared = {
            o.name: tuple(d.constant.size for d in o.type.tensorType.dimensions)
            for op in package.operations(name)
            for o in op.outputs
        }
        for op in function.operations:
            for o in op.outputs:
                if o.name not in declared:
                    continue
                compared += 1
                if tuple(o.shape or ()) != declared[o.name]:
                    sys.exit(f"{name}: {op.op_type} {o.name} is {o.shape}, declared as {declared[o.name]}")
    print(f"coremltools {coremltools.__version__} loads {len(program.functions)} functions; {compared} shapes as declared")


def check_palettes(package, artifact):
    """Compares what the constexpr operations read with the artifact's tensors."""
    stored = safetensors.load_file(artifact / "model.safetensors")
    names = {k.replace(".", "_"): k for k in {n.rsplit(".", 1)[0] for n in stored} if k.endswith(".weight")}
    compared = 0
    for op in package.operations("decode"):
        if not op.type.startswith("constexpr"):
            continue
        name = names[op.outputs[0].name.removesuffix("_palette")]
        for key, value in op.inputs.items():
            argument = value.arguments[0]
            if argument.WhichOneof("binding") != "value":
                continue
            suffix = {"indices": ".indices", "lut": ".lut", "data": ".q", "scale": ".row_scale"}[key]
            if name + suffix not in stored:  # the float32 scales of an 8-bit matrix, rounded to fp16
                continue
            want, rows = stored[name + suffix], stored[name + suffix].shape[0]
            got = package.raw(argument.value)
            if suffix == ".indices":  # an artifact starts each row at a byte
                codes = package.read(argument.value)
                bits = int(TYPES[argument.value.type.tensorType.dataType].removeprefix("UINT"))
                got = b"".join(
                    numpy.packbits((row[:, None] >> numpy.arange(bits) & 1).astype(numpy.uint8).ravel(), bitorder="little").tobytes()
                    for row in codes.reshape(rows, -1)
                )
            if got != want.tobytes():
                sys.exit(f"{name + suffix} differs from the artifact")
            compared += 1
    if compared == 0:
        sys.exit("no palette was compared")
    print(f"{compared} constants equal to the artifact's, bit for bit")


class Walk:
    """Runs a function of the program in numpy."""

    def __init__(self, package, function, half):
        self.package, self.half, self.state, self.constants = package, half, {}, {}
        self.operations = list(package.operations(function))
        self.chunk = next(f for f in package.spec.description.functions if f.name == function).input[0].type.multiArrayType.shape[1]

    def argument(self, env, op, key):
        out = []
        for a in op.inputs[key].arguments:
            out.append(env[a.name] if a.WhichOneof("binding") == "name" else self.package.read(a.value))
        return out if key == "values" else out[0]

    def __call__(self, ids, position):
        env = {"input_ids": numpy.array(ids, numpy.int32)[None], "position": numpy.array([position], numpy.int32)}
        env.update(self.constants)
        for op in self.operations:
            name = op.outputs[0].name if op.outputs else ""
            if name in self.constants:
                continue
            y = self.compute(env, op)
            for output, x in zip(op.outputs, y if isinstance(y, list) else [y]):
                if TYPES[output.type.tensorType.dataType] == "FLOAT16":
                    x = x.astype(numpy.float16).astype(numpy.float32) if self.half else x.astype(numpy.float32)
                env[output.name] = x
            if op.type == "const" or op.type.startswith("constexpr"):
                self.constants[name] = env[name]
        return env["logits"][0]

    def compute(self, env, op):
        get = lambda key: self.argument(env, op, key)
        match op.type:
            case "const":
                return self.package.read(op.attributes["val"])
            case "constexpr_lut_to_dense":
                indices, lut = get("indices"), get("lut")
                group = numpy.arange(len(indices))[:, None] // (len(indices) // len(lut))
                return lut[group, 0, indices, 0]
            case "constexpr_blockwise_shift_scale":
                return get("data").astype(numpy.float32) * get("scale").astype(numpy.float32)
            case "read_state":
                key = op.inputs["input"].arguments[0].name
                return self.state.setdefault(key, numpy.zeros([d.constant.size for d in op.outputs[0].type.tensorType.dimensions], numpy.float32))
            case "write_state":
                self.state[op.inputs["input"].arguments[0].name] = get("data")
                return []
            case "slice_update":
                y = get("x").copy()
                y[tuple(slice(int(a), int(b)) for a, b in zip(get("begin"), get("end")))] = get("update")
                return y
            case "slice_by_size":
                return get("x")[tuple(slice(int(a), int(a + n)) for a, n in zip(get("begin"), get("size")))]
            case "add" | "sub" | "mul" | "maximum" | "less_equal" | "greater" | "logical_and":
                function = {"sub": "subtract", "add": "add", "mul": "multiply"}.get(op.type, op.type)
                return getattr(numpy, function)(get("x"), get("y"))
            case "real_div":
                return get("x") / get("y")
            case "abs":
                return numpy.abs(get("x"))
            case "silu":
                return get("x") / (1 + numpy.exp(-get("x")))
            case "rsqrt":
                return 1 / numpy.sqrt(get("x") + get("epsilon"))
            case "reduce_max":
                return get("x").max(-1, keepdims=True)
            case "reduce_mean":
                return get("x").mean(-1, keepdims=True)
            case "cast":
                return get("x").astype({"fp16": numpy.float32, "int32": numpy.int32}[get("dtype")])
            case "reshape":
                return get("x").reshape(get("shape"))
            case "transpose":
                return get("x").transpose(get("perm"))
            case "tile":
                return numpy.tile(get("x"), get("reps"))
            case "gather":
                return get("x")[get("indices")]
            case "concat":
                return numpy.concatenate(get("values"), int(get("axis")))
            case "split":
                return numpy.split(get("x"), int(get("num_splits")), int(get("axis")))
            case "linear":
                y = get("x") @ get("weight").T
                return y + get("bias") if "bias" in op.inputs else y
            case "scaled_dot_product_attention":
                scores = get("query") @ get("key").swapaxes(-1, -2) / math.sqrt(get("query").shape[-1]) + get("attn_mask")
                scores = numpy.exp(scores - scores.max(-1, keepdims=True))
                return scores / scores.sum(-1, keepdims=True) @ get("value")
        sys.exit(f"operation {op.type}")

    def window(self, ids):
        """Log-probabilities [len(ids), vocab] of a window; the last chunk is padded."""
        self.state.clear()
        out = []
        for at in range(0, len(ids), self.chunk):
            part = ids[at : at + self.chunk]
            out.append(self(part + [0] * (self.chunk - len(part)), at)[: len(part)])
        x = numpy.concatenate(out).astype(numpy.float64)
        x -= x.max(-1, keepdims=True)
        return x - numpy.log(numpy.exp(x).sum(-1, keepdims=True))


def check_text(package, artifact, text, ctx, adapter):
    """Compares the perplexity of a text by the protocol `chunk`."""
    ids = tokenizers.Tokenizer.from_file(str(artifact / "tokenizer.json")).encode(text).ids
    function = "prefill"
    if adapter:
        function += "_" + adapter.split("=")[0].replace("-", "_")
    half, full = Walk(package, function, True), Walk(package, function, False)
    nats, divergence, scored = {"fp16": 0.0, "float32": 0.0}, 0.0, 0
    for at in range(0, len(ids), ctx):
        window = ids[at : at + ctx]
        if len(window) < 2:
            continue
        p, q = full.window(window)[:-1], half.window(window)[:-1]
        target = numpy.array(window[1:])
        nats["float32"] -= p[numpy.arange(len(target)), target].sum()
        nats["fp16"] -= q[numpy.arange(len(target)), target].sum()
        divergence += (numpy.exp(p) * (p - q)).sum()
        scored += len(target)
    with tempfile.TemporaryDirectory() as tmp:
        path = pathlib.Path(tmp) / "text.txt"
        path.write_text(text, newline="")
        done = subprocess.run(
            ["go", "run", "./cmd/afmq", "eval-perplexity", str(artifact.resolve()), "--data", str(path), "--ctx", str(ctx), "--json", "--quiet"]
            + (["--adapter", adapter] if adapter else []),
            stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True,
        )
    ours = json.loads(done.stdout)
    if adapter:
        ours["perplexity"] = ours["adapters"][0]["perplexity"]
    if ours["tokens"] != scored:
        sys.exit(f"{scored} tokens scored here, {ours['tokens']} by afmq")
    print(f"{scored} tokens; perplexity by afmq {ours['perplexity']:.4f}")
    for name, limit in ("float32", 0.001), ("fp16", 0.005):
        perplexity = math.exp(nats[name] / scored)
        print(f"the program in {name}: {perplexity:.4f}, ratio {perplexity / ours['perplexity']:.6f}")
        if not abs(perplexity / ours["perplexity"] - 1) <= limit:
            sys.exit("the perplexities differ")
    print(f"mean KL divergence of fp16 from float32: {divergence / scored:.2e} nats per token")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("package", type=pathlib.Path)
    p.add_argument("--artifact", type=pathlib.Path, required=True)
    p.add_argument("--data", type=pathlib.Path)
    p.add_argument("--bytes", type=int, default=20000, help="of the text")
    p.add_argument("--ctx", type=int, default=256)
    p.add_argument("--adapter", help="NAME=DIR, with an absolute DIR")
    a = p.parse_args()
    package = Package(a.package)
    check_types(package)
    check_palettes(package, a.artifact)
    if a.data:
        text = a.data.read_bytes()[: a.bytes].decode("utf-8", "ignore")
        check_text(package, a.artifact, text, a.ctx, a.adapter)


if __name__ == "__main__":
    main()
