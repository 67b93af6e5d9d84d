"""Checks the rules of docs/targets.md against Apple's packages.

    .venv/bin/python scripts/target_rules.py coreml     needs scripts/setup-python coreml
    PYTHON scripts/target_rules.py coreai               needs coreai-core 1.0.0b3 and numpy

Makes a program with one palettized matrix for every width from 1 to 8 bits, and for groups that
do and do not divide its rows. coreml builds it with coremltools and expands the palette; coreai
compiles it with coreai-core and runs it in the reference runtime. The script prints what happened
and fails if a program that the rules allow is refused or computes other values, or the reverse.
"""

import asyncio
import logging
import pathlib
import sys
import tempfile

import numpy

logging.disable(logging.WARNING)

# rows, columns, bits, tables, and whether the rules allow it
CASES = [(32, 16, bits, 2, bits not in (5, 7)) for bits in range(1, 9)]
CASES += [
    (37, 16, 4, 1, True),  # one table for a number of rows that has no divisor
    (24, 16, 4, 3, True),
    (24, 16, 4, 5, False),  # four groups of 5 rows and one of 4
    (32, 15, 3, 2, True),  # rows that do not end at a byte
]


def palette(rows, cols, bits, tables):
    """Random indices [rows, cols] and tables, and the matrix that they stand for."""
    random = numpy.random.default_rng(0)
    indices = random.integers(0, 2**bits, (rows, cols)).astype(numpy.uint8)
    lut = random.standard_normal((tables, 1, 2**bits, 1)).astype(numpy.float16)
    group = -(-rows // tables)
    return indices, lut, lut[:, 0, :, 0][numpy.arange(rows)[:, None] // group, indices]


def coreml(rows, cols, bits, tables):
    import coremltools
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    indices, lut, want = palette(rows, cols, bits, tables)
    packed = indices.astype(types.nptype_from_builtin(types.type_mapping.string_to_builtin(f"uint{bits}")))

    @mb.program(input_specs=[mb.TensorSpec((1, cols), dtype=types.fp16)], opset_version=coremltools.target.iOS18)
    def program(x):
        return mb.linear(x=x, weight=mb.constexpr_lut_to_dense(indices=packed, lut=lut))

    ops = program.functions["main"].operations
    got = next(o for o in ops if o.op_type == "constexpr_lut_to_dense").materialized_val_inference()
    return numpy.array_equal(got, want)


def coreai(rows, cols, bits, tables):
    from coreai import authoring
    from coreai._compiler import ir
    from coreai._compiler._mlir_libs._coreaiIR._bindings.mlir.dialects.coreai import create_elements_attr
    from coreai._compiler.dialects import coreai as ops
    from coreai.authoring import AIModelAsset, AIProgram, Module, TensorType, Value
    from coreai.authoring.constant import constant
    from coreai.authoring.graph_builder import GraphOp
    from coreai.runtime import NDArray

    indices, lut, want = palette(rows, cols, bits, tables)
    stream = (indices.reshape(-1, 1) >> numpy.arange(bits)) & 1
    data = numpy.packbits(stream.astype(numpy.uint8), bitorder="little")
    module = Module.create()
    with module:
        kind = TensorType((rows, cols), numpy.float32)._to_mlir()
        graph = GraphOp("main", [kind], [], ["x"])
        with graph.block:
            packed = ir.RankedTensorType.get([rows, cols], ir.IntegerType.get_unsigned(bits))
            attribute = create_elements_attr(ir.Location.unknown(), packed, data)
            stored = Value._from_mlir(ops.ConstantOp(value=attribute).result)
            dense = authoring.lut_to_dense(stored, constant(lut.astype(numpy.float32)), numpy.array(0, numpy.int16))
            y = authoring.add(Value._from_mlir(graph.arguments[0]), dense)
            graph.outputs_spec = [("y", y._to_mlir())]

    async def run(path):
        async with AIModelAsset.load(path).executable() as loaded:
            out = await loaded.load_function("main")({"x": NDArray(numpy.zeros((rows, cols), numpy.float32))})
            return next(iter(out.values())).numpy().copy()

    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "m.aimodel"
        AIProgram(module).save_asset(path)
        return numpy.array_equal(asyncio.run(run(path)), want.astype(numpy.float32))


def main():
    runtimes = {"coreml": coreml, "coreai": coreai}
    if len(sys.argv) != 2 or sys.argv[1] not in runtimes:
        sys.exit(__doc__)
    failed = False
    for rows, cols, bits, tables, allowed in CASES:
        try:
            outcome = "equal" if runtimes[sys.argv[1]](rows, cols, bits, tables) else "other values"
        except (KeyError, RuntimeError, ValueError) as e:
            lines = [line for line in str(e).splitlines() if line.strip()]
            outcome = f"refused, {type(e).__name__}: {lines[0][:60] if lines else ''}"
        good = (outcome == "equal") == allowed and outcome != "other values"
        failed |= not good
        print(f"{rows} x {cols}, {bits} bits, {tables} tables: {outcome}{'' if good else ' (the rules say otherwise)'}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
