package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"afmq/internal/units"
	"afmq/pkg/fault"
)

// table writes rows whose cells are separated by tabs, in aligned columns.
func table(w io.Writer, rows func(w io.Writer)) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rows(t)
	return t.Flush()
}

// size formats bytes for people, in powers of 1024.
func size(n int64) string { return units.Size(n) }

// thousands formats n with a separator every three digits.
func thousands(n int64) string { return units.Thousands(n) }

// parseCount reads a number with a suffix k, M or B: thousands, millions, billions.
func parseCount(flag, s string) (int64, error) {
	return parseSuffixed(flag, s, "a count such as 4096, 16k or 2M", map[string]float64{"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9})
}

// parseSize reads a number of bytes: KB, MB, GB are powers of 1000, KiB, MiB, GiB of 1024.
func parseSize(flag, s string) (int64, error) {
	return parseSuffixed(flag, s, "a size such as 400MB or 1.5GiB", map[string]float64{
		"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
	})
}

func parseSuffixed(flag, s, what string, units map[string]float64) (int64, error) {
	t := strings.TrimSpace(s)
	end := strings.LastIndexAny(t, "0123456789.") + 1
	unit, known := units[strings.TrimSpace(t[end:])]
	f, err := strconv.ParseFloat(t[:end], 64)
	if err != nil || !known || !(f*unit >= 1) || f*unit > 1<<62 {
		return 0, fault.Usagef("--%s %q is not %s", flag, s, what)
	}
	return int64(f * unit), nil
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
