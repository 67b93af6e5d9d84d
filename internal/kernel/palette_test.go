package kernel

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// thresholdsOf returns 2^bits-1 ascending thresholds, some of them equal, and the tree.
func thresholdsOf(bits int, seed uint64) ([]float32, *Thresholds) {
	t := normals(newRand(seed), 1<<bits-1)
	slices.Sort(t)
	for i := 2; i < len(t); i += 5 {
		t[i] = t[i-1]
	}
	if bits > 2 {
		t[len(t)-1] = float32(math.Inf(1))
	}
	h := new(Thresholds)
	h.Set(t, bits)
	return t, h
}

// TestCells compares Cells with its definition in float32, at every level.
func TestCells(t *testing.T) {
	for _, n := range sizes {
		x := append(scaled(n, 1, uint64(n)), 0, float32(math.Copysign(0, -1)), 1e30, -1e30)
		want := make([]uint16, len(x))
		for i, v := range x {
			p := v * 1000
			want[i] = uint16(min(max(math.Floor(float64(p+2048)), 0), 65535))
		}
		eachLevel(t, func(t *testing.T, _ string) {
			got := make([]uint16, len(x))
			Cells(got, x, 1000, 2048)
			if !slices.Equal(got, want) {
				t.Fatalf("%d values: %v, want %v", len(x), got, want)
			}
		})
	}
}

// TestIntervals compares Intervals with a count of the thresholds below each value.
func TestIntervals(t *testing.T) {
	for bits := 1; bits <= 8; bits++ {
		thresholds, h := thresholdsOf(bits, uint64(bits))
		for _, n := range sizes {
			x := scaled(n, 1.5, uint64(n))
			for i := range x {
				if i%3 == 0 {
					x[i] = thresholds[i%len(thresholds)] // on the edge
				}
			}
			x = append(x, float32(math.Inf(-1)), -math.MaxFloat32, math.MaxFloat32, float32(math.NaN()))
			want := make([]uint8, len(x))
			for i, v := range x {
				for _, u := range thresholds {
					if u < v {
						want[i]++
					}
				}
			}
			eachLevel(t, func(t *testing.T, _ string) {
				got := make([]uint8, len(x)+1)
				got[len(x)] = 0xa5
				Intervals(got[:len(x)], x, h, bits)
				if !slices.Equal(got[:len(x)], want) || got[len(x)] != 0xa5 {
					t.Fatalf("%d bits, %d values: %v, want %v", bits, len(x), got, want)
				}
			})
		}
	}
}

// TestLookupError compares LookupError with its definition, and its levels with each other.
func TestLookupError(t *testing.T) {
	var value [256]float32
	copy(value[:], normals(newRand(9), 256))
	for bits := 1; bits <= 8; bits++ {
		for _, n := range sizes {
			x, index := scaled(n, 2, uint64(n+1)), make([]uint8, n)
			want := 0.0
			for i, v := range x {
				index[i] = uint8(i * 37 % (1 << bits))
				d := float64(v) - float64(value[index[i]])
				want += d * d
			}
			first := math.NaN()
			eachLevel(t, func(t *testing.T, _ string) {
				got := LookupError(x, index, &value, bits)
				if math.Abs(got-want) > 1e-13*want {
					t.Fatalf("%d bits, %d values: %v, want %v", bits, n, got, want)
				}
				if first != first {
					first = got
				}
				if got != first {
					t.Fatalf("%d bits, %d values: %v, at another level %v", bits, n, got, first)
				}
			})
		}
	}
}

func TestMaxMagnitude(t *testing.T) {
	for _, n := range sizes {
		for _, v := range []float32{-7, 7, float32(math.Inf(-1)), float32(math.NaN())} {
			x := scaled(n, 1, uint64(n))
			want := uint32(0)
			if n > 0 {
				x[n*3/4] = v
				want = math.Float32bits(v) & 0x7fffffff
			}
			eachLevel(t, func(t *testing.T, _ string) {
				if got := MaxMagnitude(x); got != want {
					t.Fatalf("%d values: %#x, want %#x", n, got, want)
				}
			})
		}
	}
}

func TestPaletteMisuse(t *testing.T) {
	for name, f := range map[string]func(){
		"thresholds": func() { new(Thresholds).Set(make([]float32, 4), 2) },
		"bits":       func() { Intervals(nil, nil, new(Thresholds), 9) },
		"lengths":    func() { Cells(make([]uint16, 1), nil, 1, 1) },
		"indices":    func() { LookupError(make([]float32, 2), make([]uint8, 1), new([256]float32), 4) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// FuzzPalette compares all levels with the Go twins bit by bit, on arbitrary floats.
func FuzzPalette(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123"), uint8(4), float32(100), float32(2048))
	f.Add([]byte{0, 0, 128, 127, 0, 0, 192, 255}, uint8(8), float32(1), float32(0))
	f.Fuzz(func(t *testing.T, data []byte, width uint8, scale, offset float32) {
		before := Level()
		defer selectLevel(t, before)
		bits := int(width%8) + 1
		x := make([]float32, len(data)/4)
		for i := range x {
			x[i] = math.Float32frombits(uint32(data[4*i]) | uint32(data[4*i+1])<<8 | uint32(data[4*i+2])<<16 | uint32(data[4*i+3])<<24)
		}
		var finite []float32 // Cells says nothing about NaN, which 0·Inf and Inf-Inf give
		for _, v := range x {
			if c := v*scale + offset; c == c {
				finite = append(finite, v)
			}
		}
		_, h := thresholdsOf(bits, uint64(len(data)))
		var value [256]float32
		copy(value[:], normals(newRand(uint64(width)), 256))
		var first string
		for _, level := range Levels() {
			selectLevel(t, level)
			cell, index := make([]uint16, len(finite)), make([]uint8, len(x))
			Cells(cell, finite, scale, offset)
			Intervals(index, x, h, bits)
			sum := LookupError(x, index, &value, bits)
			if sum != sum {
				sum = math.NaN()
			}
			got := fmt.Sprint(cell, index, math.Float64bits(sum), MaxMagnitude(x))
			if first == "" {
				first = got
			}
			if got != first {
				t.Fatalf("%s:\n%s\nother than\n%s", level, got, first)
			}
		}
	})
}

func BenchmarkPaletteKernels(b *testing.B) {
	const n = 3072
	x := normals(newRand(1), n)
	cell, index := make([]uint16, n), make([]uint8, n)
	var value [256]float32
	for _, level := range Levels() {
		before := Level()
		selectLevel(b, level)
		run := func(name string, f func()) {
			b.Run(level+"/"+name, func(b *testing.B) {
				for b.Loop() {
					f()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/weight")
			})
		}
		run("Cells", func() { Cells(cell, x, 1000, 32768) })
		run("MaxMagnitude", func() { MaxMagnitude(x) })
		for _, bits := range []int{2, 4, 6, 8} {
			_, h := thresholdsOf(bits, 1)
			run(fmt.Sprintf("Intervals/bits=%d", bits), func() { Intervals(index, x, h, bits) })
			run(fmt.Sprintf("LookupError/bits=%d", bits), func() { LookupError(x, index, &value, bits) })
		}
		selectLevel(b, before)
	}
}
