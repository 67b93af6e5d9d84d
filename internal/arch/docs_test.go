package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// Every fuzz test that docs/robustness.md names for a package is in that package.
func TestRobustnessNamesFuzzTests(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "robustness.md"))
	if err != nil {
		t.Fatal(err)
	}
	groups := regexp.MustCompile("((?:`Fuzz\\w+`,? ?)+)\\((pkg/\\w+)\\)").FindAllStringSubmatch(string(text), -1)
	if len(groups) < 10 {
		t.Fatalf("the page names the fuzz tests of %d packages; is its form another?", len(groups))
	}
	for _, g := range groups {
		files, err := filepath.Glob(filepath.Join(root, g[2], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		var source []byte
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			source = append(source, data...)
		}
		for _, name := range regexp.MustCompile(`Fuzz\w+`).FindAllString(g[1], -1) {
			if !regexp.MustCompile(`func ` + name + `\(`).Match(source) {
				t.Errorf("docs/robustness.md names %s, which is not in %s", name, g[2])
			}
		}
	}
}
