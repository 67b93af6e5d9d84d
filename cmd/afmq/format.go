package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"afmq/internal/fault"
)

// table writes rows whose cells are separated by tabs, in aligned columns.
func table(w io.Writer, rows func(w io.Writer)) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rows(t)
	return t.Flush()
}

// size prints bytes as people read them, in powers of 1024.
func size(n int64) string {
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

// amount prints n of a unit of progress.
func amount(n int64, unit string) string {
	if unit == "B" {
		return size(n)
	}
	return fmt.Sprintf("%s %s", thousands(n), unit)
}

// thousands prints n with a separator every three digits.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// parseShare reads "2%" or "0.02" as 0.02.
func parseShare(flag, s string) (float64, error) {
	digits, percent := strings.CutSuffix(strings.TrimSpace(s), "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if err != nil || !(f >= 0) || f > 1e9 {
		return 0, fault.Usagef("--%s %q is not a share such as 2%% or 0.02", flag, s)
	}
	if percent {
		f /= 100
	}
	return f, nil
}
