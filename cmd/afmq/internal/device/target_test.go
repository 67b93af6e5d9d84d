package device

import (
	"slices"
	"strings"
	"testing"

	"afmq/pkg/export/target"
	"afmq/pkg/fault"
)

// Every embedded profile says its system, and a target is for devices of its systems.
func TestTargetsOfDevices(t *testing.T) {
	want := map[string][]string{
		"iphone-15-pro":  {"coreai-ios", "coreml-ios18", "coreml-ios26"},
		"macbook-air-m2": {"coreai-macos", "coreml-ios18", "coreml-ios26"},
	}
	for _, name := range Names() {
		p, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if p.System == "" {
			t.Errorf("%s has no system", name)
		}
		if got := Targets(p); !slices.Equal(got, want[name]) {
			t.Errorf("%s has the targets %v, want %v", name, got, want[name])
		}
		for _, n := range target.Names() {
			x, err := target.Named(n)
			if err != nil {
				t.Fatal(err)
			}
			err = CheckTarget([]*Profile{p}, x)
			if good := slices.Contains(want[name], n); (err == nil) != good || !good && (fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), name)) {
				t.Errorf("%s with %s: %v", name, n, err)
			}
			if err := CheckTarget([]*Profile{{Name: "mine"}}, x); err != nil {
				t.Errorf("a profile without a system: %v", err)
			}
		}
	}
}
