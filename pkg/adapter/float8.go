package adapter

import (
	"fmt"
	"math"
	"strconv"

	"afmq/pkg/safetensors"
)

// ExponentKey is the key in the metadata of adapter_model.safetensors of an adapter in F8_E4M3: the
// exponent e by which its values and alpha are moved. See [Write].
const ExponentKey = "afmq_value_exponent"

// Bounds of the exponent: with them values that are moved back are exact in F16.
const minExponent, maxExponent = -7, 12

// float8 holds the values of an adapter as F8_E4M3 stores them.
type float8 struct {
	modules  map[string]Weights // rounded, after the exponent
	exponent int                // the largest value times 2^exponent is just within 448
}

// Float8 returns the values of modules as [Write] stores them in F8_E4M3 and [Read] reads them. Those
// that do not fit, which Write refuses, are NaN.
func Float8(modules map[string]Weights, rank func(module string) int) map[string]Weights {
	f := newFloat8(modules, rank)
	return f.moved(-f.exponent)
}

// newFloat8 rounds values. F8_E4M3 has 15 binades with full precision, so a component's row of A and
// column of B, whose product alone counts, first get about the same magnitude.
func newFloat8(modules map[string]Weights, rank func(module string) int) *float8 {
	f := &float8{modules: make(map[string]Weights, len(modules))}
	largest := 0.0
	for name, w := range modules {
		balanced := balance(w, rank(name))
		f.modules[name] = balanced
		for _, v := range [][]float32{balanced.A, balanced.B} {
			for _, x := range v {
				largest = max(largest, math.Abs(float64(x)))
			}
		}
	}
	if largest > 0 && !math.IsInf(largest, 1) {
		fraction, exponent := math.Frexp(largest)
		f.exponent = 9 - exponent // 448 is 7/8·2^9
		if fraction > 0.875 {
			f.exponent--
		}
		f.exponent = min(max(f.exponent, minExponent), maxExponent)
	}
	f.modules = f.moved(f.exponent)
	for _, w := range f.modules {
		for _, v := range [][]float32{w.A, w.B} {
			for i, x := range v {
				v[i] = safetensors.FromE4M3(safetensors.E4M3(x))
			}
		}
	}
	return f
}

// balance returns w with the row of A and the column of B of every component multiplied by opposite
// powers of two, so that their largest magnitudes differ by at most a factor of four.
func balance(w Weights, rank int) Weights {
	in, out := len(w.A)/rank, len(w.B)/rank
	b := Weights{A: make([]float32, len(w.A)), B: make([]float32, len(w.B)), DType: w.DType}
	for j := range rank {
		ofA, ofB := float32(0), float32(0)
		for _, x := range w.A[j*in : (j+1)*in] {
			ofA = max(ofA, float32(math.Abs(float64(x))))
		}
		for i := range out {
			ofB = max(ofB, float32(math.Abs(float64(w.B[i*rank+j]))))
		}
		shift := 0
		if ofA > 0 && ofB > 0 {
			_, a := math.Frexp(float64(ofA))
			_, b := math.Frexp(float64(ofB))
			shift = (b - a) >> 1
		}
		up, down := float32(math.Ldexp(1, shift)), float32(math.Ldexp(1, -shift))
		for i, x := range w.A[j*in : (j+1)*in] {
			b.A[j*in+i] = x * up
		}
		for i := range out {
			b.B[i*rank+j] = w.B[i*rank+j] * down
		}
	}
	return b
}

// moved returns the values times 2^exponent.
func (f *float8) moved(exponent int) map[string]Weights {
	out, factor := make(map[string]Weights, len(f.modules)), float32(math.Ldexp(1, exponent))
	for name, w := range f.modules {
		out[name] = Weights{A: scaled(w.A, factor), B: scaled(w.B, factor), DType: w.DType}
	}
	return out
}

func scaled(v []float32, factor float32) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = x * factor
	}
	return out
}

// check returns an error if a value is outside the range.
func (f *float8) check() error {
	for name, w := range f.modules {
		for _, v := range [][]float32{w.A, w.B} {
			for i, x := range v {
				if x != x {
					return fmt.Errorf("%s: the value at index %d is outside the range of F8_E4M3", name, i)
				}
			}
		}
	}
	return nil
}

// config returns the configuration that is stored beside the values: with alpha over 4^exponent, as
// both A and B are multiplied by 2^exponent.
func (f *float8) config(c Config) Config {
	return c.movedAlpha(math.Ldexp(1, -2*f.exponent))
}

// movedAlpha returns a copy whose alphas are multiplied by factor.
func (c Config) movedAlpha(factor float64) Config {
	alphas := make(map[string]float64, len(c.Alphas))
	for m, a := range c.Alphas {
		alphas[m] = a * factor
	}
	c.Alpha *= factor
	c.Alphas = alphas
	return c
}

// moveBack makes an adapter that was read from F8_E4M3 what it was before the exponent.
func (a *Adapter) moveBack(exponent int) {
	factor := float32(math.Ldexp(1, -exponent))
	for m, w := range a.Modules {
		a.Modules[m] = Weights{A: scaled(w.A, factor), B: scaled(w.B, factor), DType: safetensors.F16}
	}
	a.Config = a.Config.movedAlpha(math.Ldexp(1, 2*exponent))
}

// readExponent reads the value of [ExponentKey]; "" is 0.
func readExponent(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	e, err := strconv.Atoi(text)
	if err != nil || e < minExponent || e > maxExponent {
		return 0, fmt.Errorf("%s: %.80q is not an exponent of %d to %d", ExponentKey, text, minExponent, maxExponent)
	}
	return e, nil
}
