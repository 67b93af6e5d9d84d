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

// CheckJSON walks the text once: depth bounded, no key twice in an
// object, keys in lower case (encoding/json matches them in any), no object in a list that
// is empty (it says nothing, and in memory takes far more than two bytes), one value.
func CheckJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	type level struct {
		keys   map[string]bool // nil in an array
		key    bool            // the next token of an object is a key
		listed bool            // it stands in an array
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
					return fmt.Errorf("key %q is given twice", s)
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
		return errors.New("has more text after its object")
	}
	return nil
}
