package kernel

// partition divides a product into blocks·groups jobs: per is the number of weight panels in a
// block, and groups the number of groups of strips of X. There is more than one group if the
// blocks alone are too few for the threads.
func (p *Pool) partition(m, panels, strips int) (per, blocks, groups int) {
	per = jobPanels
	for p.threads > 1 && per > 2 && (panels+per-1)/per < 6*p.threads && (m > 1 || per > 4) {
		per /= 2
	}
	blocks = (panels + per - 1) / per
	groups = 1
	if p.threads > 1 {
		groups = min(strips, max(1, 2*p.threads/blocks))
	}
	return per, blocks, groups
}

// share returns the panels [p0, p0+np) and the strips [s0, s1) of job i of a partition.
func share(i, per, groups, panels, strips int) (p0, np, s0, s1 int) {
	p0 = i / groups * per
	g := i % groups
	return p0, min(per, panels-p0), strips * g / groups, strips * (g + 1) / groups
}

// runFor returns the function that runs the loops of a product with the given number of
// multiply-adds: Run, or runSerial if the product is too small for several threads.
func (p *Pool) runFor(work int) func(n int, f func(worker, i int)) {
	if p.threads == 1 || work < serialWork {
		return runSerial
	}
	return p.Run
}

// runSerial is Run on the caller's goroutine.
func runSerial(n int, f func(worker, i int)) {
	for i := range n {
		f(0, i)
	}
}
