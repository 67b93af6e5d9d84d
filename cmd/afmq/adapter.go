package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"afmq/pkg/eval"
	"afmq/pkg/fault"
)

// adapterFlags are the flags of every command that runs a model with adapters.
type adapterFlags struct {
	list         []string
	allowUnbound bool
}

func (f *adapterFlags) register(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.list, "adapter", nil, "run the model with the adapter `[NAME=]DIR`; repeatable. NAME, without path separators, is the directory's by default; an existing directory whose path has an = is taken as DIR")
	flags.BoolVar(&f.allowUnbound, "allow-unbound", false, "take an adapter that does not name the artifact that it was trained on")
}

// adapters returns the adapters that the flags name.
func (f *adapterFlags) adapters() ([]eval.Adapter, error) {
	var out []eval.Adapter
	for _, s := range f.list {
		a := splitAdapter(s)
		if a.Name == "" || a.Dir == "" {
			return nil, fault.Usagef("--adapter %q: expected DIR or NAME=DIR", s)
		}
		out = append(out, a)
	}
	return out, nil
}

// splitAdapter splits NAME=DIR. A path may have an = too: a value is a path as a whole if it
// names a directory, or if a path separator comes before the first =.
func splitAdapter(s string) eval.Adapter {
	name, dir := splitNamed(s)
	return eval.Adapter{Name: name, Dir: dir}
}

// splitNamed splits NAME=PATH. A value is a path as a whole if something of that path exists, or if a
// path separator comes before the first =; its name is then the last part of the path.
func splitNamed(s string) (name, path string) {
	name, path, named := strings.Cut(s, "=")
	_, err := os.Stat(s)
	if !named || err == nil || strings.ContainsRune(name, '/') || strings.ContainsRune(name, filepath.Separator) {
		if s == "" {
			return "", ""
		}
		return filepath.Base(filepath.Clean(s)), s
	}
	return name, path
}
