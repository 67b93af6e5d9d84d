package chart

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// nearZero is the share of the largest value below which a linear axis of positive values begins
// at 0.
const nearZero = 0.25

// logRatio is the ratio of the largest to the smallest value from which [NeedsLog] is true.
const logRatio = 10

// NeedsLog reports whether the y values of the series are best drawn on a logarithmic axis: all are
// positive, and the largest is at least ten times the smallest.
func NeedsLog(series []Series) bool {
	least, most := math.Inf(1), 0.0
	for _, s := range series {
		for _, p := range s.Points {
			least, most = min(least, p.Y), max(most, p.Y)
		}
	}
	return least > 0 && most >= logRatio*least && !math.IsInf(most, 0)
}

// scale maps the values of an axis to pixels.
type scale struct {
	log      bool
	min, max float64 // logarithms on a logarithmic axis
	from, to float64 // pixels
	ticks    []Tick
}

// newScale returns a scale that covers the values. At least one of them must be drawable.
func newScale(a Axis, values []float64, from, to float64, wanted int) scale {
	s := scale{log: a.Log, min: math.Inf(1), max: math.Inf(-1), from: from, to: to}
	for _, v := range values {
		if s.drawable(v) {
			s.min, s.max = min(s.min, s.measure(v)), max(s.max, s.measure(v))
		}
	}
	s.extend(a)
	switch {
	case a.From < a.To:
		s.min, s.max = a.From, a.To
		s.ticks = s.roundTicks(s.step(wanted))
	case a.Ticks != nil:
		for _, t := range a.Ticks {
			if s.drawable(t.At) && s.inside(s.measure(t.At)) {
				s.ticks = append(s.ticks, t)
			}
		}
	case a.Log:
		s.ticks = s.logTicks(wanted)
	default:
		s.ticks = s.roundTicks(s.begin(wanted))
	}
	return s
}

// extend adds margins to the range of the values. A linear axis has none below its values, and
// begins at 0 where they come near it.
func (s *scale) extend(a Axis) {
	if s.min == s.max { // center a single value
		margin := 0.5
		if !a.Log && s.min != 0 {
			margin = math.Abs(s.min) / 4
		}
		s.min, s.max = s.min-margin, s.max+margin
	} else if a.Log || a.Ticks != nil {
		pad := (s.max - s.min) * 0.05
		s.min, s.max = s.min-pad, s.max+pad
		return
	}
	if a.Log {
		return
	}
	if a.Zero || s.min > 0 && s.min < s.max*nearZero {
		s.min, s.max = min(s.min, 0), max(s.max, 0)
	}
	s.max += (s.max - s.min) * 0.05
}

// begin moves the lower end of a linear axis down to a tick and returns the distance of its ticks.
// Ticks are closer than wanted if much of the axis would lie below the values otherwise.
func (s *scale) begin(wanted int) (step float64) {
	floor := func(step float64) float64 { return math.Floor(s.min/step+1e-9) * step }
	step = s.step(wanted)
	if s.min-floor(step) > (s.max-s.min)/5 {
		step = s.step(wanted + 3)
	}
	s.min = floor(step)
	return step
}

func (s *scale) drawable(v float64) bool {
	return !math.IsNaN(v) && !math.IsInf(v, 0) && (!s.log || v > 0)
}

func (s *scale) measure(v float64) float64 {
	if s.log {
		return math.Log10(v)
	}
	return v
}

func (s *scale) inside(m float64) bool { return m >= s.min && m <= s.max }

// at returns the pixel of a value.
func (s *scale) at(v float64) float64 {
	return s.from + (s.to-s.from)*(s.measure(v)-s.min)/(s.max-s.min)
}

// step returns the distance of about so many ticks: 1, 2 or 5 times a power of ten.
func (s *scale) step(wanted int) float64 {
	raw := (s.max - s.min) / float64(wanted)
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= raw {
			return m * power
		}
	}
	return 10 * power
}

// roundTicks returns ticks at multiples of the step.
func (s *scale) roundTicks(step float64) []Tick {
	digits := max(0, -int(math.Floor(math.Log10(step)+1e-9)))
	var out []Tick
	for i := math.Ceil(s.min/step - 1e-9); i*step <= s.max; i++ {
		out = append(out, Tick{i * step, group(strconv.FormatFloat(i*step+0, 'f', digits, 64))})
	}
	return out
}

// logTicks returns ticks at powers of ten, and at round numbers between them if they fit. Less
// than a decade gets the ticks of a linear axis.
func (s *scale) logTicks(wanted int) []Tick {
	if low, high := math.Pow(10, s.min), math.Pow(10, s.max); s.max-s.min < 0.9 {
		linear := scale{min: low, max: high}
		return linear.roundTicks(linear.step(wanted))
	}
	for _, digits := range [][]float64{{1, 2, 3, 5}, {1, 2, 5}, {1, 3}, {1}} {
		var out []Tick
		for p := math.Floor(s.min); p <= s.max; p++ {
			for _, d := range digits {
				v, _ := strconv.ParseFloat(fmt.Sprintf("%ge%g", d, p), 64)
				if s.inside(math.Log10(v)) {
					out = append(out, Tick{v, plain(v)})
				}
			}
		}
		if len(out) <= wanted+1 && len(out) > 1 || len(digits) == 1 {
			return out
		}
	}
	return nil
}

// plain formats a number without an exponent, unless it is very small or very large.
func plain(v float64) string {
	if a := math.Abs(v); a != 0 && (a < 1e-4 || a >= 1e7) {
		s := strconv.FormatFloat(v, 'g', 3, 64)
		return strings.NewReplacer("e-0", "e-", "e+0", "e", "e+", "e").Replace(s)
	}
	return group(strconv.FormatFloat(v, 'f', -1, 64))
}

// group inserts thousands separators.
func group(s string) string {
	whole, fraction, dot := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if dot {
		return whole + "." + fraction
	}
	return whole
}
