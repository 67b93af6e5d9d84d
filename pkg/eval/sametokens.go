package eval

import (
	"slices"
	"strconv"

	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/tokenizer"
)

// checkTokens returns an error unless the tokenizers of the model and of the reference give the
// same tokens for the text. A GGUF file has no tokenizer.json to compare.
func (in *Inputs) checkTokens() error {
	m, r := in.Model, in.Reference
	if r == nil || m.Dir == r.Dir {
		return nil
	}
	other, err := ReadCorpus(in.Corpus.File, r.Tokenizer, r.Config.Separator())
	if err != nil {
		return err
	}
	if other.SHA256 != in.Corpus.SHA256 {
		return fault.Inputf(in.Corpus.File, "was written to or replaced while it was being read")
	}
	return SameTokens(m, in.Corpus, r, other)
}

// SameTokens returns an error of kind [fault.Input] unless two models have the same tokens for a
// text: a are those of m, b those of other, which the error is about. Tokenizers that agree on it
// may differ on other text; [model.SameTokenizer] compares tokenizer.json.
func SameTokens(m *infer.Model, a *Corpus, other *infer.Model, b *Corpus) error {
	if slices.Equal(a.IDs, b.IDs) {
		return nil
	}
	at := 0
	for at < len(a.IDs) && at < len(b.IDs) && a.IDs[at] == b.IDs[at] {
		at++
	}
	return fault.Inputf(other.Dir, "has other tokens for %s than %s: token %d is %s, not %s",
		a.File, m.Dir, at, tokenAt(other.Tokenizer, b.IDs, at), tokenAt(m.Tokenizer, a.IDs, at)).
		WithHint("both models must have one tokenizer; GGUF does not keep normalizers and some rules for spaces, which other text does not use")
}

// tokenAt returns token i of a text, quoted, with its id.
func tokenAt(t *tokenizer.Tokenizer, ids []int32, i int) string {
	if i >= len(ids) {
		return "missing"
	}
	s, _ := t.Token(ids[i])
	return strconv.Quote(s) + " (" + strconv.Itoa(int(ids[i])) + ")"
}
