package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"afmq/pkg/adapter"
	"afmq/pkg/eval"
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
	adapter   *adapter.Adapter
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
		out = append(out, variant{name, dir, m.WithAdapter(a), a})
	}
	return out, nil
}

// checkTrained refuses a file that an adapter was trained on, and warns of a text that shares
// passages with its training text: figures on such a text flatter the adapter.
func checkTrained(a *app, corpus *eval.Corpus, v variant, allow bool) error {
	overlap := v.adapter.Overlap(corpus.SHA256, corpus.IDs)
	if overlap.SameFile && !allow {
		return fault.Inputf(corpus.File, "is text that adapter %s was trained on; what it scores there says little about other text", v.name).
			WithHint("score another text, or give --allow-overlap")
	}
	if overlap.Passages > 0 {
		fmt.Fprintf(a.stderr, "warning: %s shares %d of %d passages with the text that adapter %s was trained on\n", corpus.File, overlap.Passages, overlap.Of, v.name)
	}
	return nil
}
