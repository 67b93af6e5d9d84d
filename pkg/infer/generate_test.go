package infer

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

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
	g, err := m.Generate(bg, prompt, GenerateOptions{Pool: pool, MaxTokens: 24, Emit: func(id int32, text string) {
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

// A model without a tokenizer generates the same tokens, without text.
func TestGenerateWithoutTokenizer(t *testing.T) {
	pool := newPool(t, 1)
	whole := openTiny(t, pool)
	m, err := OpenWeights(bg, tinyModel, OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	prompt := whole.Tokenizer.Encode("The old man", true).IDs
	want, err := whole.Generate(bg, prompt, GenerateOptions{Pool: pool, MaxTokens: 6})
	if err != nil {
		t.Fatal(err)
	}
	var seen []int32
	got, err := m.Generate(bg, prompt, GenerateOptions{Pool: pool, MaxTokens: 6, Emit: func(id int32, text string) {
		seen = append(seen, id)
		if text != "" {
			t.Errorf("token %d has the text %q", id, text)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Tokens, want.Tokens) || !slices.Equal(seen, want.Tokens) || got.Text != "" {
		t.Errorf("generated %v, emitted %v, text %q; want %v without text", got.Tokens, seen, got.Text, want.Tokens)
	}
}

func TestGenerateStops(t *testing.T) {
	pool := newPool(t, 1)
	m := openTiny(t, pool)
	prompt := m.Tokenizer.Encode("The", true).IDs
	g, err := m.Generate(bg, prompt, GenerateOptions{Pool: pool, MaxTokens: 5})
	if err != nil {
		t.Fatal(err)
	}

	// The third token declared an end: the text ends before it.
	ended := *m
	config := *m.Config
	config.EOS = []int32{-5, g.Tokens[2]}
	ended.Config = &config
	e, err := ended.Generate(bg, prompt, GenerateOptions{Pool: pool, MaxTokens: 5})
	first := slices.Index(g.Tokens, g.Tokens[2])
	if err != nil || e.StopReason != "eos" || !slices.Equal(e.Tokens, g.Tokens[:first]) {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err = ended.Generate(bg, prompt, GenerateOptions{Pool: pool, MaxTokens: 5, IgnoreEOS: true}); err != nil || e.StopReason != "length" {
		t.Errorf("%+v, %v", e, err)
	}

	// A context of four has room for the prompt and what is run of the answer;
	// the last token that is written need not be run.
	short := *m
	config.EOS, config.MaxPositions = nil, 4
	short.Config = &config
	if e, err = short.Generate(bg, prompt, GenerateOptions{Pool: pool, MaxTokens: 50}); err != nil || e.StopReason != "context" || len(e.Tokens) != 4-len(prompt)+1 {
		t.Errorf("%+v, %v", e, err)
	}

	stopped, cancel := context.WithCancel(bg)
	cancel()
	if _, err := m.Generate(stopped, prompt, GenerateOptions{Pool: pool, MaxTokens: 5}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	for _, bad := range [][]int32{nil, {-1}, {int32(m.Config.VocabSize)}} {
		if _, err := m.Generate(bg, bad, GenerateOptions{Pool: pool, MaxTokens: 5}); fault.KindOf(err) != fault.Usage {
			t.Errorf("prompt %v: %v", bad, err)
		}
	}
	if _, err := m.Generate(bg, make([]int32, m.Config.MaxPositions), GenerateOptions{Pool: pool, MaxTokens: 5}); fault.KindOf(err) != fault.Infeasible {
		t.Errorf("a prompt as long as the context: %v", err)
	}
	broken := *m
	broken.FinalNorm = slices.Clone(m.FinalNorm)
	broken.FinalNorm[0] = float32(math.Inf(1))
	if _, err := broken.Generate(bg, prompt, GenerateOptions{Pool: pool, MaxTokens: 5}); fault.KindOf(err) != fault.Input {
		t.Errorf("logits that are not finite: %v", err)
	}
}

// The largest number of tokens neither overflows nor allocates a cache for a context that
// no memory holds.
func TestGenerateUnlimited(t *testing.T) {
	pool := newPool(t, 2)
	m := openTiny(t, pool)
	prompt := m.Tokenizer.Encode("The old man", true).IDs
	want, err := m.Generate(bg, prompt, GenerateOptions{Pool: pool, MaxTokens: 40, IgnoreEOS: true})
	if err != nil {
		t.Fatal(err)
	}
	long := *m
	config := *m.Config
	config.MaxPositions = 1 << 30
	long.Config = &config
	for _, n := range []int{math.MaxInt, math.MaxInt - len(prompt), 1 << 40, 0} {
		ctx, cancel := context.WithCancel(bg)
		var got []int32
		_, err := long.Generate(ctx, prompt, GenerateOptions{Pool: pool, MaxTokens: n, IgnoreEOS: true, Emit: func(id int32, _ string) {
			if got = append(got, id); len(got) == len(want.Tokens) {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) || !slices.Equal(got, want.Tokens) {
			t.Errorf("at most %d tokens: %v, %v", n, got, err)
		}
		cancel()
	}
	if g, err := m.Generate(bg, prompt, GenerateOptions{Pool: pool, IgnoreEOS: true}); err != nil || g.StopReason != "context" || len(g.Tokens) != m.Config.MaxPositions-len(prompt)+1 {
		t.Errorf("no limit: %v", err)
	}
	if _, err := m.Generate(bg, prompt, GenerateOptions{Pool: pool, MaxTokens: -1}); fault.KindOf(err) != fault.Usage {
		t.Errorf("-1 tokens: %v", err)
	}
}

// A cache that grows between tokens gives the bits of one that was large enough, with and
// without a sliding window.
func TestCacheGrows(t *testing.T) {
	pool := newPool(t, 2)
	for _, window := range []int{0, 8, 300} {
		var sliding []bool
		if window > 0 {
			sliding = []bool{true, false}
		}
		m, ids := withWindow(t, pool, window, sliding...)
		r := m.NewRunner(pool)
		d := m.Config.HiddenSize
		want := slices.Clone(r.Forward([]Segment{{Cache: m.NewCache(len(ids)), Tokens: ids}}))
		c := m.NewCache(100)
		for at := 0; at < len(ids); {
			if c.Len == c.Capacity() {
				c.Grow(min(len(ids), 2*c.Capacity()))
			}
			n := min(50, len(ids)-at, c.Capacity()-c.Len)
			got := r.Forward([]Segment{{Cache: c, Tokens: ids[at : at+n]}})
			if !slices.Equal(got, want[at*d:(at+n)*d]) {
				t.Fatalf("window %d: tokens %d to %d differ", window, at, at+n)
			}
			at += n
		}
	}
}

// Every piece of text that is emitted is whole characters: the tokens of a byte-level
// vocabulary cut them anywhere.
func TestGenerateEmitsWholeCharacters(t *testing.T) {
	pool := newPool(t, 2)
	m := openTiny(t, pool)
	prompt := m.Tokenizer.Encode("😀 é", true).IDs
	cut := 0
	for seed := range uint64(8) {
		opts := GenerateOptions{Pool: pool, MaxTokens: 200, IgnoreEOS: true, Sampler: Sampler{Temperature: 100}}
		opts.Sampler.Seed(seed)
		var text strings.Builder
		opts.Emit = func(id int32, piece string) {
			if !utf8.ValidString(piece) {
				t.Fatalf("seed %d: token %d gives %q", seed, id, piece)
			}
			text.WriteString(piece)
		}
		g, err := m.Generate(bg, prompt, opts)
		if err != nil {
			t.Fatal(err)
		}
		if text.String() != g.Text || g.Text != m.Tokenizer.Decode(g.Tokens, true) {
			t.Errorf("seed %d: emitted %q, the tokens are %q", seed, text.String(), m.Tokenizer.Decode(g.Tokens, true))
		}
		for _, id := range g.Tokens {
			if strings.Contains(m.Tokenizer.Decode([]int32{id}, true), "\ufffd") {
				cut++
			}
		}
	}
	if cut == 0 {
		t.Error("no token was a part of a character")
	}
}
