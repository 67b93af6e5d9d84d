package kernel

// gemmFunc multiplies a strip of mr rows of A with np neighbouring panels of B:
//
//	C[r][16·p+j] (+)= Σk A[k][r]·B[p][k][j],  r < mr, p < np, j < 16, k < kc
//
// a is [kc][mr]; panel p of B starts ps floats after panel p−1 and is [kc][16];
// rows of C are ldc floats apart. add is 0 to store the block's sums, 1 to add
// them to C. mr and np belong to the function.
type gemmFunc func(kc int, a, b *float32, ps int, c *float32, ldc, add int)

// maxStrip is the most rows that any level's microkernel takes at once.
const maxStrip = 14

// gemmSet is the microkernels of one level.
type gemmSet struct {
	mr    int                           // rows of its tallest microkernel
	funcs [maxStrip + 1][nWide]gemmFunc // by rows, by log2 of panels; nil where there is none
}

// nWide counts the panel widths 1, 2, 4 and 8 of microkernels.
const nWide = 4

// fusedFunc multiplies one row with np neighbouring panels of weights as they
// are stored, so that decoding reads each weight once and writes none:
//
//	c[16·p+j] (+)= Σk x[k]·w[p][k][j],  p < np, j < 16, k < kc
//
// where the sums of blocks of 256 columns are added one after the other. b points to the first
// panel's weights and panels are ps bytes apart; table is [np][16], where the format has one.
// Factors of rows are left out. Its twin is widenPanel followed by gemmFuncs, which gives the
// same bits.
type fusedFunc func(kc int, x *float32, b *byte, ps int, table *float32, c *float32, add int)

// fusedSet holds a format's kernels by log2 of panels.
type fusedSet [nWide]fusedFunc

// gemmI16Func multiplies a strip of mr rows of A with np neighbouring panels of B, both in
// pairs of 16-bit integers:
//
//	C[r][16·p+j] (+)= Σb scale[b][r]·float32(Σk A[k][r]·B[p][k][j])
//
// where b counts blocks of scaleCols columns, whose sums over pairs k are exact. a is
// [pairs][mr] dwords, panel p of B starts ps elements after panel p−1 and is [pairs][16]
// dwords, scale is [blocks][mr]. Products with factors and additions to C round to float32
// one after the other.
type gemmI16Func func(pairs int, a *int16, scale *float32, b *int16, ps int, c *float32, ldc, add int)

// fusedI16Func is a gemmI16Func for one row and weights as they are stored, whose panels are ps
// bytes apart; table is [np][tables][32], where the format has them.
type fusedI16Func func(pairs int, x *int16, scale *float32, b *byte, ps int, table *int16, c *float32, add int)

// fusedI16Set holds a format's kernels by log2 of panels.
type fusedI16Set [nWide]fusedI16Func

// gemmI16Set is the microkernels of one level, by rows and by log2 of panels.
type gemmI16Set struct {
	mr    int
	funcs [maxStrip + 1][nWide]gemmI16Func
}

// tileFunc multiplies strips of 32 rows of X with two neighbouring panels of W:
//
//	C[s][half][panel][i][j] (+)= Σk X[s][k/32][16·half+i][k%32]·W[panel][k/2][j][k%2],  k < 32·steps
//
// summed over all pairs of parts of X and W but the two small ones. hi and lo are the parts
// of X; strips are stride elements apart from the end of one to the beginning of the next.
// whi and wlo are the parts of W, panels ps elements apart. config is the tiles'
// configuration.
type tileFunc func(config *byte, hi, lo *uint16, whi, wlo *uint16, ps int, c *float32, strips, steps, stride, add int)
