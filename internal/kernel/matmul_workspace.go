package kernel

// workspace holds the buffers of one product while it runs. A pool keeps the workspaces of
// finished products for later ones.
type workspace struct {
	packed  []float32   // X in strips: [block of k][strip][k][rows of the strip]
	workers []workerBuf // one for each worker
	sum     []float32   // a product that is added to Y as a whole

	// The state of MulT, and the loops over it. The closures are made once for each workspace:
	// made for each product, they would be allocated each time.
	f32             f32Product
	packF32, runF32 func(worker, i int)

	// The same for products of 16-bit integers.
	rounded                   []int16   // rows of X, or packed strips of them
	factors                   []float32 // one for each block of each row of X
	int16                     int16Product
	roundI16, packI16, runI16 func(worker, i int)

	// The same for products on AMX tiles.
	hi, lo          []uint16 // X in strips, as one or two bfloat16
	amx             amxProduct
	packAMX, runAMX func(worker, i int)
}

// workerBuf holds the buffers of one worker.
type workerBuf struct {
	wide    []float32   // widened weights, [panel][k][16]
	panel   []float32   // widened columns of one panel, before they are transposed
	pairs   []int16     // weights as pairs of 16-bit integers, [panel][pair][16][2]
	strip   []int16     // rounded rows of a strip of X
	parts   [2][]uint16 // weights as pairs of bfloat16, [panel][pair][16][2]: high parts, low parts
	sums    []float32   // sums of AMX tiles
	factors []float32   // factors of the blocks of strip
	tile    [maxStrip * PanelRows]float32
	scratch Scratch
}

// getWorkspace returns a workspace that no other product uses.
func (p *Pool) getWorkspace() *workspace {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		ws := p.free[n-1]
		p.free = p.free[:n-1]
		return ws
	}
	ws := &workspace{workers: make([]workerBuf, p.threads)}
	ws.packF32 = func(_, s int) { ws.f32.pack(s) }
	ws.runF32 = func(worker, i int) { ws.f32.run(&ws.workers[worker], i) }
	ws.roundI16 = func(_, r int) { ws.int16.round(r) }
	ws.packI16 = func(worker, s int) { ws.int16.pack(&ws.workers[worker], s) }
	ws.runI16 = func(worker, i int) { ws.int16.run(&ws.workers[worker], i) }
	ws.packAMX = func(_, s int) { ws.amx.pack(s) }
	ws.runAMX = func(worker, i int) { ws.amx.run(&ws.workers[worker], i) }
	return ws
}

// putWorkspace makes a workspace available to later products.
func (p *Pool) putWorkspace(ws *workspace) {
	p.mu.Lock()
	p.free = append(p.free, ws)
	p.mu.Unlock()
}

// grow returns a slice of n elements: b if its capacity suffices, else a new one.
func grow[T any](b []T, n int) []T {
	if cap(b) < n {
		return make([]T, n)
	}
	return b[:n]
}
