package coreml

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"afmq/internal/kernel"
)

// value is a tensor of a program: an input, a constant or the result of an operation.
type value struct {
	name  string
	dtype dataType
	shape []int
}

// builder builds the block of one function. Values are in static single assignment form.
type builder struct {
	weights *weightFile
	ops     message // field operations of Block
	count   int     // of the operations; makes names unique
	consts  map[string]value
}

func newBuilder(w *weightFile) *builder { return &builder{weights: w, consts: map[string]value{}} }

// arg is a named input of an operation: a value, a list of values, or a constant (message).
type arg struct {
	name  string
	value any
}

// op appends an operation and returns its result.
func (b *builder) op(kind string, t dataType, shape []int, args ...arg) value {
	return b.opNamed(kind, b.fresh(kind), t, shape, args...)
}

// opNamed appends an operation whose result has the given name.
func (b *builder) opNamed(kind, name string, t dataType, shape []int, args ...arg) value {
	v := value{name, t, slices.Clone(shape)}
	b.append(kind, name, []value{v}, args...)
	return v
}

func (b *builder) fresh(kind string) string {
	b.count++
	return fmt.Sprintf("%s_%d", kind, b.count)
}

func (b *builder) append(kind, name string, results []value, args ...arg) {
	m := message(nil).text(1, kind)
	for _, a := range args {
		m = m.entry(2, a.name, binding(a.value))
	}
	for _, v := range results {
		m = m.bytes(3, message(nil).text(1, v.name).bytes(2, tensorType(v.dtype, v.shape)))
	}
	b.ops = b.ops.bytes(3, m.entry(5, "name", stringValue(name)))
}

// binding encodes an Argument.
func binding(v any) message {
	switch x := v.(type) {
	case value:
		return message(nil).bytes(1, message(nil).text(1, x.name))
	case []value:
		var m message
		for _, y := range x {
			m = m.bytes(1, message(nil).text(1, y.name))
		}
		return m
	case message:
		return message(nil).bytes(1, message(nil).bytes(2, x))
	}
	panic(fmt.Sprintf("coreml: no argument of type %T", v))
}

// immediate encodes a Value with a TensorValue: its field and the content of that.
func immediate(t dataType, shape []int, tensor message) message {
	return message(nil).bytes(2, tensorType(t, shape)).bytes(3, message(nil).bytes(1, tensor))
}

func stringValue(s string) message {
	return immediate(text, nil, message(nil).bytes(4, message(nil).text(1, s)))
}

// constant returns the constant with this content; equal ones are made once in a function.
func (b *builder) constant(t dataType, shape []int, content message) value {
	key := string(content)
	if v, ok := b.consts[key]; ok {
		return v
	}
	v := value{b.fresh("const"), t, slices.Clone(shape)}
	m := message(nil).text(1, "const").bytes(3, message(nil).text(1, v.name).bytes(2, tensorType(t, shape)))
	b.ops = b.ops.bytes(3, m.entry(5, "name", stringValue(v.name)).entry(5, "val", content))
	b.consts[key] = v
	return v
}

// integers returns a constant vector.
func (b *builder) integers(values ...int) value {
	shape := []int{len(values)}
	return b.constant(int32s, shape, immediate(int32s, shape, message(nil).bytes(2, message(nil).bytes(1, packed(values)))))
}

func (b *builder) integer(v int) value {
	return b.constant(int32s, nil, immediate(int32s, nil, message(nil).bytes(2, message(nil).bytes(1, packed([]int{v})))))
}

func (b *builder) boolean(v bool) value {
	n := 0
	if v {
		n = 1
	}
	return b.constant(boolean, nil, immediate(boolean, nil, message(nil).bytes(3, message(nil).bytes(1, packed([]int{n})))))
}

func (b *builder) string(s string) value { return b.constant(text, nil, stringValue(s)) }

// half returns a constant scalar in fp16, rounded to the nearest.
func (b *builder) half(v float64) value {
	h := make([]uint16, 1)
	kernel.F32ToF16(h, []float32{float32(v)})
	return b.constant(half16, nil, immediate(half16, nil, message(nil).bytes(7, message(nil).bytes(1, binary.LittleEndian.AppendUint16(nil, h[0])))))
}

// stored encodes a Value in weight.bin. key names its content.
func (b *builder) stored(key string, t dataType, shape []int, write func(ctx context.Context, w io.Writer) error) message {
	at := b.weights.add(key, t, elements(shape), write)
	file := message(nil).text(1, "@model_path/weights/weight.bin").varint(2, int(at))
	return message(nil).bytes(2, tensorType(t, shape)).bytes(5, file)
}

// storedHalf returns a constant of fp16 values in weight.bin.
func (b *builder) storedHalf(key string, shape []int, write func(ctx context.Context, w io.Writer) error) value {
	return b.constant(half16, shape, b.stored(key, half16, shape, write))
}

// identifier makes a name of a value from the name of a tensor.
func identifier(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
}
