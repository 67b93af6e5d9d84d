package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Neither avo nor Go's assembler supports AMX, so its instructions are written as bytes (Intel SDM
// volume 2, instruction formats of TILELOADD and others), with fixed registers.

// numbers maps the registers used in addresses to their encoding.
var numbers = map[reg.Register]byte{
	reg.RAX: 0, reg.RCX: 1, reg.RDX: 2, reg.RBX: 3, reg.RSI: 6, reg.RDI: 7,
	reg.R8: 8, reg.R9: 9, reg.R10: 10, reg.R11: 11, reg.R12: 12, reg.R13: 13,
}

func bytes(code ...byte) {
	for _, b := range code {
		Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []Op{U8(b)}})
	}
}

// vex2 returns the second byte of a VEX prefix of map 0F38 for the given base and index.
func vex2(base, index byte) byte {
	b := byte(0xe2)
	if index >= 8 {
		b &^= 0x40
	}
	if base >= 8 {
		b &^= 0x20
	}
	return b
}

// tileMemory writes a load or store of a tile at base+disp with rows index bytes apart.
func tileMemory(prefix byte, tile int, base, index reg.Register, disp int32) {
	b, i := numbers[base], numbers[index]
	bytes(0xc4, vex2(b, i), prefix, 0x4b, 0x84|byte(tile)<<3, i&7<<3|b&7,
		byte(disp), byte(disp>>8), byte(disp>>16), byte(disp>>24))
}

func tileLoad(tile int, base, index reg.Register, disp int32) {
	tileMemory(0x7b, tile, base, index, disp)
}
func tileStore(tile int, base, index reg.Register, disp int32) {
	tileMemory(0x7a, tile, base, index, disp)
}

// tileMultiply adds the products of the rows of a and the pairs of b to c (TDPBF16PS).
func tileMultiply(c, a, b int) {
	bytes(0xc4, 0xe2, 0x02|byte(^b&15)<<3, 0x5c, 0xc0|byte(c)<<3|byte(a))
}

func tileZero(tile int) { bytes(0xc4, 0xe2, 0x7b, 0x49, 0xc0|byte(tile)<<3) }
func tileRelease()      { bytes(0xc4, 0xe2, 0x78, 0x49, 0xc0) }

// tileConfig loads the tile configuration from the 64 bytes at base.
func tileConfig(base reg.Register) {
	n := numbers[base]
	bytes(0xc4, vex2(n, 0), 0x78, 0x49, n&7)
}

// stepsAhead is the prefetch distance for strips of X, in steps. (On 16 threads of a Xeon, two for each
// core: 5.0 to 5.3 TF/s with one step, 3.9 to 4.1 without prefetching.)
const stepsAhead = 1

// tileKernel is a product of X in x parts and W in w parts.
type tileKernel struct {
	name string
	x, w int
}

// write writes the kernel. Tiles 0 to 3 hold sums, [row half][panel]; 4 and 5 the row halves of a strip
// of X; 6 and 7 the two panels.
func (k tileKernel) write() {
	TEXT(k.name, NOSPLIT, "func(config *byte, hi, lo *uint16, whi, wlo *uint16, ps int, c *float32, strips, steps, stride, add int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s is a tileFunc: X in %d parts, W in %d.", k.name, k.x, k.w))
	Load(Param("config"), reg.RAX)
	tileConfig(reg.RAX)
	Load(Param("hi"), reg.RSI)
	Load(Param("lo"), reg.RDI)
	Load(Param("c"), reg.RDX)
	Load(Param("strips"), reg.R8)
	MOVQ(U32(64), reg.R9) // distance of rows in every tile, in bytes
	Load(Param("stride"), reg.R10)
	ADDQ(reg.R10, reg.R10)
	Label("strip")
	Load(Param("add"), reg.RAX)
	TESTQ(reg.RAX, reg.RAX)
	JZ(LabelRef("zero"))
	for t := range 4 {
		tileLoad(t, reg.RDX, reg.R9, int32(t*1024))
	}
	JMP(LabelRef("begin"))
	Label("zero")
	for t := range 4 {
		tileZero(t)
	}
	Label("begin")
	Load(Param("whi"), reg.RBX)
	Load(Param("wlo"), reg.R11)
	Load(Param("ps"), reg.R12)
	ADDQ(reg.R12, reg.R12)
	LEAQ(Mem{Base: reg.R11, Index: reg.R12, Scale: 1}, reg.R13)
	ADDQ(reg.RBX, reg.R12)
	Load(Param("steps"), reg.RCX)
	Label("step")
	all := func() {
		for i := range 4 {
			tileMultiply(i, 4+i/2, 6+i%2)
		}
	}
	x := reg.RSI
	if k.x == 2 { // the low part first, so that the high part is loaded for the low part of the weights
		x = reg.RDI
	}
	fetch := func(base reg.Register, from, to int) {
		for l := from; l < to; l++ {
			PREFETCHT0(Mem{Base: base, Disp: stepsAhead*stripBytes + 64*l})
		}
	}
	tileLoad(4, x, reg.R9, 0)
	tileLoad(6, reg.RBX, reg.R9, 0)
	tileMultiply(0, 4, 6)
	fetch(x, 0, 8)
	tileLoad(7, reg.R12, reg.R9, 0)
	tileMultiply(1, 4, 7)
	fetch(x, 8, 16)
	tileLoad(5, x, reg.R9, 1024)
	tileMultiply(2, 5, 6)
	fetch(x, 16, 24)
	tileMultiply(3, 5, 7)
	fetch(x, 24, 32)
	if k.x == 2 {
		fetch(reg.RSI, 0, 32)
		tileLoad(4, reg.RSI, reg.R9, 0)
		tileLoad(5, reg.RSI, reg.R9, 1024)
		all()
	}
	if k.w == 2 {
		tileLoad(6, reg.R11, reg.R9, 0)
		tileLoad(7, reg.R13, reg.R9, 0)
		all()
	}
	ADDQ(I32(stripBytes), reg.RSI)
	ADDQ(I32(stripBytes), reg.RDI)
	for _, w := range []reg.Register{reg.RBX, reg.R11, reg.R12, reg.R13} {
		ADDQ(I32(1024), w)
	}
	DECQ(reg.RCX)
	JNZ(LabelRef("step"))
	for t := range 4 {
		tileStore(t, reg.RDX, reg.R9, int32(t*1024))
	}
	ADDQ(I32(4096), reg.RDX)
	// Advance to the same steps of the next strip.
	ADDQ(reg.R10, reg.RSI)
	ADDQ(reg.R10, reg.RDI)
	DECQ(reg.R8)
	JNZ(LabelRef("strip"))
	tileRelease()
	RET()
}

// tilePeak writes a loop of products on tiles. The data must resemble real data: a core lowers its
// clock under real data, but not under zeros.
func tilePeak() {
	TEXT("peakTilesAMX", NOSPLIT, "func(config *byte, data *uint16, n int) (flops int)")
	Pragma("noescape")
	Doc("peakTilesAMX executes n rounds of four tile products of the 1024 bfloat16 at data and returns the number of floating-point operations.")
	Load(Param("config"), reg.RAX)
	tileConfig(reg.RAX)
	Load(Param("data"), reg.RSI)
	Load(Param("n"), reg.RCX)
	MOVQ(reg.RCX, reg.RBX)
	IMUL3Q(I32(4*2*16*16*32), reg.RBX, reg.RBX)
	MOVQ(U32(64), reg.R9)
	for t := range 8 {
		if t < 4 {
			tileZero(t)
		} else {
			tileLoad(t, reg.RSI, reg.R9, int32(t%2*1024))
		}
	}
	Label("loop")
	for t := range 4 {
		tileMultiply(t, 4+t/2, 6+t%2)
	}
	DECQ(reg.RCX)
	JNZ(LabelRef("loop"))
	tileRelease()
	Store(reg.RBX, ReturnIndex(0))
	RET()
}
