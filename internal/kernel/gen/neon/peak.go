package main

import "fmt"

// peakChains is the number of independent multiply-adds in the peak loop: the product of latency and
// execution units of the widest present cores.
const peakChains = 16

// peak writes a loop of multiply-adds on registers.
func peak(o *file) {
	fn := o.begin("peakNEON", "n int", "flops int", fmt.Sprintf(
		"executes n rounds of %d fused multiply-adds on registers and returns the number of\n// floating-point operations.", peakChains))
	n, flops := fn.arg("n"), fn.reg()
	fn.op("LSL", imm(7), n, flops) // 16 chains of 4 lanes, two operations each
	acc := fn.zeros(peakChains)
	x := fn.zeros(1)[0]
	fn.loop("loop", n, 1, func() {
		for _, v := range acc {
			fn.fmla(v, x, x)
		}
	})
	fn.op("MOVD", flops, fn.at("flops"))
	fn.ret()
}

// stream writes a loop that reads memory.
func stream(o *file) {
	fn := o.begin("streamNEON", "p *byte, n int", "sum uint64",
		"reads n bytes, a multiple of 512, and returns a sum of some of their bits.")
	p, n := fn.arg("p"), fn.arg("n")
	acc, v := fn.zeros(4), fn.vecs(8)
	fn.loop("loop", n, 512, func() {
		for i := 0; i < 512; i += 16 * len(v) {
			fn.loads(v, p, i)
			for j := range v {
				fn.orr(acc[j%4], acc[j%4], v[j])
			}
		}
		fn.add(512, p)
	})
	for _, v := range acc[1:] {
		fn.orr(acc[0], acc[0], v)
	}
	fn.op("FMOVD", acc[0].f(), p)
	fn.op("MOVD", p, fn.at("sum"))
	fn.ret()
}
