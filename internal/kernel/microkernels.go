package kernel

// The types of the assembly microkernels. gen/dispatch fills the sets of each level.

// nWide is the number of widths of microkernels: 1, 2, 4 and 8 panels.
const nWide = 4

// maxStrip is the maximum number of rows of a microkernel, at any level.
const maxStrip = 14

// gemmFunc multiplies a strip of mr rows of A by np neighbouring panels of B:
//
//	C[r][16·p+j] (+)= Σk A[k][r]·B[p][k][j],  r < mr, p < np, j < 16, k < kc
//
// a is [kc][mr]; panel p of B starts ps floats after panel p−1 and is [kc][16]; rows of C are
// ldc floats apart. add is 0 to store the sums of the block, 1 to add them to C. Each function
// has its own mr and np.
type gemmFunc func(kc int, a, b *float32, ps int, c *float32, ldc, add int)

// gemmSet holds the microkernels of one level.
type gemmSet struct {
	mr    int                           // rows of the tallest microkernel
	funcs [maxStrip + 1][nWide]gemmFunc // by rows and log2 of panels; nil if there is none
}

// fusedFunc multiplies one row by np neighbouring panels of weights in their stored form, so
// that decoding reads each weight once and writes no widened weights:
//
//	c[16·p+j] (+)= Σk x[k]·w[p][k][j],  p < np, j < 16, k < kc
//
// The sums of blocks of 256 columns are added in ascending order. b points to the weights of
// the first panel; panels are ps bytes apart; table is [np][16] for formats with tables. The
// factors of rows are not applied. The twin is widenPanel followed by gemmFunc, which gives the
// same bits.
type fusedFunc func(kc int, x *float32, b *byte, ps int, table *float32, c *float32, add int)

// fusedSet holds the kernels of one level for one format, by log2 of panels.
type fusedSet [nWide]fusedFunc

// gemmI16Func multiplies a strip of mr rows of A by np neighbouring panels of B, both in pairs
// of 16-bit integers:
//
//	C[r][16·p+j] (+)= Σb scale[b][r]·float32(Σk A[k][r]·B[p][k][j])
//
// where b runs over blocks of scaleCols columns, whose sums over pairs k are exact. a is
// [pairs][mr] dwords; panel p of B starts ps elements after panel p−1 and is [pairs][16]
// dwords; scale is [blocks][mr]. The product with the factor, and then the addition to C, are
// each rounded to float32.
type gemmI16Func func(pairs int, a *int16, scale *float32, b *int16, ps int, c *float32, ldc, add int)

// gemmI16Set holds the 16-bit integer microkernels of one level.
type gemmI16Set struct {
	mr    int                              // rows of the tallest microkernel
	funcs [maxStrip + 1][nWide]gemmI16Func // by rows and log2 of panels; nil if there is none
}

// fusedI16Func is a gemmI16Func for one row and weights in their stored form. Panels are ps
// bytes apart; table is [np][tables][32] for formats with tables.
type fusedI16Func func(pairs int, x *int16, scale *float32, b *byte, ps int, table *int16, c *float32, add int)

// stripI16Func is a gemmI16Func for weights in their stored form. Panels are ps bytes apart; table is
// [np][tables][32] for formats with tables.
type stripI16Func func(pairs int, a *int16, scale *float32, b *byte, ps int, table *int16, c *float32, ldc, add int)

// stripI16Set holds the kernels of one level for one format, by rows and log2 of panels; nil if there
// is none.
type stripI16Set [maxStrip + 1][nWide]stripI16Func

// fusedI16Set holds the kernels of one level for one format, by log2 of panels.
type fusedI16Set [nWide]fusedI16Func

// tileFunc multiplies strips of 32 rows of X by two neighbouring panels of W on AMX tiles:
//
//	C[s][half][panel][i][j] (+)= Σk X[s][k/32][16·half+i][k%32]·W[panel][k/2][j][k%2],  k < 32·steps
//
// summed over all pairs of a part of X and a part of W, except the two low parts. hi and lo are
// the parts of X; stride is the number of elements from the end of a strip to the start of the
// next. whi and wlo are the parts of W, with panels ps elements apart. config is the tile
// configuration (Intel SDM, LDTILECFG).
type tileFunc func(config *byte, hi, lo *uint16, whi, wlo *uint16, ps int, c *float32, strips, steps, stride, add int)
