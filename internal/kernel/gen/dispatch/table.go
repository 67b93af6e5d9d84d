package main

// level is an instruction set. The name of every kernel contains the suffix of its level.
type level struct {
	suffix, arch string
	isa          string // value of the parameter l that selects the level, or
	test         string // condition that selects it
}

// levels lists the instruction sets, the widest of each architecture first.
var levels = []level{
	{suffix: "AVX512", arch: "amd64", isa: "isaAVX512"},
	{suffix: "AVX2", arch: "amd64", isa: "isaAVX2"},
	{suffix: "VNNI", arch: "amd64", test: "hasVNNI(l)"},
	{suffix: "AMX", arch: "amd64", test: "tilesInUse()"},
	{suffix: "NEON", arch: "arm64", isa: "isaNEON"},
}

// condition returns the expression that is true where the level is in use.
func (l level) condition() string {
	if l.test != "" {
		return l.test
	}
	return "l == " + l.isa
}

// function is an operation with a kernel for each of some levels and a twin in Go.
//
// The dispatching function has the parameter l isa, unless global is set, and params. The
// kernel of a level is the declared function whose name is that of the operation, or of a
// variant, followed by the suffix of the level. Each parameter of a kernel is filled from the
// parameter or local variable of the same name: a slice or an array by the address of its
// first element, any other value converted to the type that the kernel declares. The twin is
// name + "Go" and takes params as they are.
type function struct {
	name    string
	doc     string // comment; none if empty
	global  bool
	params  string
	result  string
	over    string   // slice that is processed; n is its length, and n = 0 returns at once
	empty   string   // condition under which there is nothing to do, where over does not say it
	locals  []string // statements that compute further arguments
	bounds  []string // elements that must exist; by default n of every slice
	variant []variant
	args    map[string]string // arguments that the rule above does not give
	value   bool              // return the kernel instead of calling it
}

// variant is one of several kernels of an operation. The first whose condition holds is used.
type variant struct {
	kernel string // name without the suffix of the level
	when   string // condition; empty for the last
	bounds string // element that must exist for this variant
	args   map[string]string
}

// functions lists the operations in the order of the generated file.
var functions = []function{
	{name: "maxOf", params: "x []float32, maxes *[16]float32", over: "x"},
	{name: "scaleMax", params: "x []float32, scale float32, maxes *[16]float32", over: "x"},
	{name: "expSum", params: "x []float32, sub float32, total *lanes", over: "x"},
	{name: "sumExp", params: "x []float32, sub float32, total *lanes", over: "x"},
	{name: "klSum", params: "p, q []float32, c *klParams, total *lanes", over: "p", args: map[string]string{"c": "&c.pHi"}},
	{name: "sumSquares", params: "x []float32, total *lanes", over: "x"},
	{name: "mulScalar", params: "x []float32, s float32", over: "x"},
	{name: "normMul", params: "dst, x, w []float32, inv float32", over: "dst"},
	{name: "siluMul", params: "dst, gate, up []float32", over: "dst"},
	{name: "rotate", params: "lo, hi, cos, sin []float32", over: "lo"},
	{name: "addTo", params: "dst, x []float32", over: "dst"},
	{name: "addScaled", params: "dst, x []float32, s float32", over: "dst"},
	{name: "siluMulBack", params: "gate, up, grad []float32", over: "gate"},
	{name: "dotSum", params: "x, y []float32, total *lanes", over: "x"},
	{name: "mulTo", params: "dst, x []float32", over: "dst"},
	{name: "subMul", params: "dst, x []float32, s float32", over: "dst"},

	{name: "cells", params: "dst []uint16, x []float32, scale, offset float32", over: "x"},
	{name: "intervals", params: "dst []uint8, x []float32, h *Thresholds, bits int", over: "x"},
	{name: "lookupError", params: "x []float32, index []uint8, value *[256]float32, bits int, total *lanes", over: "x"},
	{name: "maxMagnitude", params: "x []float32, most *[16]uint32", over: "x"},

	{name: "widenF16", params: "dst []float32, src []uint16", over: "src"},
	{name: "widenBF16", params: "dst []float32, src []uint16", over: "src"},
	{name: "narrowF16", params: "dst []uint16, src []float32", over: "src"},
	{name: "narrowBF16", params: "dst []uint16, src []float32", over: "src"},
	{name: "roundBF16", params: "x []float32", over: "x"},
	{
		name: "widenInt8", params: "dst []float32, src []int8, scale []float32", over: "src",
		bounds: []string{"dst[n-1]", "scale[PanelRows-1]"},
	},
	{
		name: "widenLUT",
		doc: "widenLUT widens whole blocks of 32/field columns. Table entries are half-precision values,\n" +
			"as [PackLUT] stores them: the NEON kernels look up their two bytes.",
		params: "field int, dst []float32, src []uint32, table, scale []float32", over: "src",
		locals:  []string{"blocks := n / PanelRows"},
		bounds:  []string{"dst[n*32/field-1]", "table[PanelRows-1]", "scale[PanelRows-1]"},
		variant: []variant{{kernel: "widenLUT4", when: "field == 4"}, {kernel: "widenLUT2"}},
	},
	{
		name:   "widenLUT8",
		doc:    "widenLUT8 does not check that base[r]+index lies within table: [PackLUT] ensures it.",
		params: "dst []float32, src []uint8, table []float32, base []int32, scale []float32", over: "src",
		locals: []string{"cols := n / PanelRows"},
		bounds: []string{"dst[n-1]", "base[PanelRows-1]", "scale[PanelRows-1]"},
	},
	{
		name: "gather",
		doc: "gather copies 16 elements from each of n rows of src, which are ld apart, to positions in\n" +
			"dst that are step apart, in ascending order: with a step below 16 each row overwrites the\n" +
			"end of the row before.",
		params: "dst []float32, step int, src []float32, ld, n int", empty: "n == 0",
		bounds: []string{"dst[(n-1)*step+PanelRows-1]", "src[(n-1)*ld+PanelRows-1]"},
	},

	{
		name:   "quantizeI16",
		params: "dst []int16, scale, x []float32, limit float32, order *[16]uint16", over: "x",
		bounds: []string{"dst[n-1]", "scale[(n-1)/scaleCols]"},
	},
	{
		name:   "widenI16",
		params: "f format, dst []int16, src unsafe.Pointer, table []int16, loads int",
		variant: []variant{
			{kernel: "widenI16LUT4", when: "f == formatLUT4"},
			{kernel: "widenI16LUT2", when: "f == formatLUT2"},
			{kernel: "widenI16Int8", args: map[string]string{"table": "nil"}},
		},
	},

	{
		name:   "narrowRow",
		doc:    "narrowRow converts a row of X, whose length is a positive multiple of 32.",
		params: "hi, lo []uint16, x []float32, order *[tileCols]uint16",
		locals: []string{"steps := len(x) / tileCols"},
		bounds: []string{"hi[(steps-1)*tileStep+tileCols-1]"},
		variant: []variant{
			{kernel: "narrowRow1", when: "lo == nil", args: map[string]string{"lo": "nil"}},
			{kernel: "narrowRow2", bounds: "lo[(steps-1)*tileStep+tileCols-1]"},
		},
	},
	{
		name:   "narrowPanel",
		doc:    "narrowPanel converts widened columns, a positive even number of them.",
		params: "hi, lo []uint16, src []float32",
		locals: []string{"pairs := len(src) / (2 * PanelRows)"},
		bounds: []string{"hi[len(src)-1]"},
		variant: []variant{
			{kernel: "narrowPanel1", when: "lo == nil", args: map[string]string{"lo": "nil"}},
			{kernel: "narrowPanel2", bounds: "lo[len(src)-1]"},
		},
	},
	{
		name:   "tileKernel",
		doc:    "tileKernel returns the kernel for X in two parts (split) or one, and W in the given number.",
		global: true, params: "split bool, wParts int", result: "tileFunc", value: true,
		variant: []variant{
			{kernel: "tilesBF16", when: "!split"},
			{kernel: "tilesSplit2", when: "wParts == 1"},
			{kernel: "tilesSplit3"},
		},
	},

	{
		name:   "peak",
		doc:    "peak executes n rounds of multiply-adds and returns the number of operations.",
		params: "n int", result: "int",
	},
	{
		name: "stream",
		doc: "stream reads b, whose length is a positive multiple of 512, with explicit prefetching if\n" +
			"fetch is set and the level has a kernel for it.",
		params: "b []byte, fetch bool", result: "uint64",
		locals:  []string{"n := len(b)"},
		args:    map[string]string{"p": "&b[0]"},
		variant: []variant{{kernel: "fetch", when: "fetch"}, {kernel: "stream"}},
	},
	{
		name: "peakTiles",
		doc: "peakTiles executes n rounds of tile products of data and returns the number of operations,\n" +
			"0 without tiles.",
		global: true, params: "config *[64]byte, data *[1024]uint16, n int", result: "int",
	},
}

// set is a family of kernels that differ in their shape. The names of a family are its prefix,
// the stored format if there is one, the suffix of a level, and _ROWSxPANELS or _PANELS.
type set struct {
	prefix  string
	byFmt   bool   // one set for each stored format
	byRows  bool   // with byFmt: kernels of a format differ in their rows, too
	fn      string // generated function that returns the set of a level
	typ     string // type of a set
	kernel  string // type of a kernel; unused with byFmt
	generic string // set of the level without kernels
	doc     string
}

var sets = []set{
	{
		prefix: "gemm", fn: "gemms", typ: "gemmSet", kernel: "gemmFunc", generic: "genericGemms",
		doc: "gemms returns the microkernels of a level.",
	},
	{
		prefix: "gemmI16", fn: "gemmsI16", typ: "gemmI16Set", kernel: "gemmI16Func", generic: "genericI16",
		doc: "gemmsI16 returns the 16-bit integer microkernels of a level.",
	},
	{
		prefix: "fused", byFmt: true, fn: "fusedKernels", typ: "fusedSet", generic: "nil",
		doc: "fusedKernels returns the kernels of a level that read weights stored as f, nil if there are none.",
	},
	{
		prefix: "fusedI16", byFmt: true, fn: "fusedKernelsI16", typ: "fusedI16Set", generic: "nil",
		doc: "fusedKernelsI16 returns the 16-bit integer kernels of a level that read weights stored as f, nil\n" +
			"if there are none.",
	},
	{
		prefix: "stripI16", byFmt: true, byRows: true, fn: "stripKernelsI16", typ: "stripI16Set", generic: "nil",
		doc: "stripKernelsI16 returns the 16-bit integer kernels of a level that multiply strips by weights\n" +
			"stored as f, nil if there are none.",
	},
}

// transposition is the kernels of a level that transpose blocks of cols columns.
type transposition struct {
	suffix  string
	cols    int
	kernels []transposer
}

// transposer is a kernel for at most the given number of rows.
type transposer struct {
	name string
	rows int
}

var transpositions = []transposition{
	{"AVX512", 16, []transposer{{"transposeAVX512", 16}}},
	{"AVX2", 8, []transposer{{"transposeAVX2", 8}}},
	{"NEON", 4, []transposer{{"transposeNEON4", 4}, {"transposeNEON8", 8}}},
}
