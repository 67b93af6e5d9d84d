// Package tokenizer reads the tokenizer.json of a Hugging Face checkpoint and
// turns text into token ids and back, exactly as the official tokenizers library
// does.
package tokenizer

import (
	"os"

	"afmq/internal/fault"
)

// Tokenizer is a pipeline read from a tokenizer.json. It is immutable and safe
// for use by several goroutines.
type Tokenizer struct{}

// Encoding is the result of encoding one text.
type Encoding struct {
	IDs []int32 // token ids, in order
	// Bytes[i] is the number of bytes of the input text that token i stands for,
	// 0 for tokens that the post-processor inserted. It sums to the length of the
	// text unless the pipeline drops text.
	Bytes []int32
}

// Load reads the tokenizer.json at path.
func Load(path string) (*Tokenizer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Reading(path, err)
	}
	return Parse(path, data)
}

// Parse reads a tokenizer.json from memory; name is the file that errors name.
func Parse(name string, data []byte) (*Tokenizer, error) {
	return nil, fault.Inputf(name, "not implemented")
}

// Encode turns text into tokens. With addSpecial it adds the tokens that the
// post-processor of the file puts around a single sequence.
func (t *Tokenizer) Encode(text string, addSpecial bool) Encoding { return Encoding{} }

// Decode turns ids into text; with skipSpecial it leaves out special tokens. Ids
// that name no token are left out.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string { return "" }

// MaxID returns the largest id that Encode can emit, -1 if there is none.
func (t *Tokenizer) MaxID() int32 { return -1 }

// TokenID returns the id of the token whose stored form is s.
func (t *Tokenizer) TokenID(s string) (int32, bool) { return 0, false }

// Token returns the stored form of the token id.
func (t *Tokenizer) Token(id int32) (string, bool) { return "", false }

// BOS returns the id that the post-processor puts before a single sequence.
func (t *Tokenizer) BOS() (int32, bool) { return 0, false }

// Stream decodes tokens one at a time.
type Stream struct{}

// Stream returns a decoder for tokens that arrive one at a time. The concatenation
// of everything Next and Flush return equals Decode of all ids.
func (t *Tokenizer) Stream(skipSpecial bool) *Stream { return &Stream{} }

// Next takes one more token and returns the text that became certain, always
// whole UTF-8 characters.
func (s *Stream) Next(id int32) string { return "" }

// Flush ends the stream and returns the text that was held back.
func (s *Stream) Flush() string { return "" }
