package palettize

// Solver finds optimal one-dimensional k-means clusterings. It keeps its buffers
// from one call to the next; the zero value is ready to use. A Solver must not be
// used by two goroutines at once.
type Solver struct{}

// Solve writes to centroids[:k] the weighted means, in ascending order, of a
// partition of values into at most k clusters whose weighted squared error is the
// least possible, and returns that error. values must ascend (equal neighbours are
// merged) and be finite; weights[i] ≥ 0 is what an error at values[i] costs, and
// nil means 1 everywhere. With fewer than k distinct values of positive weight,
// the remaining centroids repeat the last one; with none, all are 0.
//
// It panics when k < 1 or the lengths do not fit.
func (s *Solver) Solve(values, weights []float64, k int, centroids []float64) (sse float64) {
	panic("to do")
}
