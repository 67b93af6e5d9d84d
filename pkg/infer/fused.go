package infer

// projectQKV computes r.q, r.k and r.v from x, with one product where the family has one matrix, and
// keeps in l what a tape needs of the adapters; l may be nil.
func (r *Runner) projectQKV(l *layerTape, layer int, x []float32, n int) {
	if r.model.Config.Fused {
		r.projectFused(l, layer, projQKV, x, n, r.q, r.k, r.v)
		return
	}
	r.keepProjected(l, layer, projQ, r.q, x, n)
	r.keepProjected(l, layer, projK, r.k, x, n)
	r.keepProjected(l, layer, projV, r.v, x, n)
}

// projectGateUp is projectQKV for r.gate and r.up.
func (r *Runner) projectGateUp(l *layerTape, layer int, x []float32, n int) {
	if r.model.Config.Fused {
		r.projectFused(l, layer, projGateUp, x, n, r.gate, r.up)
		return
	}
	r.keepProjected(l, layer, projGate, r.gate, x, n)
	r.keepProjected(l, layer, projUp, r.up, x, n)
}

// projectFused applies a fused projection into r.fused and divides its outputs among parts, [n, width]
// each.
func (r *Runner) projectFused(l *layerTape, layer int, p projection, x []float32, n int, parts ...[]float32) {
	r.fused = grow(r.fused, rowsOf(parts))
	r.keepProjected(l, layer, p, r.fused, x, n)
	eachPart(r.fused, n, parts, func(fused, part []float32) { copy(part, fused) })
}

// fuse joins the gradients of parts, [n, width] each, to that of the output of a fused projection.
func (b *backwardBuffers) fuse(n int, parts ...[]float32) []float32 {
	b.fused = grow(b.fused, rowsOf(parts))
	eachPart(b.fused, n, parts, func(fused, part []float32) { copy(fused, part) })
	return b.fused
}

// rowsOf returns how many numbers parts have together.
func rowsOf(parts [][]float32) (total int) {
	for _, p := range parts {
		total += len(p)
	}
	return total
}

// eachPart calls f for each row of each part and the place that it has in the fused row.
func eachPart(fused []float32, n int, parts [][]float32, f func(fused, part []float32)) {
	at := 0
	for i := range n {
		for _, p := range parts {
			width := len(p) / n
			f(fused[at:at+width], p[i*width:(i+1)*width])
			at += width
		}
	}
}
