package main

import "fmt"

// The instructions that Go's assembler lacks, written as words with the instruction in Arm syntax as a
// comment. TestWordsAgreeWithAssembler assembles the comments.

// word writes an instruction of the given bits.
func (fn *function) word(bits uint32, format string, operands ...any) {
	fn.op("WORD", fmt.Sprintf("$%#08x // %s", bits, fmt.Sprintf(format, operands...)))
}

// three writes an instruction of three vectors.
func (fn *function) three(bits uint32, name, arr string, d, n, m V) {
	fn.word(bits|uint32(m)<<16|uint32(n)<<5|uint32(d), "%s v%d.%s, v%d.%s, v%d.%s", name, d, arr, n, arr, m, arr)
}

// two writes an instruction of two vectors.
func (fn *function) two(bits uint32, name string, d V, dArr string, n V, nArr string) {
	fn.word(bits|uint32(n)<<5|uint32(d), "%s v%d.%s, v%d.%s", name, d, dArr, n, nArr)
}

// byLane writes an instruction of two vectors and a float32 lane.
func (fn *function) byLane(bits uint32, name string, d, n, m V, lane int) {
	bits |= uint32(lane&1)<<21 | uint32(lane>>1)<<11
	fn.word(bits|uint32(m)<<16|uint32(n)<<5|uint32(d), "%s v%d.4s, v%d.4s, v%d.s[%d]", name, d, n, m, lane)
}

func (fn *function) fadd(d, n, m V)  { fn.three(0x4e20d400, "fadd", "4s", d, n, m) }
func (fn *function) fadd2(d, n, m V) { fn.three(0x4e60d400, "fadd", "2d", d, n, m) } // float64
func (fn *function) fsub(d, n, m V)  { fn.three(0x4ea0d400, "fsub", "4s", d, n, m) }
func (fn *function) fmul(d, n, m V)  { fn.three(0x6e20dc00, "fmul", "4s", d, n, m) }
func (fn *function) fdiv(d, n, m V)  { fn.three(0x6e20fc00, "fdiv", "4s", d, n, m) }

// fmax and fmin return NaN if either operand is NaN.
func (fn *function) fmax(d, n, m V) { fn.three(0x4e20f400, "fmax", "4s", d, n, m) }
func (fn *function) fmin(d, n, m V) { fn.three(0x4ea0f400, "fmin", "4s", d, n, m) }

// A comparison sets all bits of a lane where it holds. It never holds for NaN.
func (fn *function) fcmeq(d, n, m V) { fn.three(0x4e20e400, "fcmeq", "4s", d, n, m) }
func (fn *function) fcmge(d, n, m V) { fn.three(0x6e20e400, "fcmge", "4s", d, n, m) }
func (fn *function) fcmgt(d, n, m V) { fn.three(0x6ea0e400, "fcmgt", "4s", d, n, m) }

func (fn *function) fcmeqZero(d, n V) {
	fn.word(0x4ea0d800|uint32(n)<<5|uint32(d), "fcmeq v%d.4s, v%d.4s, #0.0", d, n)
}

func (fn *function) fabs(d, n V)   { fn.two(0x4ea0f800, "fabs", d, "4s", n, "4s") }
func (fn *function) fneg(d, n V)   { fn.two(0x6ea0f800, "fneg", d, "4s", n, "4s") }
func (fn *function) frintn(d, n V) { fn.two(0x4e218800, "frintn", d, "4s", n, "4s") } // ties to even
func (fn *function) fcvtns(d, n V) { fn.two(0x4e21a800, "fcvtns", d, "4s", n, "4s") }

// fcvtlHalf widens the four lower float16, fcvtl2Half the upper ones.
func (fn *function) fcvtlHalf(d, n V)  { fn.two(0x0e217800, "fcvtl", d, "4s", n, "4h") }
func (fn *function) fcvtl2Half(d, n V) { fn.two(0x4e217800, "fcvtl2", d, "4s", n, "8h") }

// fcvtnHalf rounds to float16 and clears the upper half; fcvtn2Half writes the upper half and keeps the
// lower.
func (fn *function) fcvtnHalf(d, n V)  { fn.two(0x0e216800, "fcvtn", d, "4h", n, "4s") }
func (fn *function) fcvtn2Half(d, n V) { fn.two(0x4e216800, "fcvtn2", d, "8h", n, "4s") }

// fcvtl widens the two lower float32 to float64, fcvtl2 the upper ones.
func (fn *function) fcvtl(d, n V)  { fn.two(0x0e617800, "fcvtl", d, "2d", n, "2s") }
func (fn *function) fcvtl2(d, n V) { fn.two(0x4e617800, "fcvtl2", d, "2d", n, "4s") }

// fromFixed converts fixed-point integers with the given number of fraction bits.
func (fn *function) fromFixed(d, n V, bits int) {
	fn.word(0x4f00e400|uint32(64-bits)<<16|uint32(n)<<5|uint32(d), "scvtf v%d.4s, v%d.4s, #%d", d, n, bits)
}

// sshr shifts right arithmetically.
func (fn *function) sshr(d, n V, bits int) {
	fn.word(0x4f000400|uint32(64-bits)<<16|uint32(n)<<5|uint32(d), "sshr v%d.4s, v%d.4s, #%d", d, n, bits)
}

// fmlaLane adds n times a lane of m to d with one rounding.
func (fn *function) fmlaLane(d, n, m V, lane int) { fn.byLane(0x4f801000, "fmla", d, n, m, lane) }
