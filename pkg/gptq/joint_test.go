package gptq

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"

	"afmq/internal/correlated"
	"afmq/pkg/compute"
)

// jointProblem returns a problem whose rows act together, in chunks of some rows, and its error in
// float64.
func jointProblem(t *testing.T, pool *compute.Pool, rows, n, per int) (f *Factor, out *Output, chunks []Chunk, loss func() float64) {
	f, h, w, start := problem(t, rows, n)
	moment := correlated.Moment(pool, rand.New(rand.NewPCG(3, 4)), 2*rows, rows)
	out, err := NewOutput(moment, rows, 2*rows)
	if err != nil {
		t.Fatal(err)
	}
	g := mat.NewDense(rows, rows, nil)
	for i, v := range moment {
		g.Set(i/rows, i%rows, float64(v))
	}
	for first := 0; first < rows; first += per {
		k := min(per, rows-first)
		c := &scaled{rows: k, n: n, codes: slices.Clone(start.codes[first*n : (first+k)*n]), scales: slices.Clone(start.scales[first*n/testPart : (first+k)*n/testPart])}
		chunks = append(chunks, Chunk{Weights: w[first*n : (first+k)*n], Rows: k, Codes: c})
	}
	return f, out, chunks, func() float64 {
		e := mat.NewDense(rows, n, nil)
		for i := range rows * n {
			c := chunks[i/n/per]
			e.Set(i/n, i%n, float64(w[i])-float64(c.Codes.Row(i/n%per).Value(i%n)))
		}
		var ge, eh mat.Dense
		ge.Mul(g, e)
		eh.Mul(e, h)
		sum := 0.0
		for r := range rows {
			sum += mat.Dot(ge.RowView(r), eh.RowView(r))
		}
		return sum
	}
}

// Many rounds end where no change of a single code lowers the error, however rows and columns are
// divided into chunks and blocks; fewer have lowered it; threads do not matter.
func TestRefineTogether(t *testing.T) {
	pool, one := compute.NewPool(3), compute.NewPool(1)
	defer pool.Close()
	defer one.Close()
	for _, c := range []struct{ rows, n, per int }{{40, 160, 16}, {7, 288, 3}, {33, 32, 64}} {
		f, out, chunks, loss := jointProblem(t, pool, c.rows, c.n, c.per)
		before := loss()
		RefineTogether(pool, f, out, chunks, -1, 1)
		first := loss()
		settle := func(pool *compute.Pool, chunks []Chunk) { // a call ends where a round gains little
			for range 30 {
				RefineTogether(pool, f, out, chunks, -1, 20)
			}
		}
		settle(pool, chunks)
		best := loss()
		if !(first < before) || !(best < first) {
			t.Errorf("%v: error %v, after a round %v, at last %v", c, before, first, best)
		}
		worse := 0
		for i := 0; i < c.rows*c.n; i += 97 { // a sample: each takes two products
			codes := chunks[i/c.n/c.per].Codes.(*scaled)
			at := i/c.n%c.per*c.n + i%c.n
			old := codes.codes[at]
			for _, next := range []uint8{old - 1, old + 1} {
				if next > 15 {
					continue
				}
				codes.codes[at] = next
				if now := loss(); now < best*(1-1e-6) {
					worse++
				}
			}
			codes.codes[at] = old
		}
		if worse > 0 {
			t.Errorf("%v: %d single changes lower the error", c, worse)
		}
		_, _, again, _ := jointProblem(t, pool, c.rows, c.n, c.per)
		RefineTogether(one, f, out, again, -1, 1)
		settle(nil, again)
		for i := range again {
			if !slices.Equal(again[i].Codes.(*scaled).codes, chunks[i].Codes.(*scaled).codes) {
				t.Errorf("%v: other codes with one thread", c)
			}
		}
	}
}

func TestOutputRefuses(t *testing.T) {
	nan := float32(math.NaN())
	for _, m := range [][]float32{{1, 0, 0}, {0, 0, 0, 0}, {1, nan, nan, 1}, {nan, 0, 0, 1}, {2, 0, 0, -1}, {1e-40, 0, 0, 0}, {float32(math.Inf(1)), 0, 0, 1}} {
		if _, err := NewOutput(m, 2, 100); err == nil {
			t.Errorf("took %v", m)
		}
	}
	if _, err := NewOutputDiagonal([]float32{0, 0}); err == nil {
		t.Error("took squares of 0")
	}
	o, err := NewOutput([]float32{3, 1, 1, 1}, 2, 1<<40)
	if err != nil || o.moment[1] != 0.5 || math.Abs(float64(o.moment[0])-1.5*1.1-0.001) > 1e-6 || o.diag[0] != o.moment[0] {
		t.Errorf("%+v, %v", o, err)
	}
}
