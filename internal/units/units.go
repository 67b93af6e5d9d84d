// Package units writes counts and sizes as people read them.
package units

import (
	"fmt"
	"math"
	"strconv"
)

// Size writes bytes in powers of 1024: "5.26 MiB".
func Size(n int64) string {
	const units = "KMGT"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	return fmt.Sprintf("%.2f %ciB", f, units[i])
}

// Thousands writes n with a separator every three digits: "5,512,088".
func Thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Span writes a time with three digits: "12.5 ms".
func Span(seconds float64) string {
	switch {
	case seconds < 1e-3:
		return fmt.Sprintf("%.3g µs", seconds*1e6)
	case seconds < 1:
		return fmt.Sprintf("%.3g ms", seconds*1e3)
	}
	return fmt.Sprintf("%.3g s", seconds)
}

// Rate writes how many there are in a second: "24,700", "31.4", "0.52".
func Rate(n float64) string {
	switch {
	case n >= 100 && n < 1e18:
		return Thousands(int64(math.Round(n)))
	case n >= 10:
		return fmt.Sprintf("%.1f", n)
	}
	return fmt.Sprintf("%.2f", n)
}
