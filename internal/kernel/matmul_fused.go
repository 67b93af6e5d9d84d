package kernel

import "unsafe"

// hasFused reports whether kernels of the level multiply weights in the given stored form.
func hasFused(l isa, f format) bool { return fusedKernels(l, f) != nil }

// multiplyStored multiplies all rows of X by cols rows of W, from panel p0 on, in their stored form.
// It reads a few panels from beginning to end, so that the hardware prefetcher follows, and
// again from the cache for each further row of X. The level must have kernels for the format.
func (f *f32Product) multiplyStored(buf *workerBuf, p0, cols int) {
	w := f.w
	set := fusedKernels(f.lv, w.format)
	b, ps := w.stored(p0, panelsOf(cols), 0, w.cols)
	_ = f.x[f.m*w.cols-1]
	call := func(kernel fusedFunc, r, p int, c *float32) {
		var table *float32
		if w.table != nil {
			table = &w.table[(p0+p)*PanelRows]
		}
		kernel(w.cols, &f.x[r*w.cols], (*byte)(unsafe.Add(b, p*ps)), ps, table, c, f.add)
	}
	full, p := cols/PanelRows, 0
	for wide := nWide - 1; wide >= 0; wide-- {
		kernel, n := set[wide], 1<<wide
		if kernel == nil {
			continue
		}
		for ; p+n <= full; p += n {
			for r := range f.m {
				call(kernel, r, p, &f.y[r*w.rows+(p0+p)*PanelRows:][:n*PanelRows][0])
			}
		}
	}
	if rest := cols % PanelRows; rest > 0 {
		for r := range f.m {
			c := f.y[r*w.rows+(p0+full)*PanelRows:][:rest]
			copy(buf.tile[:], c) // the kernel adds to it
			call(set[0], r, full, &buf.tile[0])
			copy(c, buf.tile[:])
		}
	}
}

// fusedRows is the maximum number of rows of X for which weights are multiplied in their stored
// form, once for each row; for more rows it is faster to widen them once. (Measured on Zen 4.)
func fusedRows(f format) int {
	if f == formatF16 || f == formatBF16 {
		return 4
	}
	return 2
}
