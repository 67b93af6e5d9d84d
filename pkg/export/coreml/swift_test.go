package coreml

import (
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/export/internal/exporttest"

	"google.golang.org/protobuf/encoding/protowire"
)

// The Swift package of docs/swift names the functions, inputs, outputs and states of a package.
func TestSwiftPackageKnowsTheNames(t *testing.T) {
	out := filepath.Join(t.TempDir(), "m.mlpackage")
	if _, err := Export(bg, Options{Artifact: exporttest.Demo(t, 4), Out: out}); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range all(readFile(t, filepath.Join(out, modelFile)), 2, 20) {
		names[string(one(f, 1))] = true
		for _, field := range []protowire.Number{2, 3, 6} { // inputs, outputs, states
			for _, name := range all(f, field, 1) {
				names[string(name)] = true
			}
		}
	}
	if len(names) != 7 {
		t.Fatalf("the package has the names %v, expected 7", names)
	}

	var source strings.Builder
	for path, text := range exporttest.Contents(t, "../../../docs/swift/Sources") {
		if filepath.Ext(path) == ".swift" {
			source.WriteString(text)
		}
	}
	for name := range names {
		if !strings.Contains(source.String(), `"`+name+`"`) {
			t.Errorf("docs/swift does not name %s", name)
		}
	}
}
