package coreml

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/x448/float16"
	"google.golang.org/protobuf/encoding/protowire"
)

// The interpreter runs a function of a package as the MIL specification defines its operations,
// with every result in fp16 rounded once. It knows nothing of the model.

type operand struct {
	dtype dataType
	shape []int
	data  []float32 // integers and booleans too: small enough to be exact
	text  string
}

type operation struct {
	kind   string
	inputs map[string]operandRef
	val    []byte // Value of a const
	names  []string
	types  []operand // declared, without data
}

type operandRef struct {
	names []string
	value []byte // Value, if inline
}

type machine struct {
	weights []byte
	ops     []operation
	env     map[string]operand
	states  map[string]operand
	exact   bool // do not round results to fp16
}

// one returns the first field n of a message.
func one(m []byte, path ...protowire.Number) []byte {
	var out []byte
	found := false
	if err := descend(m, path, func(v []byte) error {
		if !found {
			out, found = v, true
		}
		return nil
	}); err != nil {
		panic(err)
	}
	return out
}

func all(m []byte, path ...protowire.Number) [][]byte {
	var out [][]byte
	if err := descend(m, path, func(v []byte) error { out = append(out, v); return nil }); err != nil {
		panic(err)
	}
	return out
}

func number(m []byte, n protowire.Number) int {
	v, err := varintField(m, n)
	if err != nil {
		return 0
	}
	return int(v)
}

// newMachine reads a function of a model.
func newMachine(model, weights []byte, name string) *machine {
	m := &machine{weights: weights, env: map[string]operand{}, states: map[string]operand{}}
	for _, entry := range all(model, 502, 2) {
		if string(one(entry, 1)) != name {
			continue
		}
		for _, op := range all(entry, 2, 3, 2, 3) {
			o := operation{kind: string(one(op, 1)), inputs: map[string]operandRef{}}
			for _, in := range all(op, 2) {
				ref := operandRef{}
				for _, b := range all(in, 2, 1) {
					if n := one(b, 1); n != nil {
						ref.names = append(ref.names, string(n))
					} else {
						ref.value = one(b, 2)
					}
				}
				o.inputs[string(one(in, 1))] = ref
			}
			for _, a := range all(op, 5) {
				if string(one(a, 1)) == "val" {
					o.val = one(a, 2)
				}
			}
			for _, out := range all(op, 3) {
				o.names = append(o.names, string(one(out, 1)))
				o.types = append(o.types, declared(one(out, 2)))
			}
			m.ops = append(m.ops, o)
		}
	}
	if m.ops == nil {
		panic("no function " + name)
	}
	return m
}

// declared reads a ValueType.
func declared(t []byte) operand {
	tensor := one(t, 1)
	o := operand{dtype: dataType(number(tensor, 1))}
	for _, d := range all(tensor, 3, 1) {
		o.shape = append(o.shape, number(d, 1))
	}
	return o
}

// load reads a Value.
func (m *machine) load(v []byte) operand {
	o := declared(one(v, 2))
	if file := one(v, 5); file != nil {
		return m.blob(o, number(file, 2))
	}
	tensor := one(v, 3, 1)
	switch o.dtype {
	case text:
		o.text = string(one(tensor, 4, 1))
	case half16:
		for b := one(tensor, 7, 1); len(b) > 0; b = b[2:] {
			o.data = append(o.data, float16.Frombits(binary.LittleEndian.Uint16(b)).Float32())
		}
	default:
		field := protowire.Number(2)
		if o.dtype == boolean {
			field = 3
		}
		for b := one(tensor, field, 1); len(b) > 0; {
			x, n := protowire.ConsumeVarint(b)
			o.data = append(o.data, float32(int64(x)))
			b = b[n:]
		}
	}
	if len(o.data) != elements(o.shape) && o.dtype != text {
		panic(fmt.Sprintf("a constant of shape %v has %d values", o.shape, len(o.data)))
	}
	return o
}

func (m *machine) blob(o operand, at int) operand {
	head := m.weights[at : at+64]
	start, size := int(binary.LittleEndian.Uint64(head[16:])), int(binary.LittleEndian.Uint64(head[8:]))
	data := m.weights[start : start+size]
	n := elements(o.shape)
	o.data = make([]float32, n)
	for i := range n {
		switch {
		case o.dtype == half16:
			o.data[i] = float16.Frombits(binary.LittleEndian.Uint16(data[2*i:])).Float32()
		case o.dtype == int8s:
			o.data[i] = float32(int8(data[i]))
		default:
			bits := o.dtype.bits()
			x := 0
			for b := range bits {
				p := i*bits + b
				x |= int(data[p/8]>>(p%8)&1) << b
			}
			o.data[i] = float32(x)
		}
	}
	return o
}

// run runs the function and returns the logits [chunk, vocab].
func (m *machine) run(ids []int32, position int) operand {
	env := map[string]operand{
		"position": {dtype: int32s, shape: []int{1}, data: []float32{float32(position)}},
	}
	in := operand{dtype: int32s, shape: []int{1, len(ids)}}
	for _, id := range ids {
		in.data = append(in.data, float32(id))
	}
	env["input_ids"] = in
	m.env = env
	for i := range m.ops {
		m.step(&m.ops[i])
	}
	return m.env["logits"]
}

func (m *machine) arg(o *operation, name string) operand { return m.args(o, name)[0] }

func (m *machine) args(o *operation, name string) []operand {
	ref, ok := o.inputs[name]
	if !ok {
		panic(o.kind + " has no " + name)
	}
	if ref.value != nil {
		return []operand{m.load(ref.value)}
	}
	var out []operand
	for _, n := range ref.names {
		v, ok := m.env[n]
		if !ok {
			panic(o.kind + ": no value " + n)
		}
		out = append(out, v)
	}
	return out
}

func (m *machine) step(o *operation) {
	switch o.kind {
	case "const":
		m.define(o, 0, m.load(o.val).data, m.load(o.val).text)
	case "write_state":
		m.states[o.inputs["input"].names[0]] = m.arg(o, "data")
	case "read_state":
		s, ok := m.states[o.inputs["input"].names[0]]
		if !ok {
			s = operand{data: make([]float32, elements(o.types[0].shape))}
		}
		m.define(o, 0, s.data, "")
	case "split":
		x := m.arg(o, "x")
		n := x.shape[len(x.shape)-1]
		parts := make([][]float32, 2)
		for at := 0; at < len(x.data); at += n {
			parts[0] = append(parts[0], x.data[at:at+n/2]...)
			parts[1] = append(parts[1], x.data[at+n/2:at+n]...)
		}
		m.define(o, 0, parts[0], "")
		m.define(o, 1, parts[1], "")
	default:
		m.define(o, 0, m.compute(o), "")
	}
}

// define sets a result, rounded to its declared type.
func (m *machine) define(o *operation, i int, data []float32, s string) {
	t := o.types[i]
	if t.dtype != text && len(data) != elements(t.shape) {
		panic(fmt.Sprintf("%s %s: %d values for shape %v", o.kind, o.names[i], len(data), t.shape))
	}
	if t.dtype == half16 && !m.exact {
		data = slices.Clone(data)
		for j, x := range data {
			data[j] = float16.Fromfloat32(x).Float32()
		}
	}
	t.data, t.text = data, s
	m.env[o.names[i]] = t
}

func (m *machine) compute(o *operation) []float32 {
	out := o.types[0]
	switch o.kind {
	case "constexpr_lut_to_dense":
		x, lut := m.arg(o, "indices"), m.arg(o, "lut")
		y := make([]float32, len(x.data))
		rows := x.shape[0] / lut.shape[0]
		for i, v := range x.data {
			y[i] = lut.data[i/x.shape[1]/rows*lut.shape[2]+int(v)]
		}
		return y
	case "constexpr_blockwise_shift_scale":
		x, s := m.arg(o, "data"), m.arg(o, "scale")
		return elementwise(x, s, out.shape, func(a, b float32) float32 { return a * b })
	case "add", "sub", "mul", "real_div", "maximum", "less_equal", "greater", "logical_and":
		return elementwise(m.arg(o, "x"), m.arg(o, "y"), out.shape, binaryFunctions[o.kind])
	case "abs", "silu", "cast", "reshape":
		x := m.arg(o, "x")
		y := slices.Clone(x.data)
		for i, v := range y {
			switch o.kind {
			case "abs":
				y[i] = float32(math.Abs(float64(v)))
			case "silu":
				y[i] = float32(float64(v) / (1 + math.Exp(-float64(v))))
			}
		}
		return y
	case "rsqrt":
		x, e := m.arg(o, "x"), m.arg(o, "epsilon")
		y := slices.Clone(x.data)
		for i, v := range y {
			y[i] = float32(1 / math.Sqrt(float64(v)+float64(e.data[0])))
		}
		return y
	case "reduce_max", "reduce_mean":
		return reduceLast(m.arg(o, "x"), o.kind == "reduce_max")
	case "transpose", "tile", "slice_by_size":
		return m.rearrange(o)
	case "concat":
		return concat(m.args(o, "values"), int(m.arg(o, "axis").data[0]))
	case "gather":
		x, at := m.arg(o, "x"), m.arg(o, "indices")
		width := elements(x.shape[1:])
		var y []float32
		for _, i := range at.data {
			y = append(y, x.data[int(i)*width:(int(i)+1)*width]...)
		}
		return y
	case "slice_update":
		return m.sliceUpdate(o)
	case "linear":
		return m.linear(o)
	case "scaled_dot_product_attention":
		return m.attention(o)
	}
	panic("operation " + o.kind)
}

var binaryFunctions = map[string]func(a, b float32) float32{
	"add": func(a, b float32) float32 { return a + b }, "sub": func(a, b float32) float32 { return a - b },
	"mul": func(a, b float32) float32 { return a * b }, "real_div": func(a, b float32) float32 { return a / b },
	"maximum":     func(a, b float32) float32 { return max(a, b) },
	"less_equal":  func(a, b float32) float32 { return truth(a <= b) },
	"greater":     func(a, b float32) float32 { return truth(a > b) },
	"logical_and": func(a, b float32) float32 { return a * b },
}

func truth(b bool) float32 {
	if b {
		return 1
	}
	return 0
}

// strides returns how far a step along each dimension of shape goes in x, 0 where x is
// broadcast.
func strides(x operand, shape []int) []int {
	out := make([]int, len(shape))
	step := 1
	for i := len(x.shape) - 1; i >= 0; i-- {
		if x.shape[i] > 1 {
			out[len(shape)-len(x.shape)+i] = step
		}
		step *= x.shape[i]
	}
	return out
}

func elementwise(x, y operand, shape []int, f func(a, b float32) float32) []float32 {
	sx, sy := strides(x, shape), strides(y, shape)
	out := make([]float32, elements(shape))
	walk(shape, func(i int, at []int) {
		a, b := 0, 0
		for d, p := range at {
			a += p * sx[d]
			b += p * sy[d]
		}
		out[i] = f(x.data[a], y.data[b])
	})
	return out
}

// walk calls f for every index of a shape.
func walk(shape []int, f func(i int, at []int)) {
	at := make([]int, len(shape))
	for i := range elements(shape) {
		f(i, at)
		for d := len(shape) - 1; d >= 0; d-- {
			if at[d]++; at[d] < shape[d] {
				break
			}
			at[d] = 0
		}
	}
}

func reduceLast(x operand, largest bool) []float32 {
	n := x.shape[len(x.shape)-1]
	var out []float32
	for at := 0; at < len(x.data); at += n {
		sum, most := float64(0), float32(math.Inf(-1))
		for _, v := range x.data[at : at+n] {
			sum += float64(v)
			most = max(most, v)
		}
		if largest {
			out = append(out, most)
		} else {
			out = append(out, float32(sum/float64(n)))
		}
	}
	return out
}

// rearrange computes the operations that only move elements.
func (m *machine) rearrange(o *operation) []float32 {
	x := m.arg(o, "x")
	out := make([]float32, elements(o.types[0].shape))
	from := make([]int, len(x.shape))
	walk(o.types[0].shape, func(i int, at []int) {
		switch o.kind {
		case "transpose":
			for d, p := range m.arg(o, "perm").data {
				from[int(p)] = at[d]
			}
		case "tile":
			for d := range at {
				from[d] = at[d] % x.shape[d]
			}
		case "slice_by_size":
			for d, b := range m.arg(o, "begin").data {
				from[d] = at[d] + int(b)
			}
		}
		j := 0
		for d, p := range from {
			j = j*x.shape[d] + p
		}
		out[i] = x.data[j]
	})
	return out
}

func concat(values []operand, axis int) []float32 {
	axis = (axis + len(values[0].shape)) % len(values[0].shape)
	outer := elements(values[0].shape[:axis])
	var out []float32
	for i := range outer {
		for _, v := range values {
			n := elements(v.shape[axis:])
			out = append(out, v.data[i*n:(i+1)*n]...)
		}
	}
	return out
}

func (m *machine) sliceUpdate(o *operation) []float32 {
	x, u, begin, end := m.arg(o, "x"), m.arg(o, "update"), m.arg(o, "begin"), m.arg(o, "end")
	out := slices.Clone(x.data)
	for d := range x.shape {
		if int(end.data[d]-begin.data[d]) != u.shape[d] || end.data[d] > float32(x.shape[d]) {
			panic(fmt.Sprintf("slice %v to %v of %v, update %v", begin.data, end.data, x.shape, u.shape))
		}
	}
	walk(u.shape, func(i int, at []int) {
		j := 0
		for d, p := range at {
			j = j*x.shape[d] + p + int(begin.data[d])
		}
		out[j] = u.data[i]
	})
	return out
}

func (m *machine) linear(o *operation) []float32 {
	x, w := m.arg(o, "x"), m.arg(o, "weight")
	rows, cols := w.shape[0], w.shape[1]
	var bias []float32
	if _, ok := o.inputs["bias"]; ok {
		bias = m.arg(o, "bias").data
	}
	var out []float32
	for at := 0; at < len(x.data); at += cols {
		for r := range rows {
			sum := float64(0)
			for c := range cols {
				sum += float64(x.data[at+c]) * float64(w.data[r*cols+c])
			}
			if bias != nil {
				sum += float64(bias[r])
			}
			out = append(out, float32(sum))
		}
	}
	return out
}

func (m *machine) attention(o *operation) []float32 {
	q, k, v, mask := m.arg(o, "query"), m.arg(o, "key"), m.arg(o, "value"), m.arg(o, "attn_mask")
	n := len(q.shape)
	rows, width, cols := q.shape[n-2], q.shape[n-1], k.shape[n-2]
	var out []float32
	for h := range elements(q.shape[:n-2]) {
		for r := range rows {
			scores := make([]float64, cols)
			most := math.Inf(-1)
			for c := range cols {
				dot := float64(0)
				for i := range width {
					dot += float64(q.data[(h*rows+r)*width+i]) * float64(k.data[(h*cols+c)*width+i])
				}
				scores[c] = dot/math.Sqrt(float64(width)) + float64(mask.data[r*cols+c])
				most = max(most, scores[c])
			}
			sum := float64(0)
			for c := range scores {
				scores[c] = math.Exp(scores[c] - most)
				sum += scores[c]
			}
			for i := range width {
				y := float64(0)
				for c := range cols {
					y += scores[c] / sum * float64(v.data[(h*cols+c)*width+i])
				}
				out = append(out, float32(y))
			}
		}
	}
	return out
}
