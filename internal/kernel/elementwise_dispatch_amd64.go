package kernel

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
