package eval

import (
	"afmq/pkg/fault"
	"afmq/pkg/tokenizer"
)

// Corpus is a text in tokens.
type Corpus struct {
	File   string  // named in errors
	IDs    []int32 // token ids, [n]
	Bytes  []int32 // UTF-8 bytes of the text that each token encodes, [n]; 0 for an inserted token
	SHA256 string  // of the file, lower-case hex; empty for texts that were not read from a file

	Warnings []string // about the form of the file, one line each, for people
}

// check returns an error unless every id is in a vocabulary of this size and every token has its
// number of bytes.
func (c *Corpus) check(vocab int) error {
	if len(c.Bytes) != len(c.IDs) {
		return fault.Inputf(c.File, "has %d tokens and the bytes of %d", len(c.IDs), len(c.Bytes))
	}
	for i, id := range c.IDs {
		if id < 0 || int(id) >= vocab {
			return fault.Inputf(c.File, "token %d has id %d; the model has a vocabulary of %d", i, id, vocab)
		}
	}
	return nil
}

// ReadCorpus reads a data file with [ReadTexts] and encodes its texts with [EncodeTexts].
// eos is the id of the end-of-sequence token, or -1 for none ([model.Config.Separator]).
// Errors are of kind [fault.Input].
func ReadCorpus(file string, t *tokenizer.Tokenizer, eos int32) (*Corpus, error) {
	texts, sum, err := ReadTexts(file)
	if err != nil {
		return nil, err
	}
	c, err := EncodeTexts(file, texts, t, eos)
	if err != nil {
		return nil, err
	}
	c.SHA256 = sum
	if w := FormWarning(file, texts); w != "" {
		c.Warnings = append(c.Warnings, w)
	}
	return c, nil
}

// EncodeTexts encodes each text on its own, with the special tokens that the tokenizer's
// post-processor adds, and puts the end-of-sequence token eos between texts. eos < 0 means
// that the model has none, which is an error if there is more than one text. file names the
// texts in errors, which are of kind [fault.Input].
func EncodeTexts(file string, texts []string, t *tokenizer.Tokenizer, eos int32) (*Corpus, error) {
	if eos < 0 && len(texts) > 1 {
		return nil, fault.Inputf(file, "the texts are separated by an end-of-sequence token, and the model's config.json names none")
	}
	c := &Corpus{File: file}
	for i, text := range texts {
		if i > 0 {
			c.IDs, c.Bytes = append(c.IDs, eos), append(c.Bytes, 0)
		}
		if most := t.MaxText(); len(text) > most {
			return nil, fault.Inputf(file, "text %d has %d bytes; the tokenizer takes %d at once", i+1, len(text), most).
				WithHint("split the file into several texts, as .jsonl")
		}
		e := t.Encode(text, true)
		c.IDs, c.Bytes = append(c.IDs, e.IDs...), append(c.Bytes, e.Bytes...)
	}
	return c, nil
}
