//go:build !amd64

package kernel

// bestISA returns the widest level of this machine: other architectures have the
// Go twins only.
func bestISA() isa { return isaGeneric }

func gemms(isa) *gemmSet { return genericGemms }

// transposeBlocks does nothing: transpose does all columns.
func transposeBlocks(isa, []float32, int, []float32, int, int, int) int { return 0 }

func gather(_ isa, dst, src []float32, ld int) { gatherGo(dst, src, ld) }

// hasFused reports that no kernel multiplies weights in their stored form.
func hasFused(isa, format) bool { return false }

func (f *forward) multiplyStored(*workerBuf, int, int) {}

func widenF16(_ isa, dst []float32, src []uint16)   { widenF16Go(dst, src) }
func widenBF16(_ isa, dst []float32, src []uint16)  { widenBF16Go(dst, src) }
func narrowF16(_ isa, dst []uint16, src []float32)  { narrowF16Go(dst, src) }
func narrowBF16(_ isa, dst []uint16, src []float32) { narrowBF16Go(dst, src) }
func widenInt8(_ isa, dst []float32, src []int8, scale []float32) {
	widenInt8Go(dst, src, scale)
}
func widenLUT(_ isa, field int, dst []float32, src []uint32, table, scale []float32) {
	widenLUTGo(field, dst, src, table, scale)
}
func widenLUT8(_ isa, dst []float32, src []uint8, table []float32, base []int32, scale []float32) {
	widenLUT8Go(dst, src, table, base, scale)
}

func maxOf(_ isa, x []float32, maxes *[16]float32) { maxOfGo(x, maxes) }
func scaleMax(_ isa, x []float32, scale float32, maxes *[16]float32) {
	scaleMaxGo(x, scale, maxes)
}
func expSum(_ isa, x []float32, sub float32, total *lanes) { expSumGo(x, sub, total) }
func sumExp(_ isa, x []float32, sub float32, total *lanes) { sumExpGo(x, sub, total) }
func mulScalar(_ isa, x []float32, s float32)              { mulScalarGo(x, s) }
func klSum(_ isa, p, q []float32, c *klParams, total *lanes) {
	klSumGo(p, q, c, total)
}
func sumSquares(_ isa, x []float32, total *lanes)     { sumSquaresGo(x, total) }
func normMul(_ isa, dst, x, w []float32, inv float32) { normMulGo(dst, x, w, inv) }
func siluMul(_ isa, dst, gate, up []float32)          { siluMulGo(dst, gate, up) }
func rotate(_ isa, lo, hi, cos, sin []float32)        { rotateGo(lo, hi, cos, sin) }
func addTo(_ isa, dst, x []float32)                   { addToGo(dst, x) }
func addScaled(_ isa, dst, x []float32, s float32)    { addScaledGo(dst, x, s) }
func siluMulBack(_ isa, gate, up, grad []float32)     { siluMulBackGo(gate, up, grad) }
func dotSum(_ isa, x, y []float32, total *lanes)      { dotSumGo(x, y, total) }
func mulTo(_ isa, dst, x []float32)                   { mulToGo(dst, x) }
func subMul(_ isa, dst, x []float32, s float32)       { subMulGo(dst, x, s) }

func peak(_ isa, n int) int                 { return peakGo(n) }
func stream(_ isa, b []byte, _ bool) uint64 { return streamGo(b) }
