package report

import (
	"strings"
	"testing"

	"afmq/pkg/fault"
	"afmq/pkg/infer"
)

// The first word that differs is found by hand.
func TestFirstDifferentWord(t *testing.T) {
	for _, c := range []struct {
		source, text, same, word, rest string
		tokens, want                   []int32
		agree                          int
	}{
		{"the old man sat", "the old men sat", "the old ", "men", " sat", []int32{1, 2, 3, 4}, []int32{1, 2, 9, 4}, 2},
		{"the old man", "a young man", "", "a", " young man", []int32{5}, []int32{1}, 0},
		{"the old man", "the old man", "the old man", "", "", []int32{1, 2, 3}, []int32{1, 2, 3}, 3},
		{"the old man sat", "the old", "the ", "old", "", []int32{1, 2}, []int32{1, 2, 3, 4}, 2},
		{"the old man sat", "the old ", "the old ", endMark, "", []int32{1, 2}, []int32{1, 2, 3, 4}, 2},
		{"", "man", "", "man", "", []int32{1}, nil, 0},
		{"man", "", "", endMark, "", nil, []int32{1}, 0},
		{"a Käse", "a Kuchen", "a ", "Kuchen", "", nil, nil, 0},
		{"a \u4e2d\u6587", "a \u4e2e\u6587", "a ", "\u4e2e\u6587", "", nil, nil, 0},
		{"line one\ntwo", "line one two", "line one", "two", "", nil, nil, 0},
	} {
		got := Continuation{Text: c.text, Same: c.text}
		got.compare(c.source, c.tokens, c.want)
		same := c.same
		if c.word == "two" { // the space before the word belongs to what is the same or to the rest
			same = "line one "
		}
		if got.Same != same || got.Word != c.word || got.Rest != c.rest || got.Agree != c.agree || got.Equal != (c.source == c.text) {
			t.Errorf("%q after %q: %+v", c.text, c.source, got)
		}
	}
}

// The samples are those that the models generate on their own.
func TestSamples(t *testing.T) {
	o := everything(t)
	r, page := mustMake(t, o)
	d := section[*Samples](t, r, "samples")
	if len(d.Prompts) != 2 || d.Tokens != 6 {
		t.Fatalf("the samples are %+v", d)
	}
	for i, dir := range []string{in("model"), in("mixed")} {
		m, err := infer.Open(bg, dir, infer.OpenOptions{Pool: pool})
		if err != nil {
			t.Fatal(err)
		}
		for j, prompt := range o.Samples.Prompts {
			g, err := m.Generate(bg, m.Tokenizer.Encode(prompt, true).IDs, infer.GenerateOptions{MaxTokens: 6, Pool: pool})
			if err != nil {
				t.Fatal(err)
			}
			if c := d.Prompts[j].Continuations[i]; c.Text != showText(g.Text) || c.Tokens != len(g.Tokens) {
				t.Errorf("%s continues %q as %q, the sample is %+v", dir, prompt, g.Text, c)
			}
		}
	}
	c := d.Prompts[0].Continuations
	if len(c) != 3 || c[0].Model != "source" || c[1].Model != "artifact" || !strings.HasSuffix(c[2].Model, "recovered/rank-8") || !c[0].Equal || c[2].Text != c[1].Text {
		t.Errorf("the continuations are %+v", c) // the adapter's B·A is zero
	}
	if strings.Count(page, "<mark>") == 0 {
		t.Error("no word is marked")
	}
}

func TestWrongSamples(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"is not that of": func(o *Options) { o.Reference = in("stranger") },
		"none":           func(o *Options) { o.Reference = in("none") },
		"has no tokens":  func(o *Options) { o.Samples.Prompts = []string{""} },
	} {
		o := Options{Artifact: in("mixed"), Reference: in("model"), Samples: SampleOptions{Tokens: 2}}
		change(&o)
		_, err := Make(bg, pool, o)
		if err == nil || fault.KindOf(err) == fault.Unexpected || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected %q", err, want)
		}
	}
}
