// Package arch holds the test of the architecture: which package may import
// which. It has no code of its own.
package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// leaves may be imported by everyone and import of the project at most leaves.
var leaves = []string{"pkg/fault", "pkg/progress", "internal/disk", "internal/infile", "internal/rss", "internal/units"}

// allowed lists, for each package, what it may import of the project beside the
// leaves. Imports point downward only.
var allowed = map[string][]string{
	"pkg/fault":       {},
	"pkg/progress":    {},
	"internal/disk":   {},
	"internal/infile": {},
	"internal/rss":    {},
	"internal/units":  {},

	"internal/calibration":           {},
	"internal/client":                {},
	"internal/manual":                {},
	"internal/demo":                  {},
	"internal/kernel":                {},
	"internal/memory":                {},
	"internal/stage":                 {},
	"pkg/compute":                    {"internal/kernel"},
	"pkg/tokenizer":                  {},
	"pkg/safetensors":                {},
	"pkg/shard":                      {"internal/stage"},
	"pkg/estimate":                   {"internal/memory"},
	"internal/correlated":            {"pkg/compute", "internal/kernel"},
	"pkg/gptq":                       {"pkg/compute", "internal/kernel"},
	"pkg/palettize":                  {"pkg/gptq", "pkg/compute", "internal/kernel"},
	"pkg/model":                      {"pkg/tokenizer"},
	"pkg/ggml":                       {},
	"pkg/gguf":                       {"pkg/ggml"},
	"pkg/ggufmodel":                  {"pkg/ggml", "pkg/gguf", "pkg/model", "pkg/tokenizer"},
	"pkg/chat/internal/jinja":        {},
	"pkg/chat":                       {"pkg/chat/internal/jinja", "pkg/gguf", "pkg/ggufmodel"},
	"pkg/artifact":                   {"pkg/ggufmodel", "pkg/gguf", "pkg/ggml", "pkg/grid", "pkg/model", "pkg/tokenizer", "pkg/palettize", "pkg/safetensors", "pkg/compute", "internal/kernel"},
	"pkg/export/target":              {"pkg/artifact", "pkg/model"},
	"pkg/adapter":                    {"pkg/artifact", "pkg/model", "pkg/safetensors", "pkg/compute", "internal/kernel"},
	"pkg/infer":                      {"pkg/estimate", "pkg/ggufmodel", "pkg/ggml", "pkg/grid", "pkg/adapter", "pkg/artifact", "pkg/model", "pkg/tokenizer", "pkg/palettize", "pkg/safetensors", "pkg/compute", "internal/kernel"},
	"pkg/eval":                       {"pkg/estimate", "pkg/ggufmodel", "pkg/infer", "pkg/adapter", "pkg/artifact", "pkg/model", "pkg/tokenizer", "pkg/compute", "internal/kernel"},
	"pkg/batch":                      {"pkg/infer", "pkg/tokenizer", "pkg/compute"},
	"pkg/serve":                      {"pkg/batch", "pkg/chat", "pkg/infer", "pkg/tokenizer"},
	"pkg/sensitivity":                {"pkg/estimate", "pkg/shard", "internal/memory", "pkg/ggml", "pkg/grid", "pkg/export/target", "internal/calibration", "pkg/eval", "pkg/infer", "pkg/artifact", "pkg/model", "pkg/tokenizer", "pkg/palettize", "pkg/safetensors", "pkg/compute", "internal/kernel", "internal/stage"},
	"pkg/grid":                       {"pkg/ggml", "pkg/gptq", "pkg/palettize", "pkg/safetensors", "pkg/compute", "internal/kernel"},
	"pkg/quantize":                   {"pkg/estimate", "pkg/shard", "internal/memory", "pkg/ggml", "pkg/grid", "pkg/export/target", "pkg/gptq", "pkg/sensitivity", "pkg/eval", "pkg/infer", "pkg/adapter", "pkg/artifact", "pkg/model", "pkg/palettize", "pkg/safetensors", "pkg/compute", "internal/kernel", "internal/stage"},
	"pkg/recovery":                   {"scripts/afmq_train", "pkg/estimate", "pkg/eval", "pkg/infer", "pkg/grid", "pkg/adapter", "pkg/artifact", "pkg/model", "pkg/tokenizer", "pkg/safetensors", "pkg/compute", "internal/kernel", "internal/stage"},
	"pkg/export/internal/exporttest": {"pkg/quantize", "pkg/adapter", "pkg/artifact", "pkg/model", "pkg/safetensors"},
	"pkg/export/internal/directory":  {"pkg/export/internal/source", "pkg/adapter", "pkg/artifact", "pkg/safetensors", "internal/kernel", "internal/stage"},
	"pkg/export/mlx":                 {"pkg/export/internal/directory", "pkg/export/internal/source", "pkg/artifact", "pkg/grid", "pkg/model", "pkg/safetensors", "pkg/compute"},
	"pkg/export/compressed":          {"pkg/export/internal/directory", "pkg/export/internal/source", "pkg/adapter", "pkg/artifact", "pkg/grid", "pkg/model", "pkg/safetensors", "pkg/compute"},
	"pkg/export/internal/source":     {"pkg/adapter", "pkg/artifact", "pkg/model", "pkg/palettize", "pkg/safetensors", "internal/kernel"},
	"pkg/export/coreml":              {"pkg/export/target", "pkg/export/internal/source", "pkg/adapter", "pkg/artifact", "pkg/model", "pkg/palettize", "pkg/safetensors", "pkg/compute", "internal/kernel", "internal/stage"},
	"pkg/export/coreai":              {"pkg/export/target", "scripts/coreai", "internal/calibration", "pkg/eval", "pkg/infer", "pkg/tokenizer", "pkg/export/internal/source", "pkg/adapter", "pkg/artifact", "pkg/model", "pkg/safetensors", "pkg/compute", "internal/kernel", "internal/stage"},
	"pkg/export/gguf":                {"pkg/ggufmodel", "internal/calibration", "internal/kernel", "pkg/tokenizer", "pkg/export/internal/source", "pkg/artifact", "pkg/model", "pkg/safetensors", "pkg/compute", "pkg/gguf", "pkg/ggml"},
	"pkg/gate":                       {"pkg/eval", "pkg/infer", "pkg/adapter", "pkg/artifact", "pkg/compute"},
	"pkg/lmeval":                     {},
	"pkg/compare":                    {"pkg/lmeval", "pkg/gate", "pkg/eval", "pkg/infer", "pkg/ggufmodel", "pkg/adapter", "pkg/artifact", "pkg/model", "pkg/compute"},

	"cmd/afmq/internal/chart":  {},
	"cmd/afmq/internal/device": {"pkg/export/target", "pkg/sensitivity", "pkg/artifact", "pkg/model"},
	"cmd/afmq/internal/report": {"pkg/compare", "pkg/lmeval", "pkg/grid", "cmd/afmq/internal/chart", "cmd/afmq/internal/device", "pkg/gate", "pkg/recovery", "pkg/sensitivity", "pkg/eval", "pkg/infer", "pkg/artifact", "pkg/model", "pkg/palettize", "pkg/safetensors", "pkg/compute"},
	"cmd/afmq": {"pkg/estimate", "pkg/shard", "pkg/compare", "pkg/lmeval", "cmd/afmq/internal/report", "cmd/afmq/internal/device", "pkg/quantize", "pkg/sensitivity", "pkg/recovery", "pkg/serve", "pkg/batch", "pkg/chat", "pkg/eval", "pkg/infer", "pkg/adapter", "pkg/artifact", "pkg/model", "pkg/safetensors",
		"pkg/ggml", "pkg/grid", "pkg/gguf", "pkg/ggufmodel", "pkg/gate", "pkg/export/coreml", "pkg/export/coreai", "pkg/export/target", "pkg/export/gguf", "pkg/export/mlx", "pkg/export/compressed", "internal/demo", "internal/manual", "internal/memory", "internal/stage", "pkg/palettize", "pkg/compute"},

	"deploy/kubernetes":   {},
	"scripts/afmq_train":  {},
	"scripts/coreai":      {},
	"scripts/testreport":  {"scripts/testreport/internal/browser"},
	"scripts/bitcurve":    {"pkg/quantize", "pkg/sensitivity", "pkg/eval", "pkg/infer", "pkg/artifact", "pkg/model", "pkg/compute"},
	"scripts/chatrender":  {"pkg/chat"},
	"scripts/gatepower":   {"pkg/gate"},
	"scripts/logits":      {"pkg/infer", "pkg/safetensors", "pkg/compute"},
	"scripts/transcripts": {},
	"scripts/ciexamples":  {"internal/demo"},
	"scripts/manual":      {"internal/manual"},
	"scripts/releasing":   {"internal/manual"},

	"scripts/testreport/servepage":        {"scripts/testreport/internal/browser"},
	"scripts/testreport/internal/browser": {},
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

// CONTRIBUTING.md has a line for every package, and for none that does not exist.
func TestContributingListsEveryPackage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, line := range strings.Split(string(text), "\n") {
		dir, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(line, "    ") && strings.HasSuffix(dir, "/") {
			listed[strings.TrimSuffix(dir, "/")] = true
		}
	}
	for pkg := range allowed {
		if !listed[pkg] && !strings.HasPrefix(pkg, "scripts/") {
			t.Errorf("CONTRIBUTING.md does not list %s", pkg)
		}
	}
	for pkg := range listed {
		if _, ok := allowed[pkg]; !ok && pkg != "internal/arch" {
			t.Errorf("CONTRIBUTING.md lists %s, which is not a package", pkg)
		}
	}
}

// docs/library.md has every package that a program can import.
func TestLibraryPageListsEveryPackage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "library.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := ""
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "| `") {
			names, _, _ := strings.Cut(line[2:], "|")
			rows += names
		}
	}
	for pkg := range allowed {
		name, ok := strings.CutPrefix(pkg, "pkg/")
		if ok && !strings.Contains(name, "internal/") && !strings.Contains(rows, "`"+name+"`") {
			t.Errorf("docs/library.md does not list %s", name)
		}
	}
}
