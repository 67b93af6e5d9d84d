package main

import (
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"afmq/pkg/adapter"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
)

// adapterFlags are the flags of every command that runs a model with adapters.
type adapterFlags struct {
	list         []string
	allowUnbound bool
}

func (f *adapterFlags) register(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.list, "adapter", nil, "adapter to run the model with: its `[NAME=]DIR`, the name being the directory's if none is given; repeatable")
	flags.BoolVar(&f.allowUnbound, "allow-unbound", false, "take an adapter that does not say which artifact it was trained on")
}

// variant is a model with one of the adapters, or, with an empty name, without any.
type variant struct {
	name, dir string
	model     *infer.Model
	trained   []string // hex SHA-256 of the files that the adapter was trained on
}

// open reads the adapters for a model, which is loaded once for all.
func (f *adapterFlags) open(m *infer.Model) ([]variant, error) {
	var out []variant
	seen := map[string]bool{}
	for _, s := range f.list {
		name, dir, named := strings.Cut(s, "=")
		if !named {
			name, dir = filepath.Base(filepath.Clean(s)), s
		}
		switch {
		case name == "" || dir == "":
			return nil, fault.Usagef("--adapter %q: expected NAME=DIR", s)
		case seen[name]:
			return nil, fault.Usagef("two adapters are called %q", name).WithHint("give each a name of its own: --adapter NAME=DIR")
		}
		seen[name] = true
		a, err := adapter.Open(dir, m.Dir, m.Config, f.allowUnbound)
		if err != nil {
			return nil, err
		}
		out = append(out, variant{name, dir, m.WithAdapter(a), a.Data})
	}
	return out, nil
}
