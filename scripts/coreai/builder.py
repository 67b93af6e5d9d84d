"""Building blocks of Core AI programs: constants from the job's file, and operations whose
shapes may have dynamic dimensions.

The graph is authored with coreai-core alone. Shape inference of its operations loses the
dimensions that are known as soon as one is not, so the operations that change a shape are
given the shape of their result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from coreai import authoring
from coreai._compiler import ir
from coreai._compiler._mlir_libs._coreaiIR._bindings.mlir.dialects.coreai import (
    create_elements_attr,
)
from coreai._compiler.dialects import coreai as ops
from coreai.authoring import AIProgram, HardwareConstraints, Module, TensorType, Value
from coreai.authoring.constant import constant
from coreai.authoring.graph_builder import GraphOp

DYNAMIC = -1  # a dimension that is known when the program runs


@dataclass(frozen=True)
class Dim:
    """A dimension that is known when the program runs, as an int32 tensor [1]."""

    value: Value


@dataclass(frozen=True)
class Tensor:
    """A value of the program and its shape; DYNAMIC where a dimension is not known yet."""

    value: Value
    shape: tuple[int, ...]


class Constants:
    """The constants of a job: names, types and shapes from job.json, bytes from one file."""

    def __init__(self, job: dict, path: str) -> None:
        self._entries = job["constants"]
        self._bytes = np.memmap(path, np.uint8, "r")
        self._cache: dict[tuple, ir.Attribute] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def shape(self, name: str) -> list[int]:
        return self._entries[name]["shape"]

    def type(self, name: str) -> str:
        return self._entries[name]["type"]

    def attribute(self, name: str, dtype: type | None, shape: tuple[int, ...]) -> ir.Attribute:
        """The constant as an attribute of this shape; converted to dtype unless that is None.

        One attribute serves all uses in all functions, so that the asset stores it once.
        """
        key = name, dtype, shape
        if key not in self._cache:
            self._cache[key] = self._make(name, dtype, shape)
        return self._cache[key]

    def _make(self, name: str, dtype: type | None, shape: tuple[int, ...]) -> ir.Attribute:
        entry = self._entries[name]
        raw = self._bytes[entry["offset"] : entry["offset"] + entry["bytes"]]
        if entry["type"].startswith("uint"):  # packed, 8 // bits indices in a byte
            element = ir.IntegerType.get_unsigned(int(entry["type"][4:]))
            data = np.ascontiguousarray(raw)
        else:
            array = raw.view(np.dtype(entry["type"]))
            data = np.ascontiguousarray(array if dtype is None else array.astype(dtype))
            element = TensorType((1,), data.dtype.type)._to_mlir().element_type
        kind = ir.RankedTensorType.get(list(shape), element)
        return create_elements_attr(ir.Location.unknown(), kind, data.reshape(-1).view(np.uint8))


class Builder:
    """Appends operations to one function. dtype is np.float16 or np.float32."""

    def __init__(self, constants: Constants, dtype: type) -> None:
        self.constants = constants
        self.dtype = dtype

    # Constants.

    def stored(
        self, name: str, shape: tuple[int, ...] | None = None, dtype: type | None = None
    ) -> Tensor:
        """A constant of the job; floating-point ones in the arithmetic of the program."""
        shape = tuple(shape or self.constants.shape(name))
        if dtype is None and self.constants.type(name).startswith("float"):
            dtype = self.dtype
        attribute = self.constants.attribute(name, dtype, shape)
        return Tensor(Value._from_mlir(ops.ConstantOp(value=attribute).result), shape)

    def literal(self, array, dtype: type | None = None) -> Tensor:
        array = np.asarray(array, dtype or self.dtype)
        return Tensor(constant(array), array.shape)

    def integers(self, *values: int | Dim) -> Value:
        """An int32 vector, of which some elements may be known only when the program runs."""
        if not any(isinstance(v, Dim) for v in values):
            return constant(np.array(values, np.int32))
        parts = [v.value if isinstance(v, Dim) else constant(np.array([v], np.int32)) for v in values]
        return authoring.concat(0, parts)

    # Shapes.

    def size(self, x: Tensor, axis: int) -> Dim:
        shape = authoring.cast(authoring.get_shape(x.value), np.int32)
        return Dim(authoring.slice_(shape, *(np.array([i], np.int32) for i in (axis, axis + 1, 1))))

    def typed(self, op: type, x: Tensor, shape: tuple[int, ...], *operands: Value) -> Tensor:
        """An operation whose result has the element type of x and this shape."""
        dims = [ir.ShapedType.get_dynamic_size() if n == DYNAMIC else n for n in shape]
        element = ir.RankedTensorType(x.value._to_mlir().type).element_type
        result = ir.RankedTensorType.get(dims, element)
        out = op(x.value._to_mlir(), *(o._to_mlir() for o in operands), results=[result]).result
        return Tensor(Value._from_mlir(out), tuple(shape))

    def reshape(self, x: Tensor, *dims: int | Dim) -> Tensor:
        """Reshapes x; -1 stands for what the other dimensions leave."""
        shape = tuple(DYNAMIC if isinstance(n, Dim) else n for n in dims)
        if DYNAMIC not in x.shape and shape.count(-1) == 1 and not any(isinstance(n, Dim) for n in dims):
            rest = int(np.prod(x.shape)) // -int(np.prod(shape))
            shape = tuple(rest if n == -1 else n for n in shape)
            dims = shape
        return self.typed(ops.ReshapeOp, x, shape, self.integers(*dims))

    def slice(self, x: Tensor, begin: tuple, end: tuple) -> Tensor:
        shape = tuple(
            DYNAMIC if isinstance(b, Dim) or isinstance(e, Dim) else e - b
            for b, e in zip(begin, end, strict=True)
        )
        return self.typed(
            ops.SliceOp, x, shape, self.integers(*begin), self.integers(*end), self.integers(*[1] * len(shape))
        )

    def part(self, x: Tensor, axis: int, begin: int, end: int, sizes: tuple) -> Tensor:
        """x[begin:end] of one axis; sizes are the dimensions of x as ints and Dims."""
        first, last = [0] * len(x.shape), list(sizes)
        first[axis], last[axis] = begin, end
        out = self.slice(x, tuple(first), tuple(last))
        return Tensor(out.value, tuple(end - begin if i == axis else n for i, n in enumerate(x.shape)))

    def transpose(self, x: Tensor, *perm: int) -> Tensor:
        y = authoring.transpose(x.value, np.array(perm, np.uint32))
        return Tensor(y, tuple(x.shape[i] for i in perm))

    def concat(self, axis: int, *xs: Tensor) -> Tensor:
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        return Tensor(authoring.concat(axis, [x.value for x in xs]), tuple(shape))

    # Arithmetic.

    def binary(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """add, sub, mul, divide, maximum, greater; broadcasts where the shapes differ."""
        plain = x.shape == y.shape and hasattr(authoring, name)
        op = getattr(authoring, name if plain else "broadcasting_" + name)
        return Tensor(op(x.value, y.value), broadcast(x.shape, y.shape))

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return self.binary("add", x, y)

    def sub(self, x: Tensor, y: Tensor) -> Tensor:
        return self.binary("sub", x, y)

    def mul(self, x: Tensor, y: Tensor) -> Tensor:
        return self.binary("mul", x, y)

    def scaled(self, x: Tensor, factor: float) -> Tensor:
        return x if factor == 1 else self.mul(x, self.literal(factor))

    def unary(self, name: str, x: Tensor) -> Tensor:
        return Tensor(getattr(authoring, name)(x.value), x.shape)

    def cast(self, x: Tensor, dtype: type) -> Tensor:
        return Tensor(authoring.cast(x.value, dtype), x.shape)

    def reduce(self, name: str, x: Tensor, axis: int) -> Tensor:
        y = getattr(authoring, name)(x.value, np.array([axis], np.int32))
        return Tensor(y, tuple(1 if i == axis else n for i, n in enumerate(x.shape)))

    def softmax(self, x: Tensor, axis: int) -> Tensor:
        return Tensor(authoring.softmax(x.value, np.array(axis, np.int32)), x.shape)

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """The product of the last two dimensions; the others broadcast."""
        z = authoring.broadcasting_batch_matmul(x.value, y.value)
        return Tensor(z, broadcast(x.shape[:-2], y.shape[:-2]) + (x.shape[-2], y.shape[-1]))

    def gather(self, table: Tensor, rows: Tensor) -> Tensor:
        """The rows [n, 1] of a table [rows, cols]: [n, cols]."""
        return self.typed(ops.GatherNdOp, table, (rows.shape[0],) + table.shape[1:], rows.value)

    def update(self, x: Tensor, begin: tuple, end: tuple, part: Tensor) -> Tensor:
        y = authoring.slice_update(
            x.value, self.integers(*begin), self.integers(*end), self.integers(*[1] * len(begin)), part.value
        )
        return Tensor(y, x.shape)

    # Matrices.

    def matrix(self, name: str, trailing: int = 0) -> Tensor:
        """The weights [rows, cols] of a matrix, followed by trailing dimensions of 1.

        A palette stays the packed indices and tables of the artifact, with a factor per row;
        int8 rows stay integers with a factor per row.
        """
        ones = (1,) * trailing
        if name + ".indices" in self.constants:
            rows, cols = self.constants.shape(name + ".indices")
            groups, entries = self.constants.shape(name + ".lut")
            indices = self.stored(name + ".indices", (rows, cols) + ones)
            lut = self.stored(name + ".lut", (groups, 1) + ones + (entries, 1))
            dense = authoring.lut_to_dense(indices.value, lut.value, np.array(0, np.int16))
            w = Tensor(dense, indices.shape)
            return self.rows_scaled(w, name + ".row_scale", self.dtype, ones) if name + ".row_scale" in self.constants else w
        if name + ".q" in self.constants:
            w = self.stored(name + ".q", tuple(self.constants.shape(name + ".q")) + ones)
            return self.rows_scaled(w, name + ".scale", np.int8, ones)
        return self.stored(name, tuple(self.constants.shape(name)) + ones)

    def rows_scaled(self, w: Tensor, scale: str, data: type, ones: tuple) -> Tensor:
        """w times a factor per row: blockwise_shift_scale without offsets."""
        shape = (w.shape[0], 1) + ones
        factor = self.stored(scale, shape)
        zeros, offset = np.zeros(shape, data), np.zeros(shape, self.dtype)
        return Tensor(authoring.blockwise_shift_scale(w.value, factor.value, zeros, offset), w.shape)

    def embedded(self, name: str, rows: Tensor, exponent: int) -> Tensor:
        """The rows [n, 1] of an embedding matrix; its int8 scales are multiplied by 2^exponent."""
        if name + ".q" not in self.constants:
            return self.gather(self.matrix(name), rows)
        scale = self.stored(name + ".scale", (self.constants.shape(name + ".q")[0], 1))
        q = self.cast(self.gather(self.stored(name + ".q"), rows), self.dtype)
        return self.scaled(self.mul(q, self.gather(scale, rows)), 2.0**-exponent)


def broadcast(x: tuple[int, ...], y: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an element-wise operation, by NumPy's rule; DYNAMIC wins over 1."""
    if len(x) < len(y):
        x, y = y, x
    y = (1,) * (len(x) - len(y)) + y
    return tuple(b if a == 1 else a for a, b in zip(x, y, strict=True))


class Function:
    """One function of the program, with its inputs, states and outputs."""

    def __init__(self, name: str, inputs: dict[str, tuple], states: dict[str, tuple]) -> None:
        """inputs and states map names to a shape and an element type."""
        declared = {**inputs, **states}
        self._names = list(declared)
        self._states = list(states)
        kinds = [TensorType(shape, dtype)._to_mlir() for shape, dtype in declared.values()]
        self._graph = GraphOp(name, kinds, [], self._names)
        self.values = {
            n: Tensor(Value._from_mlir(a), tuple(declared[n][0]))
            for n, a in zip(self._names, self._graph.arguments, strict=True)
        }

    def body(self):
        """A context in which operations are appended to this function."""
        return self._graph.block

    def finish(self, outputs: dict[str, Tensor], states: dict[str, Tensor]) -> None:
        """Sets the results; states maps the name of a state to its new value."""
        results = {**outputs, **{"new_" + n: t for n, t in states.items()}}
        self._graph.outputs_spec = [(n, t.value._to_mlir()) for n, t in results.items()]
        attributes = []
        for n in self._names:
            d = {"coreai.name": ir.StringAttr.get(n)}
            if n in self._states:
                d["MutableBuffers.buffer_mutation"] = ir.StringAttr.get("new_" + n)
            attributes.append(ir.DictAttr.get(d))
        self._graph.arg_attrs = ir.ArrayAttr.get(attributes)


__all__ = [
    "AIProgram",
    "Builder",
    "Constants",
    "DYNAMIC",
    "Dim",
    "Function",
    "HardwareConstraints",
    "Module",
    "Tensor",
]
