package sensitivity

import (
	"encoding/json"
	"strings"
	"testing"

	"afmq/pkg/fault"
)

// FuzzOverride checks that an override is refused as usage in one line, or can be written
// and read again; no expression takes more than a moment, or memory without bounds.
func FuzzOverride(f *testing.F) {
	for _, s := range []string{"down_proj=8", `layers\.0\.=2`, "a=b=16", "(=4", "=4", "x=99999999999999999999", "((a{999}){999}){999}=4", "\n=3", "(?i)Q=2"} {
		f.Add(s)
	}
	name := strings.Repeat("model.layers.0.self_attn.q_proj", 8)
	f.Fuzz(func(t *testing.T, s string) {
		o, err := ParseOverride(s)
		if err != nil {
			if fault.KindOf(err) != fault.Usage || strings.Contains(err.Error(), "\n") {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseOverride(o.String())
		if err != nil || again != o {
			t.Fatalf("%+v became %+v: %v", o, again, err)
		}
		re, err := o.compile()
		if err != nil {
			t.Fatal(err)
		}
		re.MatchString(name)
	})
}

// FuzzRecord checks that what is taken from a journal fits the run.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"score":{"unit":0,"costs":[{"module":1,"option":1,"cost":0.5}]}}`))
	f.Add([]byte(`{"score":{"unit":-1,"costs":[{"module":-1,"option":7,"cost":1e308}]}}`))
	f.Add([]byte(`{"item":3}`))
	s := &scorer{modules: make([]module, 2), widths: optionWidths([]int{2, 4}, nil)}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Record
		if json.Unmarshal(data, &r) != nil || r.Score == nil || !s.fits(r.Score.Costs) {
			return
		}
		var costs [2][2]float64
		for _, c := range r.Score.Costs {
			costs[c.Module][c.Option] += c.Cost
		}
	})
}
