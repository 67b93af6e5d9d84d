package coreai

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	"afmq/pkg/infer"
)

// lengthsBudget is the number of weights times tokens that checkLengths spends: the runtime
// computes about 100 million weights a second in float32.
const lengthsBudget = 4e9

// length is a number of positions and of tokens in a call for which a static program has
// functions.
type length struct{ context, queries int }

// tokens is the number of tokens that the check of its functions computes: a call of prompt_opt,
// one of extend with 8 tokens, and those of extend.
func (l length) tokens() int { return l.queries + 8 + max(16, l.queries) }

func tokensOf(lengths []length) int {
	n := 0
	for _, l := range lengths {
		n += l.tokens()
	}
	return n
}

var extendName = regexp.MustCompile(`^extend_(\d+)_(\d+)$`)

// lengths returns those of a static program's functions that are checked: as many as the budget
// allows for each of the variants, none of a dynamic program.
func (w *workspace) lengths(functions []string, m *infer.Model, variants int) []length {
	budget := int(lengthsBudget / float64(m.ForwardWork()+m.HeadWork()) / float64(variants))
	var out []length
	for _, name := range functions {
		found := extendName.FindStringSubmatch(name)
		if w.Shape != Static || found == nil {
			continue
		}
		var l length
		l.context, _ = strconv.Atoi(found[1])
		l.queries, _ = strconv.Atoi(found[2])
		if l.tokens() <= budget {
			budget -= l.tokens()
			out = append(out, l)
		}
	}
	return out
}

// checkLengths runs the functions of a static program as a host does, on up to 16 tokens: extend
// of each length, and prompt_opt, whose caches an extend of 8 tokens then reads. The logits must
// be within limit of the engine's. The float32 twin is open.
func (w *workspace) checkLengths(ctx context.Context, lengths []length, v variant, ids []int32, want []float32, limit float64, c *Check) error {
	ids = ids[:min(16, len(ids))]
	for _, l := range lengths {
		for _, prefill := range []bool{false, true} {
			first := 0
			if prefill {
				first = min(8, len(ids))
			}
			if first == len(ids) {
				continue // nothing follows that could be compared
			}
			got, err := w.logitsWith(ctx, l, v, ids, first)
			if err != nil {
				return err
			}
			most := largestDifference(got, want[first*w.vocab:len(ids)*w.vocab])
			if !(most <= limit) {
				kind := "extend"
				if prefill {
					kind = "prompt_opt"
				}
				return fmt.Errorf("%s%s_%d_%d: the logits of the Core AI program differ from the engine's by up to %.2g; %.2g is allowed", v.function, kind, l.context, l.queries, most, limit)
			}
			c.MaxLogit = max(c.MaxLogit, most)
			if prefill || l.context != w.Context || l.queries != 8 { // the first check ran that one
				c.Functions++
			}
		}
		w.Progress.Advance(int64(l.tokens()))
	}
	return nil
}

// logitsWith returns the logits of the tokens from first on. Those before are passed to
// prompt_opt, and the rest then to an extend of 8 tokens; if there are none before, all go to the
// extend of the length.
func (w *workspace) logitsWith(ctx context.Context, l length, v variant, ids []int32, first int) ([]float32, error) {
	if _, err := w.bridge.ask(ctx, request{Do: "reset", Context: l.context}); err != nil {
		return nil, err
	}
	r := request{Function: v.function, Context: l.context, Queries: l.queries, IDs: ids}
	if first > 0 {
		r.IDs, r.Prefill = ids[:first], true
		if _, err := w.bridge.logits(ctx, r, w.vocab); err != nil {
			return nil, err
		}
		r = request{Function: v.function, Context: l.context, IDs: ids[first:], Position: first}
	}
	return w.bridge.logits(ctx, r, w.vocab)
}
