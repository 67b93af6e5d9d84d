package adapter

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"afmq/pkg/fault"
)

// checkDir returns an error, of kind [fault.Input], unless dir is a directory with
// adapter_config.json. It says what dir is instead: an output of recover, which holds an adapter
// for each rank, a model, a file of an adapter.
func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fault.Reading(dir, err)
	}
	if !info.IsDir() {
		e := fault.Inputf(dir, "is not a directory; expected one with %s and %s", ConfigFile, WeightsFile)
		if parent := filepath.Dir(dir); exists(filepath.Join(parent, ConfigFile)) {
			return e.WithHint("give the directory, %s", parent)
		}
		return e
	}
	if exists(filepath.Join(dir, ConfigFile)) {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fault.Reading(dir, err)
	}
	var inside []string
	for _, e := range entries {
		if path := filepath.Join(dir, e.Name()); exists(filepath.Join(path, ConfigFile)) {
			inside = append(inside, path)
		}
	}
	switch {
	case len(inside) > 0:
		// The adapters of the best step come before those of the last.
		slices.SortFunc(inside, func(a, b string) int { return strings.Compare(lastSuffix(a), lastSuffix(b)) })
		return fault.Inputf(dir, "is a directory of adapters, not an adapter").WithHint("give one of %s", strings.Join(inside[:min(len(inside), 8)], ", "))
	case exists(filepath.Join(dir, "config.json")):
		return fault.Inputf(dir, "is a model, not an adapter: it has no %s", ConfigFile).WithHint("`afmq recover` trains an adapter")
	}
	return fault.Inputf(dir, "is not an adapter: it has no %s", ConfigFile).WithHint("an adapter is a directory with %s and %s, such as rank-16 in an output of `afmq recover`", ConfigFile, WeightsFile)
}

// lastSuffix returns a key that sorts the names of adapters after the last step to the end, and
// the others by rank.
func lastSuffix(path string) string {
	name, last := strings.CutSuffix(filepath.Base(path), "-last")
	key := "0"
	if last {
		key = "1"
	}
	rank := strings.TrimPrefix(name, "rank-")
	return key + strings.Repeat("0", max(0, 8-len(rank))) + rank
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
