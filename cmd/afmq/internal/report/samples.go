package report

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/recovery"
)

// DefaultSampleTokens is the length of a sample continuation.
const DefaultSampleTokens = 40

// SampleOptions choose the sample continuations, which need Options.Reference.
type SampleOptions struct {
	Prompts []string // nil for defaultPrompts
	Tokens  int      // of a continuation, at most; 0 for DefaultSampleTokens
}

// stageSamples is the stage of the sample continuations of one model.
const stageSamples = "continue the sample prompts"

// defaultPrompts begin texts of different kinds.
var defaultPrompts = []string{"Once upon a time", "The main reason for this is", "When he opened the door, he saw"}

// builtIn reports whether the prompts are those of the program.
func (o *SampleOptions) builtIn() bool { return slices.Equal(o.Prompts, defaultPrompts) }

// Samples are continuations of the same prompts by the source, the artifact, and the artifact with
// adapters: always the most likely token, in f32.
type Samples struct {
	Tokens  int      `json:"max_tokens"`
	Prompts []Sample `json:"prompts"`
}

// Sample is a prompt with its continuations, that of the source first.
type Sample struct {
	Prompt        string         `json:"prompt"`
	Continuations []Continuation `json:"continuations"`
}

// Continuation is the text of one model. The text of a model other than the source is Same up to
// the first word that differs, Word, and Rest.
type Continuation struct {
	Model  string `json:"model"` // "source", "artifact", or "adapter" and its directory
	Text   string `json:"text"`
	Tokens int    `json:"tokens"`
	Agree  int    `json:"same_tokens"` // tokens before the first that differs from the source's
	Equal  bool   `json:"equal"`       // to the source's

	Same, Word, Rest string `json:"-"`
}

// readSamples generates the samples. One model is in memory at a time.
func (s *sources) readSamples(ctx context.Context, pool *compute.Pool) error {
	o := &s.opts.Samples
	if s.opts.Reference == "" {
		return nil
	}
	if o.Tokens == 0 {
		o.Tokens = DefaultSampleTokens
	}
	if len(o.Prompts) == 0 {
		o.Prompts = defaultPrompts
	}
	if artifact.IsArtifact(s.opts.Reference) {
		return fault.Inputf(s.opts.Reference, "is an afmq artifact").WithHint("--reference takes the checkpoint that was quantized")
	}
	adapters := s.sampledAdapters()
	stages := []string{artifact.StageHash, infer.StageLoad, stageSamples, infer.StageLoad, stageSamples}
	for range adapters {
		stages = append(stages, stageSamples)
	}
	p := progress.Begin(s.opts.Progress, stages...)
	defer p.Done()
	if err := s.art.manifest.IsSource(ctx, pool, s.opts.Reference, p); err != nil {
		return err
	}
	if err := model.SameTokenizer(s.opts.Artifact, s.opts.Reference); err != nil {
		return err
	}
	d := &Samples{Tokens: o.Tokens, Prompts: make([]Sample, len(o.Prompts))}
	for i, prompt := range o.Prompts {
		d.Prompts[i].Prompt = showText(prompt)
	}
	open := infer.OpenOptions{Pool: pool, Progress: p}
	source, err := infer.Open(ctx, s.opts.Reference, open)
	if err != nil {
		return err
	}
	tokens, err := d.add(ctx, pool, p, source, "source", o, nil)
	if err != nil {
		return err
	}
	source = nil // its memory is that of the artifact now
	base, err := infer.Open(ctx, s.opts.Artifact, open)
	if err != nil {
		return err
	}
	if _, err := d.add(ctx, pool, p, base, "artifact", o, tokens); err != nil {
		return err
	}
	for _, dir := range adapters {
		a, err := base.OpenAdapter(dir, false)
		if err != nil {
			return err
		}
		if _, err := d.add(ctx, pool, p, base.WithAdapter(a), "adapter "+show(dir), o, tokens); err != nil {
			return err
		}
	}
	s.samples = d
	return nil
}

// sampledAdapters returns the directory of the best adapter of each recovery run.
func (s *sources) sampledAdapters() []string {
	var out []string
	for _, r := range s.runs {
		best := 0
		for i := range r.record.Adapters {
			if remaining(&r.record.Adapters[i]) < remaining(&r.record.Adapters[best]) {
				best = i
			}
		}
		out = append(out, filepath.Join(r.dir, r.record.Adapters[best].Path))
	}
	return out
}

// remaining is the loss of a model with an adapter, comparable within a run: the divergence or,
// without a teacher, the perplexity; on the test text, if there is one.
func remaining(a *recovery.AdapterResult) float64 {
	switch t := a.Test; {
	case t != nil && t.KLAfter != nil:
		return *t.KLAfter
	case t != nil:
		return t.PerplexityAfter
	case a.KLAfter != nil:
		return *a.KLAfter
	}
	return a.PerplexityAfter
}

// add continues all prompts with a model and compares the continuations with those of the source,
// which are tokens; nil for those of the source itself. It returns the tokens of all prompts.
func (d *Samples) add(ctx context.Context, pool *compute.Pool, p progress.Reporter, m *infer.Model, name string, o *SampleOptions, tokens [][]int32) ([][]int32, error) {
	p.Stage(progress.Stage{Name: stageSamples, Work: int64(len(o.Prompts))})
	var out [][]int32
	for i, prompt := range o.Prompts {
		if most := m.Tokenizer.MaxText(); len(prompt) > most {
			return nil, fault.Usagef("a sample prompt has %d bytes; the tokenizer encodes at most %d at once", len(prompt), most)
		}
		ids := m.Tokenizer.Encode(prompt, true).IDs
		g, err := m.Generate(ctx, ids, infer.GenerateOptions{MaxTokens: o.Tokens, Pool: pool})
		if err != nil {
			return nil, fmt.Errorf("continuing %.40q: %w", prompt, err)
		}
		p.Advance(1)
		c := Continuation{Model: name, Text: showText(g.Text), Tokens: len(g.Tokens)}
		c.Same = c.Text
		if tokens != nil {
			c.compare(d.Prompts[i].Continuations[0].Text, g.Tokens, tokens[i])
		} else {
			c.Agree, c.Equal = len(g.Tokens), true
		}
		d.Prompts[i].Continuations = append(d.Prompts[i].Continuations, c)
		out = append(out, g.Tokens)
	}
	return out, nil
}

// endMark stands for the word at which a text ends before the source's.
const endMark = "[end]"

// compare finds the first word that differs from the source's text.
func (c *Continuation) compare(source string, tokens, want []int32) {
	for c.Agree < min(len(tokens), len(want)) && tokens[c.Agree] == want[c.Agree] {
		c.Agree++
	}
	if c.Equal = c.Text == source; c.Equal {
		return
	}
	at := 0
	for at < min(len(c.Text), len(source)) && c.Text[at] == source[at] {
		at++
	}
	for at > 0 && at < len(c.Text) && !utf8.RuneStart(c.Text[at]) {
		at--
	}
	start := strings.LastIndexFunc(c.Text[:at], unicode.IsSpace) + 1
	if at < min(len(c.Text), len(source)) && unicode.IsSpace(rune(c.Text[at])) && unicode.IsSpace(rune(source[at])) {
		start = at // the same word, before a space and a line feed
	}
	for start < len(c.Text) && unicode.IsSpace(rune(c.Text[start])) {
		start++
	}
	end := len(c.Text)
	if n := strings.IndexFunc(c.Text[start:], unicode.IsSpace); n >= 0 {
		end = start + n
	}
	c.Same, c.Word, c.Rest = c.Text[:start], c.Text[start:end], c.Text[end:]
	if c.Word == "" {
		c.Word = endMark
	}
}

// showText is show for text of several lines.
func showText(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = show(lines[i])
	}
	return strings.Join(lines, "\n")
}

func (s *sources) sampleTexts() (any, error) {
	if s.samples == nil {
		return nil, nil
	}
	return s.samples, nil
}
