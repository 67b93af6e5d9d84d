package main

import (
	"fmt"
	"strings"
)

// V is a vector register, V0 to V31, and its low parts F0 to F31.
type V int

// R is a general register.
type R int

// usable lists the general registers that a kernel may use: R18 is reserved by the platform, R27 by the
// assembler, R26 and R28 to R30 by Go.
var usable = []R{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 21, 22, 23, 24, 25}

// param is a parameter, or a result, in the caller's frame.
type param struct {
	name, typ string
	offset    int
}

// function is a kernel under construction.
type function struct {
	f      *file
	params []param
	vBusy  [32]bool
	rBusy  map[R]bool
}

// begin starts a function. params and result are lists in Go syntax.
func (f *file) begin(name, params, result, doc string) *function {
	fn := &function{f: f, rBusy: map[R]bool{}}
	size := fn.layout(params, 0)
	args := size
	if result != "" {
		args = fn.layout(result, (size+7)&^7)
		result = " (" + result + ")"
	}
	signature := fmt.Sprintf("func %s(%s)%s", name, params, result)
	fmt.Fprintf(&f.decl, "\n// %s %s\n//\n//go:noescape\n%s\n", name, doc, signature)
	fmt.Fprintf(&f.text, "\n// %s\nTEXT ·%s(SB), NOSPLIT, $0-%d\n", signature, name, args)
	return fn
}

// layout assigns offsets to parameters by Go's stack-based calling convention (ABI0).
func (fn *function) layout(list string, offset int) (end int) {
	items := strings.Split(list, ", ")
	typ := ""
	for i := len(items) - 1; i >= 0; i-- { // in "a, b *float32" the type follows
		name, t, ok := strings.Cut(items[i], " ")
		if ok {
			typ = t
		}
		items[i] = name + " " + typ
	}
	for _, item := range items {
		name, typ, _ := strings.Cut(item, " ")
		size := 8
		if typ == "float32" {
			size = 4
		}
		offset = (offset + size - 1) &^ (size - 1)
		fn.params = append(fn.params, param{name, typ, offset})
		offset += size
	}
	return offset
}

func (fn *function) at(name string) string {
	for _, p := range fn.params {
		if p.name == name {
			return fmt.Sprintf("%s+%d(FP)", name, p.offset)
		}
	}
	panic("no parameter " + name)
}

// op writes an instruction with operands in the order of Go assembly.
func (fn *function) op(name string, operands ...any) {
	s := make([]string, len(operands))
	for i, o := range operands {
		if r, ok := o.(R); ok {
			s[i] = fmt.Sprintf("R%d", r)
		} else {
			s[i] = fmt.Sprint(o)
		}
	}
	fmt.Fprintln(&fn.f.text, strings.TrimRight("\t"+name+" "+strings.Join(s, ", "), " "))
}

func (fn *function) label(name string) { fmt.Fprintf(&fn.f.text, "\n%s:\n", name) }

// vec allocates a vector register.
func (fn *function) vec() V { return fn.vecs(1)[0] }

// vecs allocates n consecutive vector registers.
func (fn *function) vecs(n int) []V {
	for first := 0; first+n <= len(fn.vBusy); first++ {
		v := make([]V, 0, n)
		for i := first; i < first+n && !fn.vBusy[i]; i++ {
			v = append(v, V(i))
		}
		if len(v) == n {
			for _, r := range v {
				fn.vBusy[r] = true
			}
			return v
		}
	}
	panic("no vector registers left")
}

// drop frees vector registers.
func (fn *function) drop(v ...V) {
	for _, r := range v {
		fn.vBusy[r] = false
	}
}

func (fn *function) zeros(n int) []V {
	v := fn.vecs(n)
	for _, r := range v {
		fn.eor(r, r, r)
	}
	return v
}

// reg allocates a general register.
func (fn *function) reg() R {
	for _, r := range usable {
		if !fn.rBusy[r] {
			fn.rBusy[r] = true
			return r
		}
	}
	panic("no general registers left")
}

// arg loads an integer or pointer parameter.
func (fn *function) arg(name string) R {
	r := fn.reg()
	fn.op("MOVD", fn.at(name), r)
	return r
}

// broadcast loads a float32 parameter into every lane.
func (fn *function) broadcast(name string) V {
	v := fn.vec()
	fn.op("FMOVS", fn.at(name), v.f())
	fn.dup(v, v, 0)
	return v
}

// strided returns the addresses of n panels that start at the parameter base and
// are the parameter step, in units of 1<<shift bytes, apart.
func (fn *function) strided(base, step string, shift, n int) []R {
	p := []R{fn.arg(base)}
	if n == 1 {
		return p
	}
	s := fn.arg(step)
	for len(p) < n {
		r := fn.reg()
		fn.op("ADD", fmt.Sprintf("R%d<<%d", s, shift), p[len(p)-1], r)
		p = append(p, r)
	}
	return p
}

// add advances registers by n bytes.
func (fn *function) add(n int, regs ...R) {
	for _, r := range regs {
		fn.op("ADD", imm(n), r)
	}
}

// loop writes a loop that executes body and subtracts step from count until count is zero.
func (fn *function) loop(name string, count R, step int, body func()) {
	fn.label(name)
	body()
	fn.op("SUBS", imm(step), count)
	fn.op("BNE", name)
}

func (fn *function) ret() { fn.op("RET") }

func imm(n int) string { return fmt.Sprintf("$%d", n) }
