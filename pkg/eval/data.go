package eval

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"afmq/internal/infile"
	"afmq/pkg/fault"
	"afmq/pkg/tokenizer"
)

// Corpus is a text as a model reads it.
type Corpus struct {
	File  string
	IDs   []int32
	Bytes []int32 // bytes of the text that each token stands for; 0 for inserted ones

	SHA256 string // hex, of the file; empty for texts from elsewhere
}

// ReadCorpus reads a data file and encodes it. A ".jsonl" file has one object
// with a "text" member a line, encoded as by [EncodeTexts]. Any other file is one
// text, encoded once, with what the tokenizer's own post-processor adds.
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
	return c, nil
}

// ReadTexts reads the texts of a data file: of a ".jsonl" file the "text" member of the
// object on each line, of any other file the whole. It returns the hex SHA-256 of the
// file too, which is of the bytes that the texts are from.
func ReadTexts(file string) (texts []string, sum string, err error) {
	data, err := infile.Read(file, maxTextBytes)
	if err != nil {
		return nil, "", err
	}
	if texts, err = parseTexts(file, data); err != nil {
		return nil, "", err
	}
	digest := sha256.Sum256(data)
	return texts, hex.EncodeToString(digest[:]), nil
}

// maxTextBytes bounds a file of text, which is held in memory whole.
const maxTextBytes = 8 << 30

func parseTexts(file string, data []byte) ([]string, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fault.Inputf(file, "holds no text")
	}
	if err := checkText(data); err != nil {
		return nil, fault.Inputf(file, "%v", err)
	}
	if !strings.EqualFold(filepath.Ext(file), ".jsonl") {
		return []string{string(data)}, nil
	}
	texts, err := jsonTexts(data)
	if err != nil {
		return nil, fault.Inputf(file, "%v", err)
	}
	return texts, nil
}

// EncodeTexts encodes each text alone, with what the tokenizer's post-processor
// adds, and joins them with end-of-sequence tokens. eos < 0 means that there is
// none, which is an error if there is more than one text.
func EncodeTexts(file string, texts []string, t *tokenizer.Tokenizer, eos int32) (*Corpus, error) {
	if eos < 0 && len(texts) > 1 {
		return nil, fault.Inputf(file, "its texts are separated by an end-of-sequence token, and the model's config.json names none")
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

// jsonTexts returns the text of each line.
func jsonTexts(data []byte) ([]string, error) {
	var texts []string
	line := 0
	for raw := range bytes.Lines(data) {
		line++
		if len(bytes.TrimSpace(raw)) == 0 {
			continue
		}
		var record struct {
			Text *string `json:"text"`
		}
		if err := json.Unmarshal(raw, &record); err != nil {
			return nil, fmt.Errorf("line %d is not a JSON object with a text: %v", line, err)
		}
		if record.Text == nil {
			return nil, fmt.Errorf("line %d has no \"text\"", line)
		}
		texts = append(texts, *record.Text)
	}
	return texts, nil
}

// checkText refuses what is not text at all: a figure from a file of another
// kind would look like any other figure.
func checkText(data []byte) error {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n <= 1 {
			return fmt.Errorf("is not UTF-8 text: invalid byte 0x%02x at offset %d", data[i], i)
		}
		i += n
	}
	return nil
}
