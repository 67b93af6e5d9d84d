package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"afmq/internal/units"
	"afmq/pkg/fault"
)

// table writes rows whose cells are separated by tabs, in aligned columns. The text of a last
// cell that is too wide for the terminal continues on the next line.
func table(w io.Writer, rows func(w io.Writer)) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	rows(t)
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		if _, err := io.WriteString(w, fold(strings.TrimRight(line, " \n"))+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// size formats bytes for people, in powers of 1024.
func size(n int64) string { return units.Size(n) }

// thousands formats n with a separator every three digits.
func thousands(n int64) string { return units.Thousands(n) }

// parseCount reads a whole number, which may have a suffix k, M or B: thousands, millions,
// billions.
func parseCount(flag, s string) (int64, error) {
	const what = "a count such as 4096, 16k or 2M"
	x, err := parseSuffixed(flag, s, what, map[string]float64{"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9})
	if n := math.Round(x); err == nil && math.Abs(x-n) > 1e-9*n { // 4.35 · 1000 is not exact
		return 0, fault.Usagef("--%s %q is not %s", flag, s, what)
	}
	return int64(math.Round(x)), err
}

// minBareSize is the smallest size, in bytes, that is read without a unit. No model is smaller,
// so a smaller number is one of megabytes, or a mistake.
const minBareSize = 64 << 10

// parseSize reads a number of bytes: KB, MB, GB are powers of 1000, KiB, MiB, GiB of 1024.
func parseSize(flag, s string) (int64, error) {
	x, err := parseSuffixed(flag, s, "a size such as 400MB or 1.5GiB", map[string]float64{
		"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
	})
	if t := strings.TrimSpace(s); err == nil && x < minBareSize && strings.ContainsAny(t[len(t)-1:], "0123456789.") {
		return 0, fault.Usagef("--%s %s has no unit: write %sMB, or %sB for bytes", flag, t, t, t)
	}
	return int64(x), err
}

// parseSuffixed reads a number of at least 1 with one of the units.
func parseSuffixed(flag, s, what string, units map[string]float64) (float64, error) {
	t := strings.TrimSpace(s)
	end := strings.LastIndexAny(t, "0123456789.") + 1
	unit, known := units[strings.TrimSpace(t[end:])]
	f, err := strconv.ParseFloat(t[:end], 64)
	if err != nil || !known || !(f*unit >= 1) || f*unit > 1<<62 {
		return 0, fault.Usagef("--%s %q is not %s", flag, s, what)
	}
	return f * unit, nil
}

// writeJSON writes v as an indented JSON object and a line feed. Control characters that
// encoding/json leaves as they are (DEL and U+0080 to U+009F, among them the terminal's CSI)
// are escaped, too.
func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	var out []byte
	for _, r := range b.String() { // valid UTF-8; outside strings only ASCII
		if r >= 0x7f && unicode.IsControl(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
			continue
		}
		out = append(out, string(r)...)
	}
	_, err := w.Write(out)
	return err
}

// escapeControls returns a text of a model for printing: control characters other than line
// feed and tab are escaped as in Go, so that they do not act on a terminal.
func escapeControls(s string) string {
	escape := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	if !strings.ContainsFunc(s, escape) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if escape(r) {
			quoted := strconv.QuoteRune(r) // '\x1b'
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
