package sensitivity

import (
	"encoding/json"
	"fmt"
	"strings"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
)

// fileKinds are the files that the commands write, by the name in their schema, and what to do
// with each.
var fileKinds = map[string]struct{ what, use string }{
	"scores":   {"a file of sensitivity scores", "`afmq plan %s --out plan.json` makes a plan from it"},
	"plan":     {"a plan", "`afmq quantize MODEL --plan %s` applies it; `afmq sensitivity` makes scores"},
	"eval":     {"the output of eval-perplexity", ""},
	"baseline": {"the baseline of a gate", ""},
	"device":   {"a device profile", ""},
	"manifest": {"the manifest of an artifact", ""},
}

// otherKind returns an error, of kind fault.Input, if data is JSON of another schema than want;
// what names the file that is expected.
func otherKind(file string, data []byte, want, what string) error {
	var head struct {
		Schema string `json:"schema"`
	}
	if json.Unmarshal(data, &head) != nil || head.Schema == want || head.Schema == "" {
		return nil
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(head.Schema, "afmq."), "/")
	kind, known := fileKinds[name]
	wanted, _, _ := strings.Cut(strings.TrimPrefix(want, "afmq."), "/")
	if !known || name == wanted { // another version
		return fault.Inputf(file, "has schema %q; this version reads %q", head.Schema, want)
	}
	err := fault.Inputf(file, "is %s, not %s", kind.what, what)
	if kind.use != "" {
		return err.WithHint(kind.use, file)
	}
	return err
}

// badBits returns an error about the first layer of a plan whose bits are not a whole number,
// which encoding/json reports without the layer; nil if there is none.
func badBits(file string, data []byte) error {
	var plan struct {
		Layers []struct {
			Name string          `json:"name"`
			Bits json.RawMessage `json:"bits"`
		} `json:"layers"`
	}
	if json.Unmarshal(data, &plan) != nil {
		return nil
	}
	for _, l := range plan.Layers {
		if n := 0; len(l.Bits) > 0 && json.Unmarshal(l.Bits, &n) != nil {
			return fault.Inputf(file, "layer %q: bits is %.40s; %s", l.Name, l.Bits, bitsExpected)
		}
	}
	return nil
}

// bitsExpected says which bits a layer of a plan may have.
var bitsExpected = fmt.Sprintf("it must be a whole number, 1 to 8, or %d to keep the layer unquantized", artifact.KeepBits)
