package sensitivity

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"

	"afmq/internal/calibration"
	"afmq/pkg/artifact"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/tokenizer"
)

// DefaultTokens is the default number of calibration tokens. Error compensation needs at
// least 8 k.
const DefaultTokens = 16 << 10

// BuiltinText in [CalibrationOptions.Files] stands for the text in this program: 82 short
// documents, about 110 KB, of prose, dialogue, code, mathematics, French, German and Spanish.
// It is for users without text of their own. Text that resembles the model's future input
// gives better artifacts; docs/quality.md has a comparison. The path "./builtin" names a file.
const BuiltinText = "builtin"

// CalibrationOptions say which tokens a model is calibrated on.
type CalibrationOptions struct {
	Files  []string // plain text, or .jsonl with one {"text"} per line, as in eval.ReadCorpus; or BuiltinText
	SeqLen int      // tokens per sequence; 0 for min(512, max_position_embeddings)
	Tokens int      // upper bound of the number of tokens; 0 for DefaultTokens
	Seed   int64    // of the selection of sequences
}

// Calibration is the text that a model is calibrated on, as token ids.
type Calibration struct {
	Sequences [][]int32 // each of SeqLen tokens, or a single shorter one
	Record    artifact.CalibrationRecord
	Warnings  []string // one line each, for people
}

// Tokens returns the number of tokens.
func (c *Calibration) Tokens() int { return c.Record.Tokens }

// Check fills in the defaults that depend on the model. Errors are fault.Usage.
func (o *CalibrationOptions) Check(cfg *model.Config) error {
	if o.SeqLen == 0 {
		o.SeqLen = min(512, cfg.MaxPositions)
	}
	if o.Tokens == 0 {
		o.Tokens = DefaultTokens
	}
	switch {
	case len(o.Files) == 0:
		return fault.Usagef("calibration text is missing")
	case o.SeqLen < 2 || o.SeqLen > cfg.MaxPositions:
		return fault.Usagef("calibration sequences of %d tokens; the model supports 2 to %d (max_position_embeddings)", o.SeqLen, cfg.MaxPositions).
			WithHint("give --seq-len %d or less", cfg.MaxPositions)
	case o.Tokens < o.SeqLen:
		return fault.Usagef("a budget of %d calibration tokens is less than one sequence of %d", o.Tokens, o.SeqLen).
			WithHint("give more --tokens, or a smaller --seq-len")
	}
	return nil
}

// ReadCalibration encodes the files, joins their tokens, separated by the end-of-sequence
// token of the model if it has one, and cuts them into sequences of SeqLen. Of these it draws
// as many as the budget allows, without repetition, and returns them in the order of the
// text. It drops an incomplete last sequence unless that is the only one. Text shorter than
// the budget is accepted; [Calibration.Tokens] returns the number of tokens.
//
// The digest is the SHA-256 of the sequence length and the ids of all sequences as
// little-endian 32-bit numbers. Errors are fault.Usage and fault.Input.
func ReadCalibration(o CalibrationOptions, t *tokenizer.Tokenizer, cfg *model.Config) (*Calibration, error) {
	if err := o.Check(cfg); err != nil {
		return nil, err
	}
	c := &Calibration{Record: artifact.CalibrationRecord{SeqLen: o.SeqLen, Seed: o.Seed}}
	var stream []int32
	for i, file := range o.Files {
		corpus, err := readCorpus(file, t, cfg.Separator())
		if err != nil {
			return nil, err
		}
		if slices.Contains(c.Record.Files, corpus.SHA256) {
			return nil, fault.Usagef("calibration file %s is listed twice", file)
		}
		c.Record.Files = append(c.Record.Files, corpus.SHA256)
		if file == BuiltinText {
			c.Record.Builtin = corpus.SHA256
		}
		if eos := cfg.Separator(); i > 0 && eos >= 0 {
			stream = append(stream, eos)
		}
		stream = append(stream, corpus.IDs...)
		c.Warnings = append(c.Warnings, corpus.Warnings...)
	}
	if len(stream) < 2 {
		return nil, fault.Inputf(o.Files[0], "has %d tokens; calibration needs at least 2", len(stream))
	}
	c.Sequences = draw(stream, o)
	h := sha256.New()
	_ = binary.Write(h, binary.LittleEndian, uint32(o.SeqLen)) // a hash returns no error
	for _, s := range c.Sequences {
		c.Record.Tokens += len(s)
		_ = binary.Write(h, binary.LittleEndian, s)
	}
	c.Record.Digest = hex.EncodeToString(h.Sum(nil))
	c.Record.Passages = artifact.Passages(c.Sequences)
	c.warnFewer(o, len(stream))
	return c, nil
}

// readCorpus encodes a file of [CalibrationOptions], with the separator eos between its texts;
// -1 for a model without one. The documents of the built-in text are then joined by blank
// lines.
func readCorpus(file string, t *tokenizer.Tokenizer, eos int32) (*eval.Corpus, error) {
	if file != BuiltinText {
		return eval.ReadCorpus(file, t, eos)
	}
	texts := calibration.Texts()
	if eos < 0 {
		texts = []string{strings.Join(texts, "\n\n")}
	}
	corpus, err := eval.EncodeTexts(file, texts, t, eos)
	if err != nil {
		return nil, err
	}
	corpus.SHA256 = calibration.SHA256()
	return corpus, nil
}

// draw selects the sequences.
func draw(stream []int32, o CalibrationOptions) [][]int32 {
	n := len(stream) / o.SeqLen
	if n == 0 {
		return [][]int32{stream}
	}
	r := rand.New(rand.NewPCG(uint64(o.Seed), 0))
	picks := r.Perm(n)[:min(n, o.Tokens/o.SeqLen)]
	slices.Sort(picks)
	out := make([][]int32, len(picks))
	for i, p := range picks {
		out[i] = stream[p*o.SeqLen : (p+1)*o.SeqLen]
	}
	return out
}
