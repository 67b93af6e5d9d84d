package adapter

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/safetensors"
)

// sequence returns the ids from, from+1, ….
func sequence(from, n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(from + i)
	}
	return ids
}

// An adapter knows the text that it was trained on, and that of the adapter before it, after
// it was written and read.
func TestOverlapWithTrainingText(t *testing.T) {
	cfg := loadConfig(t, adapterModel)
	a, err := Read(adapterFixture, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Overlap("file", sequence(0, 500)); got != (Overlap{}) {
		t.Errorf("an adapter of another program: %+v", got)
	}
	a.Dir, a.Base = t.TempDir(), strings.Repeat("0a", 32)
	parent, own := artifact.Passages([][]int32{sequence(0, 240)}), artifact.Passages([][]int32{sequence(1000, 240)})
	a.Data, a.Passages = MergeFiles([]string{"p", "q"}, []string{"q", "r"}), MergePassages(parent, own, own)
	if !slices.Equal(a.Data, []string{"p", "q", "r"}) || len(a.Passages) != 20 {
		t.Fatalf("files %v, %d passages", a.Data, len(a.Passages))
	}
	if err := Write(a, cfg, safetensors.F16, writeFileAt); err != nil {
		t.Fatal(err)
	}
	b, err := Read(a.Dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file string
		ids  []int32
		want Overlap
	}{
		{"q", nil, Overlap{true, 0, 20}},
		{"x", sequence(5000, 500), Overlap{false, 0, 20}},
		{"x", append(sequence(5000, 7), sequence(24, 72)...), Overlap{false, 3, 20}}, // at another offset
		{"x", append(sequence(0, 240), sequence(1000, 240)...), Overlap{false, 20, 20}},
	} {
		if got := b.Overlap(c.file, c.ids); got != c.want {
			t.Errorf("%s, %d tokens: %+v, want %+v", c.file, len(c.ids), got, c.want)
		}
	}
}

// The passages of a long text are bounded, and from all of it.
func TestMergePassagesThins(t *testing.T) {
	a, b := artifact.Passages([][]int32{sequence(0, 60000)}), artifact.Passages([][]int32{sequence(100000, 60000)})
	merged := MergePassages(a, b)
	if len(merged) != maxPassages {
		t.Fatalf("%d passages", len(merged))
	}
	ofA := 0
	for _, p := range merged {
		if slices.Contains(a, p) {
			ofA++
		}
	}
	if ofA < maxPassages/3 || ofA > maxPassages*2/3 {
		t.Errorf("%d of %d passages are of the first text", ofA, len(merged))
	}
}

// Passages that are none are refused.
func TestWrongPassages(t *testing.T) {
	cfg := loadConfig(t, adapterModel)
	a, err := Read(adapterFixture, cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.Dir, a.Base, a.Passages = t.TempDir(), strings.Repeat("0a", 32), []string{"0123456789abcdef", "0123"}
	if err := Write(a, cfg, safetensors.F16, writeFileAt); err != nil {
		t.Fatal(err)
	}
	_, err = Read(a.Dir, cfg)
	var fe *fault.Error
	if !errors.As(err, &fe) || fe.Kind != fault.Input || !strings.Contains(err.Error(), `"0123" is not a hash`) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(a.Dir, ConfigFile)); err != nil {
		t.Error(err)
	}
}
