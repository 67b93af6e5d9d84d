package sensitivity

import (
	"math"
	"testing"
)

func TestSpearman(t *testing.T) {
	// By hand: ranks 1 2 3 4 and 2 1 4 3: 1 - 6·4/(4·15) = 0.6. With ties: ranks of
	// 1 1 2 are 1.5 1.5 3, against 1 2 3: 0.866.
	for _, c := range []struct {
		a, b []float64
		want float64
	}{
		{[]float64{1, 2, 3, 4}, []float64{2, 1, 40, 3}, 0.6},
		{[]float64{1, 1, 2}, []float64{5, 6, 7}, math.Sqrt(3) / 2},
		{[]float64{3, 2, 1}, []float64{1, 5, 9}, -1},
	} {
		if got := spearman(c.a, c.b); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%v, %v: %v, want %v", c.a, c.b, got, c.want)
		}
	}
}
