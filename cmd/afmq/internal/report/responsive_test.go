package report

import (
	"strings"
	"testing"
)

// Every table that may be wider than a phone lies in a region that scrolls, can be focused with the
// keyboard and has a name; shadows show where there is more. The heat map needs none: its columns
// share the width.
func TestTablesScroll(t *testing.T) {
	_, page := mustMake(t, everything(t))
	var last element
	tables := 0
	for _, e := range parse(t, page) {
		if e.name == "table" && !strings.Contains(e.attrs["class"], "map") {
			tables++
			if last.name != "div" || last.attrs["class"] != "scroll" || last.attrs["tabindex"] != "0" || last.attrs["role"] != "region" || last.attrs["aria-label"] == "" {
				t.Errorf("a table is in %s %v", last.name, last.attrs)
			}
		}
		last = e
	}
	if tables < 10 {
		t.Errorf("there are %d tables", tables)
	}
	for _, rule := range []string{".scroll{overflow-x:auto;", "no-repeat local,", "no-repeat scroll", ".scroll:focus-visible"} {
		if !strings.Contains(string(pageCSS), rule) {
			t.Errorf("the style sheet has no %q", rule)
		}
	}
}
