package infile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxJSONDepth bounds the nesting of the files that this program writes and reads.
const maxJSONDepth = 8

// CheckJSON returns an error unless data is one JSON value of bounded depth in which every key
// is in lower case (encoding/json ignores case) and unique in its object, and no list has an
// empty object, which in memory takes far more than its two bytes.
func CheckJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	type level struct {
		keys   map[string]bool // nil in an array
		key    bool            // the next token of an object is a key
		listed bool            // it is an element of an array
	}
	var stack []level
	for {
		tok, err := d.Token()
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("not valid JSON: %v", err)
		}
		top := len(stack) - 1
		if top >= 0 && stack[top].key {
			if s, ok := tok.(string); ok {
				if s != strings.ToLower(s) {
					return fmt.Errorf("unknown key %q", s)
				}
				if stack[top].keys[s] {
					return fmt.Errorf("duplicate key %q", s)
				}
				stack[top].keys[s] = true
				stack[top].key = false
				continue
			}
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			if len(stack) == maxJSONDepth {
				return fmt.Errorf("nested deeper than %d", maxJSONDepth)
			}
			l := level{listed: top >= 0 && stack[top].keys == nil}
			if tok == json.Delim('{') {
				l.keys, l.key = map[string]bool{}, true
			}
			stack = append(stack, l)
			continue
		case json.Delim('}'), json.Delim(']'):
			if l := stack[top]; l.listed && l.keys != nil && len(l.keys) == 0 {
				return errors.New("an object in a list is empty")
			}
			stack = stack[:top]
		}
		if len(stack) == 0 {
			break
		}
		if top = len(stack) - 1; stack[top].keys != nil {
			stack[top].key = true
		}
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("has trailing data after the JSON object")
	}
	return nil
}

// DigestJSON returns the SHA-256 of v as JSON. A file that carries the digest of its own content has
// it of the value whose field for the digest is empty.
func DigestJSON(v any) (string, error) {
	data, err := json.Marshal(v)
	return SHA256(data), err
}
