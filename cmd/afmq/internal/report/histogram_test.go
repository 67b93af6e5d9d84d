package report

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/x448/float16"

	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// indexAt reads an index bit by bit, as the documentation of palettize.Matrix says.
func indexAt(m *palettize.Matrix, r, c int) (v int) {
	row := m.Indices[r*m.RowBytes():]
	for b := range m.Bits {
		at := c*m.Bits + b
		v |= int(row[at/8]>>(at%8)&1) << b
	}
	return v
}

// randomMatrix has rows of another number than its groups and its blocks have, and rows whose
// scale is 0.
func randomMatrix(bits int) *palettize.Matrix {
	rng := rand.New(rand.NewPCG(uint64(bits), 1))
	m := &palettize.Matrix{Rows: 2*blockRows + 7, Cols: 13, Bits: bits, GroupRows: 5}
	for range m.Rows {
		row := make([]uint8, m.Cols)
		for c := range row {
			row[c] = uint8(rng.IntN(1 << bits))
		}
		packed := make([]byte, m.RowBytes())
		palettize.PackRow(packed, row, bits)
		m.Indices = append(m.Indices, packed...)
		m.RowScale = append(m.RowScale, float16.Fromfloat32(rng.Float32()*2).Bits())
	}
	m.RowScale[3], m.RowScale[m.Rows-1] = 0, 0
	for range m.Groups() {
		table := make([]float64, 1<<bits)
		for i := range table {
			table[i] = rng.NormFloat64()
		}
		slices.Sort(table)
		for _, v := range table {
			m.LUT = append(m.LUT, float16.Fromfloat32(float32(v)).Bits())
		}
	}
	return m
}

// The counts of indices, for any number of threads, are those of reading every index bit by bit;
// the values are those of sorting the entries of all tables.
func TestTableEntriesAgainstEveryIndex(t *testing.T) {
	one := compute.NewPool(1)
	defer one.Close()
	for bits := 1; bits <= 8; bits++ {
		m := randomMatrix(bits)
		if err := m.Validate(); err != nil {
			t.Fatal(err)
		}
		want := make([]int64, 1<<bits)
		for r := range m.Rows {
			for c := range m.Cols {
				want[indexAt(m, r, c)]++
			}
		}
		for _, p := range []*compute.Pool{one, pool} {
			entries, err := tableEntries(bg, p, "none", m)
			if err != nil {
				t.Fatal(err)
			}
			for i, e := range entries {
				var values []float64
				for g := range m.Groups() {
					values = append(values, float64(float16.Frombits(m.LUT[g<<bits+i]).Float32()))
				}
				sort.Float64s(values)
				if e.Weights != want[i] || e.Low != values[1] || e.Median != values[13] || e.High != values[25] { // of 27 tables
					t.Fatalf("%d bits: entry %d is %+v; it has %d weights and the values %v", bits, i, e, want[i], values)
				}
			}
		}
	}
}

// tensorFile writes a safetensors file by hand, with one F32 tensor, and opens it.
func tensorFile(t *testing.T, rows, cols int, values []float32) *safetensors.Tensor {
	t.Helper()
	header, err := json.Marshal(map[string]any{"w": map[string]any{"dtype": "F32", "shape": []int{rows, cols}, "data_offsets": []int{0, 4 * len(values)}}})
	if err != nil {
		t.Fatal(err)
	}
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	data := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	path := filepath.Join(t.TempDir(), "w.safetensors")
	write(t, path, data)
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	x, _ := f.Tensor("w")
	return x
}

// The bins count every weight between their edges once. Some weights are at an edge, some far beyond
// all.
func TestDistributionAgainstEveryWeight(t *testing.T) {
	for _, scaled := range []bool{true, false} {
		m := randomMatrix(3)
		if !scaled {
			m.RowScale = nil
		}
		entries, err := tableEntries(bg, pool, "none", m)
		if err != nil {
			t.Fatal(err)
		}
		low, high := entries[0].Low, entries[7].High
		width := (high - low) / tableBins
		rng := rand.New(rand.NewPCG(7, 7))
		var values []float32
		var normalized []float64
		unscaled := int64(0)
		for i := range m.Rows * m.Cols {
			v := rng.NormFloat64() * 2
			switch i % 11 {
			case 0:
				v = low - 4*tableBins*width + float64(rng.IntN(9*tableBins+1))*width // at an edge
			case 1:
				v *= 1e6
			case 2:
				v = math.Copysign(1e38, v)
			}
			values = append(values, float32(v))
			scale := 1.0
			if scaled {
				scale = float64(float16.Frombits(m.RowScale[i/m.Cols]).Float32())
			}
			if scale == 0 {
				unscaled++
			} else {
				normalized = append(normalized, float64(float32(v))/scale)
			}
		}
		d, err := distribution(bg, pool, tensorFile(t, m.Rows, m.Cols, values), m, entries)
		if err != nil {
			t.Fatal(err)
		}
		check := func(when string) {
			t.Helper()
			below, above := int64(0), int64(0)
			counts := make([]int64, len(d.Counts))
			for _, x := range normalized {
				i := -1
				for i+1 <= len(counts) && x >= d.From+float64(i+1)*d.Width {
					i++
				}
				switch {
				case i < 0:
					below++
				case i == len(counts):
					above++
				default:
					counts[i]++
				}
			}
			if !slices.Equal(counts, d.Counts) || below != d.Below || above != d.Above || unscaled != d.Unscaled {
				t.Errorf("%s, scales %v: below %d, above %d, unscaled %d, %v;\nexpected %d, %d, %d, %v", when, scaled, d.Below, d.Above, d.Unscaled, d.Counts, below, above, unscaled, counts)
			}
			if d.Total() != int64(m.Rows*m.Cols) {
				t.Errorf("%s: %d weights of %d", when, d.Total(), m.Rows*m.Cols)
			}
		}
		if len(d.Counts) != 9*tableBins || d.From > low || d.edge(len(d.Counts)) < high {
			t.Errorf("%d bins from %v to %v; the tables reach from %v to %v", len(d.Counts), d.From, d.edge(len(d.Counts)), low, high)
		}
		check("all bins")
	}
}

// A value on the lower edge of a bin belongs to it, and the next smaller number to the bin before,
// however the division rounds.
func TestBinsBeginAtTheirEdges(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 200 {
		d := &Distribution{From: rng.NormFloat64(), Width: rng.Float64() + 1e-3}
		for i := range 9 * tableBins {
			x := d.edge(i)
			if got := d.bin(x); got != i {
				t.Fatalf("edge %d of %+v is in bin %d", i, d, got)
			}
			if got := d.bin(math.Nextafter(x, math.Inf(-1))); got != i-1 {
				t.Fatalf("the number before edge %d of %+v is in bin %d", i, d, got)
			}
		}
	}
}

// Cropping moves at most a thousandth of the weights out at each end, and none over the tables.
func TestCrop(t *testing.T) {
	d := &Distribution{From: -9, Width: 0.05, Counts: make([]int64, 9*tableBins)}
	for i := range d.Counts {
		d.Counts[i] = 1
	}
	d.Counts[200] = 5000
	total := d.Total()
	d.crop()
	if d.Below != 5 || d.Above != 5 || d.Total() != total || d.From != d.edge(0) || math.Abs(d.From-(-9+5*0.05)) > 1e-12 || d.Counts[195] != 5000 {
		t.Errorf("below %d, above %d of %d, from %v", d.Below, d.Above, total, d.From)
	}
	d = &Distribution{Counts: make([]int64, 9*tableBins), Width: 1}
	d.Counts[200] = 1
	if d.crop(); len(d.Counts) != tableBins+1 || d.From != 4*tableBins || d.Counts[40] != 1 {
		t.Errorf("%d bins from %v", len(d.Counts), d.From)
	}
}

// A table of equal values has bins around them.
func TestDistributionOfOneValue(t *testing.T) {
	m := &palettize.Matrix{Rows: 1, Cols: 3, Bits: 1, GroupRows: 1, Indices: []byte{0}, LUT: make([]uint16, 2)}
	entries, err := tableEntries(bg, pool, "none", m)
	if err != nil {
		t.Fatal(err)
	}
	d, err := distribution(bg, pool, tensorFile(t, 1, 3, []float32{0, 1e-5, 5}), m, entries)
	if err != nil || d.Width <= 0 || d.Above != 1 || d.Total() != 3 {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestDistributionRefusesNaN(t *testing.T) {
	m := &palettize.Matrix{Rows: 1, Cols: 3, Bits: 1, GroupRows: 1, Indices: []byte{0}, LUT: make([]uint16, 2)}
	x := tensorFile(t, 1, 3, []float32{0, float32(math.NaN()), 5})
	_, err := distribution(bg, pool, x, m, make([]TableEntry, 2))
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "NaN at index 1") {
		t.Errorf("%v", err)
	}
}

// The modules are those with the largest predicted loss or, without scores, the largest error.
func TestWorstModules(t *testing.T) {
	o := Options{Artifact: in("mixed"), Reference: in("model")}
	r, page := mustMake(t, o)
	harmless(t, page)
	w := r.section(t, "weights").(*Weights)
	heat := r.section(t, "bits").(*Bits).Heat
	var errors []float64
	for _, l := range heat.Layers {
		for _, c := range l.Cells {
			errors = append(errors, c.RelError)
		}
	}
	sort.Sort(sort.Reverse(sort.Float64Slice(errors)))
	for i, m := range w.Modules {
		if m.RelError != errors[i] || m.Loss != nil {
			t.Errorf("module %d is %s with an error of %v, expected %v", i, m.Name, m.RelError, errors[i])
		}
		weights := int64(0)
		for _, e := range m.Entries {
			weights += e.Weights
		}
		if m.Original == nil || m.Original.Total() != weights || len(m.Entries) != 1<<m.Bits || m.Plot == "" {
			t.Errorf("%s: %+v", m.Name, m)
		}
	}
	if w.By != byError || len(w.Modules) != worstModules || !w.Original {
		t.Errorf("by %s, %d modules, original %v", w.By, len(w.Modules), w.Original)
	}

	o.Scores, o.Reference = in("scores.json"), ""
	r, page = mustMake(t, o)
	harmless(t, page)
	w = r.section(t, "weights").(*Weights)
	var losses []float64
	for _, l := range r.section(t, "bits").(*Bits).Heat.Layers {
		for _, c := range l.Cells {
			losses = append(losses, *c.Loss)
		}
	}
	sort.Sort(sort.Reverse(sort.Float64Slice(losses)))
	for i, m := range w.Modules {
		if *m.Loss != losses[i] || m.Original != nil {
			t.Errorf("module %d is %s with a loss of %v, expected %v", i, m.Name, *m.Loss, losses[i])
		}
	}
	if w.By != byLoss || w.Original || !strings.Contains(page, "<code>--reference</code>") {
		t.Errorf("by %s, original %v", w.By, w.Original)
	}
	r, _ = mustMake(t, Options{Artifact: in("four"), Scores: in("scores.json")})
	if w := r.section(t, "weights").(*Weights); w.By != byLoss || w.Modules[0].Bits != 4 {
		t.Errorf("%+v", w)
	}
}

// Weights that differ from the manifest are refused: those of the artifact, and those of the
// checkpoint.
func TestOtherWeights(t *testing.T) {
	dir := t.TempDir()
	changed := func(name string) string {
		to := filepath.Join(dir, name)
		if err := os.CopyFS(to, os.DirFS(in(name))); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(to, "model.safetensors")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 8 + int(binary.LittleEndian.Uint64(data)); i < len(data); i += 64 {
			data[i] ^= 1
		}
		write(t, path, data)
		return to
	}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Artifact: changed("mixed")}, "does not match manifest.json"},
		{Options{Artifact: in("mixed"), Reference: changed("model")}, "is not that of the checkpoint that the artifact was made from"},
		{Options{Artifact: in("mixed"), Reference: in("stranger")}, "config.json: is not that of the checkpoint"},
		{Options{Artifact: in("mixed"), Reference: in("four")}, "is an afmq artifact"},
		{Options{Artifact: in("mixed"), Reference: filepath.Join(dir, "none")}, "none: does not exist"},
	} {
		if _, err := Make(bg, pool, c.o); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, expected %q", c.o, err, c.want)
		}
	}
}
