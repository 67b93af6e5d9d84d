package adapter

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"afmq/internal/disk"
	"afmq/pkg/fault"
	"afmq/pkg/safetensors"
)

// An adapter of another artifact is reported as that, also where its tensors do not fit.
func TestAdapterOfAnotherModel(t *testing.T) {
	cfg := loadConfig(t, adapterModel)
	a, err := Read(adapterFixture, cfg)
	if err != nil {
		t.Fatal(err)
	}
	own, other := strings.Repeat("a", 64), strings.Repeat("b", 64)
	a.Dir, a.Base = t.TempDir(), own
	if err := Write(a, cfg, safetensors.F32, disk.WriteFile); err != nil {
		t.Fatal(err)
	}
	wide := *cfg
	wide.HiddenSize *= 2
	for name, c := range map[string]struct {
		hash string
		want string
	}{
		"another artifact": {other, "was trained on another artifact: its base has content hash aaaaaaaaaaaaaaaa…, that of m is bbbbbbbbbbbbbbbb…"},
		"its own":          {own, "has shape"},
		"a checkpoint":     {"", "has shape"},
	} {
		if _, err := ReadFor(a.Dir, &wide, "m", c.hash, false); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var shaped *fault.Error
	if _, err := ReadFor(a.Dir, &wide, "m", "", false); !errors.As(err, &shaped) || !strings.Contains(shaped.Hint, "the model that it was trained on") {
		t.Errorf("%v, without the way out", err)
	}
	if got, err := ReadFor(a.Dir, cfg, "m", own, false); err != nil || got.Base != own {
		t.Errorf("its own artifact: %v", err)
	}
	if _, err := Read(filepath.Join(a.Dir, "none"), cfg); fault.KindOf(err) != fault.Input {
		t.Errorf("no directory: %v", err)
	}
}
