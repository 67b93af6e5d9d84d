package palettize

import "afmq/pkg/gptq"

// Work estimates how long [Palettize] takes for a matrix of this many weights, in
// multiplications of a matrix product that take as long. It is for progress reports: bits, and
// whether there are row scales, change the time per weight several times.
func Work(weights int, opt Options) int64 {
	per := unscaledWork
	if !opt.NoRowScale {
		per = scaledWork
	}
	return int64(weights) * int64(per[opt.Bits])
}

// Multiplications for each weight, by bits: the CPU time of Palettize on matrices of 1536 rows and
// 576 columns over that of a float32 product, measured on an AVX-512 machine. On others a product
// takes longer and palettes about the same time.
var (
	scaledWork   = [MaxBits + 1]int{0, 410, 650, 970, 1050, 1460, 2330, 3760, 6170}
	unscaledWork = [MaxBits + 1]int{0, 1250, 1580, 1740, 1850, 2170, 2790, 3860, 4500}
)

// CompensateWork is [Work] of [Compensate] for a matrix [rows, cols], full with a gptq.Output that is full.
func CompensateWork(rows, cols int, opt Options, full bool) int64 {
	return Work(rows*cols, opt) + gptq.RefineWork(rows, cols, full)
}
