// Package target knows the runtimes on devices that an artifact can be exported to, and checks
// whether a model with given widths can run there.
//
// The rules are about the stored form alone: they need config.json, the bits of every matrix and
// the size of the groups, and no weights. Plans, quantization and exports check them before they
// start any long work. docs/targets.md has the rules with their sources.
package target

import (
	"fmt"
	"slices"
	"strings"

	"afmq/pkg/fault"
)

// System is an operating system of devices.
type System string

// The systems of the targets. A device profile may have others.
const (
	IOS   System = "ios"
	MacOS System = "macos"
)

// Target is a runtime on an operating system.
type Target struct {
	Name    string   // identifies the target: "coreai-ios"
	Title   string   // for people: "Core AI, iOS 27"
	Export  string   // the format that the runtime reads: "coreai" or "coreml"
	Runtime string   // for people: "Core AI"
	Systems []System // of the devices that have the runtime
	Widths  []int    // bits of an index of a palette, ascending

	families []string // values of model_type that are exported
	static   bool     // the program has caches of fixed lengths, whose channels are stored in eights
}

// appleWidths are the types of indices that constexpr_lut_to_dense of Core ML and
// coreai.lut_to_dense of Core AI take: uint1, 2, 3, 4, 6 and 8.
var appleWidths = []int{1, 2, 3, 4, 6, 8}

// appleFamilies are the families whose programs the exports for Apple's runtimes can write.
var appleFamilies = []string{"llama", "mistral", "qwen2", "qwen3"}

var targets = []Target{
	{"coreai-ios", "Core AI, iOS 27", "coreai", "Core AI", []System{IOS}, appleWidths, appleFamilies, true},
	{"coreai-macos", "Core AI, macOS 27", "coreai", "Core AI", []System{MacOS}, appleWidths, appleFamilies, false},
	{"coreml-ios18", "Core ML, iOS 18 and macOS 15", "coreml", "Core ML", []System{IOS, MacOS}, appleWidths, appleFamilies, false},
	{"coreml-ios26", "Core ML, iOS 26 and macOS 26", "coreml", "Core ML", []System{IOS, MacOS}, appleWidths, appleFamilies, false},
}

// Names returns the names of all targets.
func Names() []string {
	out := make([]string, len(targets))
	for i, t := range targets {
		out[i] = t.Name
	}
	return out
}

// Named returns the target with this name. An unknown name is an error of kind fault.Usage.
func Named(name string) (*Target, error) {
	for i := range targets {
		if targets[i].Name == name {
			t := targets[i]
			t.Systems, t.Widths = slices.Clone(t.Systems), slices.Clone(t.Widths)
			return &t, nil
		}
	}
	return nil, fault.Usagef("target %.200q is unknown; the targets are %s", name, strings.Join(Names(), ", "))
}

// OfExport returns the names of the targets of one format, the oldest system first.
func OfExport(format string) []string {
	var out []string
	for _, t := range targets {
		if t.Export == format {
			out = append(out, t.Name)
		}
	}
	return out
}

// RunsOn reports whether devices with this system have the runtime.
func (t *Target) RunsOn(s System) bool { return slices.Contains(t.Systems, s) }

// Allowed returns the widths that the runtime has, in the given order.
func (t *Target) Allowed(widths []int) []int {
	var out []int
	for _, b := range widths {
		if slices.Contains(t.Widths, b) {
			out = append(out, b)
		}
	}
	return out
}

// palettes says which palettes the runtime has.
func (t *Target) palettes() string { return t.Runtime + " has palettes of " + list(t.Widths) + " bits" }

// list returns "1, 2 and 3".
func list(numbers []int) string {
	var b strings.Builder
	for i, n := range numbers {
		switch {
		case i == 0:
		case i == len(numbers)-1:
			b.WriteString(" and ")
		default:
			b.WriteString(", ")
		}
		fmt.Fprint(&b, n)
	}
	return b.String()
}
