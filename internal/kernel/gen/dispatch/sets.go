package main

import (
	"fmt"
	"maps"
	"math/bits"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// member is a kernel of a set.
type member struct {
	name         string
	format       string // stored format, with byFmt
	rows, panels int
}

// members finds the kernels of a set for a level, by format, rows and panels.
func (w *writer) members(s set, l level) []member {
	format := ""
	if s.byFmt {
		format = "(F16|BF16|Int8|LUT4|LUT2)"
	}
	name := regexp.MustCompile("^" + s.prefix + "(" + format + ")" + l.suffix + `_(?:(\d+)x)?(\d+)$`)
	var list []member
	for _, k := range slices.Sorted(maps.Keys(w.kernels)) {
		if m := name.FindStringSubmatch(k); m != nil {
			rows, _ := strconv.Atoi(m[len(m)-2])
			panels, _ := strconv.Atoi(m[len(m)-1])
			w.used[k] = true
			list = append(list, member{k, m[1], rows, panels})
		}
	}
	slices.SortFunc(list, func(a, b member) int {
		if c := strings.Compare(a.format, b.format); c != 0 {
			return c
		}
		return (a.rows-b.rows)*100 + a.panels - b.panels
	})
	return list
}

// set writes the function that returns a set, and the set of each level.
func (w *writer) set(s set) {
	parameters := "l isa"
	if s.byFmt {
		parameters += ", f format"
	}
	var cases, tables strings.Builder
	for _, l := range w.levels {
		list := w.members(s, l)
		if len(list) == 0 {
			continue
		}
		table := s.prefix + l.suffix
		if s.byFmt {
			fmt.Fprintf(&cases, "case %s:\nreturn %s[f]\n", l.condition(), table)
			elements := rowsOf(list, func(m member) string { return "format" + m.format })
			if s.byRows {
				elements = formatsOf(list)
			}
			fmt.Fprintf(&tables, "\nvar %s = [formats]*%s{\n%s}\n", table, s.typ, elements)
			continue
		}
		tallest := list[len(list)-1].rows
		fmt.Fprintf(&cases, "case %s:\nreturn &%s\n", l.condition(), table)
		fmt.Fprintf(&tables, "\nvar %s = %s{\nmr: %d,\nfuncs: [maxStrip + 1][nWide]%s{\n%s},\n}\n", table, s.typ, tallest, s.kernel,
			rowsOf(list, func(m member) string { return strconv.Itoa(m.rows) }))
	}
	w.line("")
	w.comment(s.doc)
	if cases.Len() == 0 {
		w.line("func %s(%s) *%s { return %s }", s.fn, strings.NewReplacer("l isa", "_ isa", "f format", "_ format").Replace(parameters), s.typ, s.generic)
		return
	}
	w.line("func %s(%s) *%s {\nswitch {\n%s}\nreturn %s\n}", s.fn, parameters, s.typ, cases.String(), s.generic)
	w.WriteString(tables.String())
}

// formatsOf writes the elements of a table by format, each indexed by rows and log2 of panels.
func formatsOf(list []member) string {
	var b strings.Builder
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].format == list[0].format {
			n++
		}
		fmt.Fprintf(&b, "format%s: {\n%s},\n", list[0].format, rowsOf(list[:n], func(m member) string { return strconv.Itoa(m.rows) }))
		list = list[n:]
	}
	return b.String()
}

// rowsOf writes the elements of a table, one line for each key, indexed by log2 of panels.
func rowsOf(list []member, key func(member) string) string {
	var b strings.Builder
	for i, m := range list {
		if i == 0 || key(m) != key(list[i-1]) {
			if i > 0 {
				b.WriteString("},\n")
			}
			fmt.Fprintf(&b, "%s: {", key(m))
		}
		fmt.Fprintf(&b, "%d: %s, ", bits.Len(uint(m.panels))-1, m.name)
	}
	return b.String() + "},\n"
}
