// Package arch holds the test of the architecture: which package may import
// which. It has no code of its own.
package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// leaves may be imported by everyone and import of the project at most fault.
var leaves = []string{"internal/disk", "internal/fault", "internal/infile", "internal/progress", "internal/rss", "internal/units"}

// allowed lists, for each package, what it may import of the project beside the
// leaves. Imports point downward only.
var allowed = map[string][]string{
	"internal/disk":      {},
	"internal/fault":     {},
	"internal/infile":    {},
	"internal/progress":  {},
	"internal/rss":       {},
	"internal/units":     {},
	"internal/chart":     {},
	"internal/manual":    {},
	"internal/demo":      {},
	"internal/kernel":    {},
	"internal/stage":     {},
	"internal/tokenizer": {},
	"pkg/safetensors":    {},
	"pkg/palettize":      {"internal/kernel"},
	"pkg/infer":          {"pkg/palettize", "pkg/safetensors", "internal/tokenizer", "internal/kernel"},
	"pkg/sensitivity":    {"pkg/infer", "pkg/palettize", "pkg/safetensors", "internal/tokenizer", "internal/kernel", "internal/stage"},
	"pkg/quantize":       {"pkg/sensitivity", "pkg/infer", "pkg/palettize", "pkg/safetensors", "internal/tokenizer", "internal/kernel", "internal/stage"},
	"pkg/recovery":       {"pkg/infer", "pkg/safetensors", "internal/tokenizer", "internal/kernel", "internal/stage"},
	"internal/gate":      {"pkg/infer", "internal/stage"},
	"internal/device":    {"pkg/sensitivity", "pkg/infer"},
	"internal/report":    {"pkg/recovery", "pkg/sensitivity", "pkg/infer", "internal/kernel", "internal/stage", "internal/chart", "internal/device"},
	"scripts/testreport": {},
	"scripts/bitcurve":   {"pkg/quantize", "pkg/sensitivity", "pkg/infer", "internal/kernel"},
	"scripts/ciexamples": {"internal/demo"},
	"scripts/manual":     {"internal/manual"},
	"scripts/releasing":  {"internal/manual"},
	"cmd/afmq":           {"pkg/quantize", "pkg/sensitivity", "pkg/recovery", "pkg/infer", "internal/gate", "internal/report", "internal/device", "internal/demo", "internal/manual", "internal/kernel"},
}

func TestImportsPointDownward(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && file != root || d.Name() == "testdata" || d.Name() == "gen") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		seen[pkg] = true
		may, known := allowed[pkg]
		if !known {
			t.Errorf("%s: package %s has no place in the architecture; give it one in this test", file, pkg)
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			inside, ok := strings.CutPrefix(name, "afmq/")
			if ok && path.Clean(inside) != pkg && !slices.Contains(leaves, inside) && !slices.Contains(may, inside) {
				t.Errorf("%s imports %s, which %s may not", file, inside, pkg)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !seen["cmd/afmq"] || !seen["pkg/infer"] {
		t.Errorf("the walk missed packages; it saw %v", seen)
	}
}
