package main

import "fmt"

// The instructions that Go's assembler has. As in Arm's manuals the destination is the first parameter;
// in Go assembly it is the last operand.

func (v V) f() string                    { return fmt.Sprintf("F%d", v) }
func (v V) b() string                    { return v.as("B16") }
func (v V) h() string                    { return v.as("H8") }
func (v V) s() string                    { return v.as("S4") }
func (v V) d() string                    { return v.as("D2") }
func (v V) as(arrangement string) string { return fmt.Sprintf("V%d.%s", v, arrangement) }

func mem(base R, offset int) string { return fmt.Sprintf("%d(R%d)", offset, base) }

// load reads 16 bytes.
func (fn *function) load(v V, base R, offset int) { fn.op("FMOVQ", mem(base, offset), v.f()) }

func (fn *function) store(v V, base R, offset int) { fn.op("FMOVQ", v.f(), mem(base, offset)) }

// loads reads adjacent vectors, two at a time.
func (fn *function) loads(v []V, base R, offset int) {
	for i := 0; i < len(v); i += 2 {
		if i+1 == len(v) {
			fn.load(v[i], base, offset+16*i)
			break
		}
		fn.op("FLDPQ", mem(base, offset+16*i), fmt.Sprintf("(F%d, F%d)", v[i], v[i+1]))
	}
}

func (fn *function) stores(v []V, base R, offset int) {
	for i := 0; i < len(v); i += 2 {
		fn.op("FSTPQ", fmt.Sprintf("(F%d, F%d)", v[i], v[i+1]), mem(base, offset+16*i))
	}
}

// loadLane reads one float32 into lane 0 and clears the others.
func (fn *function) loadLane(v V, base R, offset int) { fn.op("FMOVS", mem(base, offset), v.f()) }

// loadPlanes reads 64 bytes: byte i of dword j becomes byte j of v[i].
func (fn *function) loadPlanes(v []V, base R) {
	fn.op("VLD4", fmt.Sprintf("(R%d)", base),
		fmt.Sprintf("[V%d.B16, V%d.B16, V%d.B16, V%d.B16]", v[0], v[1], v[2], v[3]))
}

// dup copies a 32-bit lane to all lanes.
func (fn *function) dup(d, n V, lane int) {
	fn.op("VDUP", fmt.Sprintf("V%d.S[%d]", n, lane), d.s())
}

// dupImm copies a 32-bit constant to all lanes.
func (fn *function) dupImm(d V, x uint32) {
	r := fn.reg()
	fn.op("MOVW", fmt.Sprintf("$%#x", x), r)
	fn.op("VDUP", r, d.s())
	delete(fn.rBusy, r)
}

func (fn *function) bytesImm(d V, x int) { fn.op("VMOVI", imm(x), d.b()) }

func (fn *function) eor(d, n, m V) { fn.op("VEOR", m.b(), n.b(), d.b()) }
func (fn *function) orr(d, n, m V) { fn.op("VORR", m.b(), n.b(), d.b()) }
func (fn *function) and(d, n, m V) { fn.op("VAND", m.b(), n.b(), d.b()) }

// bsl selects the bits of n where d has ones, and those of m elsewhere.
func (fn *function) bsl(d, n, m V) { fn.op("VBSL", m.b(), n.b(), d.b()) }

// bit copies the bits of n where m has ones, and keeps the others.
func (fn *function) bit(d, n, m V) { fn.op("VBIT", m.b(), n.b(), d.b()) }

func (fn *function) addInt(d, n, m V) { fn.op("VADD", m.s(), n.s(), d.s()) }
func (fn *function) subInt(d, n, m V) { fn.op("VSUB", m.s(), n.s(), d.s()) }

func (fn *function) shl(d, n V, bits int)      { fn.op("VSHL", imm(bits), n.s(), d.s()) }
func (fn *function) ushr(d, n V, bits int)     { fn.op("VUSHR", imm(bits), n.s(), d.s()) }
func (fn *function) ushrByte(d, n V, bits int) { fn.op("VUSHR", imm(bits), n.b(), d.b()) }

// fmla adds n·m to d with one rounding; fmls subtracts it.
func (fn *function) fmla(d, n, m V)  { fn.op("VFMLA", m.s(), n.s(), d.s()) }
func (fn *function) fmls(d, n, m V)  { fn.op("VFMLS", m.s(), n.s(), d.s()) }
func (fn *function) fmla2(d, n, m V) { fn.op("VFMLA", m.d(), n.d(), d.d()) } // float64

// tbl looks up the bytes of m in the 16 bytes of n; an index above 15 gives zero.
func (fn *function) tbl(d, n, m V) {
	fn.op("VTBL", m.b(), "["+n.b()+"]", d.b())
}

// zip1 and zip2 interleave the lower and the upper halves of n and m.
func (fn *function) zip1(arr string, d, n, m V) { fn.op("VZIP1", m.as(arr), n.as(arr), d.as(arr)) }
func (fn *function) zip2(arr string, d, n, m V) { fn.op("VZIP2", m.as(arr), n.as(arr), d.as(arr)) }

// uzp1 and uzp2 collect the even and the odd elements of n, then of m.
func (fn *function) uzp1(arr string, d, n, m V) { fn.op("VUZP1", m.as(arr), n.as(arr), d.as(arr)) }
func (fn *function) uzp2(arr string, d, n, m V) { fn.op("VUZP2", m.as(arr), n.as(arr), d.as(arr)) }

// trn1 and trn2 pair the even and the odd elements of n with those of m.
func (fn *function) trn1(arr string, d, n, m V) { fn.op("VTRN1", m.as(arr), n.as(arr), d.as(arr)) }
func (fn *function) trn2(arr string, d, n, m V) { fn.op("VTRN2", m.as(arr), n.as(arr), d.as(arr)) }
