package report

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"afmq/pkg/gate"
)

// The headline has the numbers of the JSON object, rounded.
func TestHeadline(t *testing.T) {
	o := everything(t)
	dir := t.TempDir()
	o.Evals = []string{writeEval(t, dir, "e.json", in("mixed"), 3.55, 0.05, func(e map[string]any) {
		e["kl_interval"], e["loss_rise_interval"] = interval(0.05, 0.004), interval(0.05, 0.02)
		a := figures(3.49, 0.02, 1000)
		a["name"], a["path"], a["identity"], a["kl_interval"] = "rank-8", "r", adapterIdentity(), interval(0.02, 0.003)
		e["adapters"] = []any{a}
	})}
	r, page := mustMake(t, o)
	s := section[*Summary](t, r, "summary")
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		BPW struct {
			Projections, Model float64
		}
		Bytes      int64
		Evaluation struct{ Perplexity float64 }
		Interval   gate.Interval `json:"kl_interval"`
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("mixed takes %.2f KiB, down from 2.03 MiB: %.3f bits per weight in projections, %.3f in the whole model;", float64(d.Bytes)/1024, d.BPW.Projections, d.BPW.Model),
		fmt.Sprintf("its perplexity is %.3f, 5.13 %% above the source's %.3f,", d.Evaluation.Perplexity, math.Exp(3.5)), // e^0.05 = 1.05127
		fmt.Sprintf("0.05000 ± %.5f nats per token (95 %% interval over 40 windows).", (d.Interval.High-d.Interval.Low)/2),
		fmt.Sprintf("With adapter rank-8, 8.79 KiB more, the perplexity is %.3f, 1.00 %% below the source's, and the divergence is 0.02000 ± 0.00300.", math.Exp(3.49)), // 9000 bytes, e^-0.01
	} {
		if !strings.Contains(s.Headline, want) {
			t.Errorf("the headline is %q, without %q", s.Headline, want)
		}
	}
	if !strings.Contains(page, `<p class="headline">mixed takes`) {
		t.Error("the page has no headline")
	}
}
