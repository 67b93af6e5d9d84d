// Package units formats sizes, counts, times and rates for display.
package units

import (
	"fmt"
	"math"
	"strconv"
)

// Size formats a number of bytes in powers of 1024: "5.26 MiB".
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

// Thousands formats n with thousands separators: "5,512,088".
func Thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Span formats a time in seconds with three significant digits: "12.5 ms".
func Span(seconds float64) string {
	switch {
	case seconds < 1e-3:
		return fmt.Sprintf("%.3g µs", seconds*1e6)
	case seconds < 1:
		return fmt.Sprintf("%.3g ms", seconds*1e3)
	}
	return fmt.Sprintf("%.3g s", seconds)
}

// Rate formats a rate per second: "24,700", "31.4", "0.52".
func Rate(n float64) string {
	switch {
	case n >= 100 && n < 1e18:
		return Thousands(int64(math.Round(n)))
	case n >= 10:
		return fmt.Sprintf("%.1f", n)
	}
	return fmt.Sprintf("%.2f", n)
}

// SpanRange formats a range of times in seconds with two significant digits: "140–420 µs".
func SpanRange(low, high float64) string {
	unit, name := 1.0, "s"
	switch {
	case high < 1e-3:
		unit, name = 1e-6, "µs"
	case high < 1:
		unit, name = 1e-3, "ms"
	}
	return significant(low/unit, 2) + "–" + significant(high/unit, 2) + " " + name
}

// RateRange formats a range of rates per second with three significant digits: "20.2–23.8",
// "6.30–7.40k".
func RateRange(low, high float64) string {
	if high >= 1000 {
		return significant(low/1000, 3) + "–" + significant(high/1000, 3) + "k"
	}
	return significant(low, 3) + "–" + significant(high, 3)
}

// significant formats a positive number with so many significant digits and without an exponent.
func significant(v float64, digits int) string {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'e', digits-1, 64), 64)
	decimals := digits - 1 - int(math.Floor(math.Log10(rounded)+1e-9))
	return strconv.FormatFloat(rounded, 'f', max(decimals, 0), 64)
}
