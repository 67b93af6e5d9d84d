package infer

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/fault"
)

// Greedy generation takes the most likely token of the whole text so far, each
// time computed anew, and what it emits piece by piece is what it returns.
func TestGenerateGreedy(t *testing.T) {
	pool := newPool(t, 2)
	m := openTiny(t, pool)
	prompt := m.Tokenizer.Encode("The old man looked at the sea", true).IDs
	var emitted strings.Builder
	var seen []int32
	g, err := m.Generate(bg, pool, prompt, GenerateOptions{MaxTokens: 24, Emit: func(id int32, text string) {
		emitted.WriteString(text)
		if id >= 0 {
			seen = append(seen, id)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if g.StopReason != "length" || len(g.Tokens) != 24 || g.PromptTokens != len(prompt) {
		t.Errorf("%+v", g)
	}
	ids := slices.Clone(prompt)
	for i, got := range g.Tokens {
		logits := allLogits(m, pool, ids)
		if want := Argmax(logits[(len(ids)-1)*m.Config.VocabSize:]); got != want {
			t.Fatalf("token %d is %d, expected %d", i, got, want)
		}
		ids = append(ids, got)
	}
	if emitted.String() != g.Text || g.Text != m.Tokenizer.Decode(g.Tokens, true) || !slices.Equal(seen, g.Tokens) {
		t.Errorf("emitted %q, returned %q", emitted.String(), g.Text)
	}
}

func TestGenerateStops(t *testing.T) {
	pool := newPool(t, 1)
	m := openTiny(t, pool)
	prompt := m.Tokenizer.Encode("The", true).IDs
	g, err := m.Generate(bg, pool, prompt, GenerateOptions{MaxTokens: 5})
	if err != nil {
		t.Fatal(err)
	}

	// The third token declared an end: the text ends before it.
	ended := *m
	config := *m.Config
	config.EOS = []int32{-5, g.Tokens[2]}
	ended.Config = &config
	e, err := ended.Generate(bg, pool, prompt, GenerateOptions{MaxTokens: 5})
	first := slices.Index(g.Tokens, g.Tokens[2])
	if err != nil || e.StopReason != "eos" || !slices.Equal(e.Tokens, g.Tokens[:first]) {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err = ended.Generate(bg, pool, prompt, GenerateOptions{MaxTokens: 5, IgnoreEOS: true}); err != nil || e.StopReason != "length" {
		t.Errorf("%+v, %v", e, err)
	}

	// A context of four has room for the prompt and what is run of the answer;
	// the last token that is written need not be run.
	short := *m
	config.EOS, config.MaxPositions = nil, 4
	short.Config = &config
	if e, err = short.Generate(bg, pool, prompt, GenerateOptions{MaxTokens: 50}); err != nil || e.StopReason != "context" || len(e.Tokens) != 4-len(prompt)+1 {
		t.Errorf("%+v, %v", e, err)
	}

	stopped, cancel := context.WithCancel(bg)
	cancel()
	if _, err := m.Generate(stopped, pool, prompt, GenerateOptions{MaxTokens: 5}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	for _, bad := range [][]int32{nil, {-1}, {int32(m.Config.VocabSize)}} {
		if _, err := m.Generate(bg, pool, bad, GenerateOptions{MaxTokens: 5}); fault.KindOf(err) != fault.Usage {
			t.Errorf("prompt %v: %v", bad, err)
		}
	}
	if _, err := m.Generate(bg, pool, make([]int32, m.Config.MaxPositions), GenerateOptions{MaxTokens: 5}); fault.KindOf(err) != fault.Infeasible {
		t.Errorf("a prompt as long as the context: %v", err)
	}
	broken := *m
	broken.FinalNorm = slices.Clone(m.FinalNorm)
	broken.FinalNorm[0] = float32(math.Inf(1))
	if _, err := broken.Generate(bg, pool, prompt, GenerateOptions{MaxTokens: 5}); fault.KindOf(err) != fault.Input {
		t.Errorf("logits that are not finite: %v", err)
	}
}
