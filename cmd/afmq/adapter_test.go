package main

import (
	"os"
	"path/filepath"
	"testing"

	"afmq/pkg/eval"
	"afmq/pkg/fault"
)

// A path may have an = in it; a name has no path separator.
func TestSplitAdapter(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"lr=1", "runs/lr=2/rank-8", "a=b"} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	abs, err := filepath.Abs("lr=1")
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]eval.Adapter{
		"rank-8":                {Name: "rank-8", Dir: "rank-8"},
		"recovered/rank-8/":     {Name: "rank-8", Dir: "recovered/rank-8/"},
		"r8=recovered/rank-8":   {Name: "r8", Dir: "recovered/rank-8"},
		"r8=lr=1":               {Name: "r8", Dir: "lr=1"},
		"lr=1":                  {Name: "lr=1", Dir: "lr=1"},   // exists
		"lr=9":                  {Name: "lr", Dir: "9"},        // does not
		"./lr=9":                {Name: "lr=9", Dir: "./lr=9"}, // a separator before the =
		"runs/lr=2/rank-8":      {Name: "rank-8", Dir: "runs/lr=2/rank-8"},
		"runs/lr=9/rank-8":      {Name: "rank-8", Dir: "runs/lr=9/rank-8"},
		"best=runs/lr=2/rank-8": {Name: "best", Dir: "runs/lr=2/rank-8"},
		abs:                     {Name: "lr=1", Dir: abs},
	} {
		if got := splitAdapter(value); got != want {
			t.Errorf("%s: %+v; want %+v", value, got, want)
		}
	}
	for _, value := range []string{"", "=dir", "name="} {
		if _, err := (&adapterFlags{list: []string{value}}).adapters(); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", value, err)
		}
	}
}
