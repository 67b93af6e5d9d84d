package model

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/fault"
)

// TestHubSnapshot finds the snapshots of a cache as huggingface_hub lays it out.
func TestHubSnapshot(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HF_HUB_CACHE", "")
	t.Setenv("HF_HOME", home)
	root := filepath.Join(home, "hub", "models--Org--My-Model.1")
	const commit, other = "0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef"
	for _, dir := range []string{"refs/pr", "snapshots/" + commit, "snapshots/" + other} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for ref, content := range map[string]string{"main": commit, "pr/1": other + "\n", "gone": strings.Repeat("a", 40), "evil": "../../../..", "long": strings.Repeat("a", 300)} {
		if err := os.WriteFile(filepath.Join(root, "refs", ref), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[string]string{"Org/My-Model.1": commit, "Org/My-Model.1@main": commit, "Org/My-Model.1@pr/1": other, "Org/My-Model.1@" + other: other} {
		if dir, err := HubSnapshot(id); err != nil || dir != filepath.Join(root, "snapshots", want) || HubRepository(dir) != "Org/My-Model.1" {
			t.Errorf("%s: %s, %v", id, dir, err)
		}
	}
	for id, hint := range map[string]string{
		"Org/Other": "`hf download Org/Other`", "Org/My-Model.1@gone": "--revision gone", "Org/My-Model.1@evil": "--revision evil",
		"Org/My-Model.1@long": "", "Org/My-Model.1@..": "", "../x": "", "a/b/c": "", "Org": "", "Org/a--b": "", "Org/..": "", "": "",
	} {
		dir, err := HubSnapshot(id)
		var fe *fault.Error
		if !errors.As(err, &fe) || fe.Kind != fault.Input || !strings.Contains(fe.Hint, hint) {
			t.Errorf("%s: %s, %v", id, dir, err)
		}
	}
	t.Setenv("HF_HUB_CACHE", filepath.Join(home, "hub"))
	t.Setenv("HF_HOME", "elsewhere")
	if _, err := HubSnapshot("Org/My-Model.1"); err != nil {
		t.Error(err)
	}
	t.Setenv("HF_HUB_CACHE", "")
	t.Setenv("HF_HOME", "")
	t.Setenv("XDG_CACHE_HOME", home)
	if got := HubCache(); got != filepath.Join(home, "huggingface", "hub") {
		t.Error(got)
	}
}
