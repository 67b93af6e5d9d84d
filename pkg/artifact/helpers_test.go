package artifact

import (
	"strings"
	"testing"

	"afmq/pkg/fault"
)

// wantFault fails unless err is of the kind, on one line, and mentions the parts.
func wantFault(t testing.TB, err error, kind fault.Kind, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if fault.KindOf(err) != kind || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v: kind %v, want %v, on one line", err, fault.KindOf(err), kind)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%v: does not mention %q", err, p)
		}
	}
}
