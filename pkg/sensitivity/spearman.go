package sensitivity

import (
	"cmp"
	"slices"

	"gonum.org/v1/gonum/stat"
)

// spearman returns Spearman's rank correlation of two series of equal length: Pearson's
// correlation of their ranks. Equal values have the mean of their ranks.
func spearman(a, b []float64) float64 {
	return stat.Correlation(ranks(a), ranks(b), nil)
}

func ranks(v []float64) []float64 {
	order := make([]int, len(v))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(v[i], v[j]) })
	r := make([]float64, len(v))
	for at := 0; at < len(order); {
		end := at + 1
		for end < len(order) && v[order[end]] == v[order[at]] {
			end++
		}
		for _, i := range order[at:end] {
			r[i] = float64(at+end-1) / 2
		}
		at = end
	}
	return r
}
