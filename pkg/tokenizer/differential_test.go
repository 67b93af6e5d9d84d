package tokenizer

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"time"
)

// differential is one line of a file of cases written by scripts/check_tokenizer.py. A line
// with a tokenizer applies to the lines after it.
type differential struct {
	Tokenizer string
	Data      json.RawMessage // the tokenizer itself, instead of a file
	Text      *string
	IDs, Full []int32 // without and with special tokens; Full may be absent
	Seconds   float64 // time of the library for IDs, if it was measured
	Decode    []int32
	Want      string
	Skip      bool
}

// TestDifferential compares with the official library on the cases in the file named by
// AFMQ_TOKENIZER_CASES.
func TestDifferential(t *testing.T) {
	file := os.Getenv("AFMQ_TOKENIZER_CASES")
	if file == "" {
		t.Skip("AFMQ_TOKENIZER_CASES is not set; see scripts/check_tokenizer.py")
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var (
		tok                       *Tokenizer
		name                      string
		texts, decodes, different int
	)
	report := func() {
		if tok != nil {
			t.Logf("%s: %d texts, %d decodes, %d differ", name, texts, decodes, different)
		}
		texts, decodes, different = 0, 0, 0
	}
	differs := func(format string, args ...any) {
		if different++; different <= 10 {
			t.Errorf(name+": "+format, args...)
		}
	}
	for dec := json.NewDecoder(f); ; {
		var c differential
		if err := dec.Decode(&c); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		switch {
		case c.Tokenizer != "":
			report()
			name = c.Tokenizer
			if c.Data != nil {
				tok, err = Parse(name, c.Data)
			} else {
				tok, err = Load(name)
			}
			if err != nil {
				t.Fatal(err)
			}
		case c.Text != nil:
			texts++
			start := time.Now()
			e := tok.Encode(*c.Text, false)
			took := time.Since(start).Seconds()
			if !slices.Equal(e.IDs, c.IDs) {
				i := 0
				for i < len(e.IDs) && i < len(c.IDs) && e.IDs[i] == c.IDs[i] {
					i++
				}
				differs("%.200q differs at token %d: %v, want %v", *c.Text, i, clip(e.IDs, i), clip(c.IDs, i))
			}
			if c.Full != nil && !slices.Equal(tok.Encode(*c.Text, true).IDs, c.Full) {
				differs("%.200q differs with special tokens", *c.Text)
			}
			if c.Seconds > 0 {
				mb := float64(len(*c.Text)) / 1e6
				t.Logf("%s: %.2f MB, %d tokens: %.1f MB/s, the library %.1f MB/s, ratio %.2f",
					name, mb, len(e.IDs), mb/took, mb/c.Seconds, c.Seconds/took)
			}
		default:
			decodes++
			if got := tok.Decode(c.Decode, c.Skip); got != c.Want {
				differs("decode of %v (skip %v) = %q, want %q", c.Decode, c.Skip, got, c.Want)
			}
		}
	}
	report()
}

// clip returns some ids around i.
func clip(ids []int32, i int) []int32 {
	return ids[max(0, min(i-2, len(ids))):min(i+8, len(ids))]
}
