package eval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
)

// textKey is the key of the text in an object of a .jsonl file.
const textKey = "text"

// jsonlTexts returns the text of each line that is not blank.
func jsonlTexts(data []byte) ([]string, error) {
	var texts []string
	line := 0
	for raw := range bytes.Lines(data) {
		line++
		if raw = bytes.TrimSpace(raw); len(raw) == 0 {
			continue
		}
		text, err := lineText(raw)
		if err != nil {
			return nil, fmt.Errorf("line %d %w", line, err)
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// lineText returns the text of one JSON object. encoding/json alone would take "Text" for
// "text", the last of two keys, and U+FFFD for half of a surrogate pair.
func lineText(raw []byte) (string, error) {
	if !json.Valid(raw) {
		return "", fmt.Errorf("is not valid JSON: %v", json.Unmarshal(raw, new(json.RawMessage)))
	}
	if raw[0] != '{' {
		return "", errors.New("is not a JSON object")
	}
	var value []byte
	for key, v := range jsonMembers(raw) {
		switch {
		case key == textKey && value != nil:
			return "", fmt.Errorf("has a duplicate key %q", textKey)
		case key == textKey:
			value = v
		case strings.EqualFold(key, textKey):
			return "", fmt.Errorf("has the key %q, which differs from %q in case", key, textKey)
		}
	}
	if value == nil {
		return "", fmt.Errorf("has no key %q%s", textKey, otherKeys(raw))
	}
	if value[0] != '"' {
		return "", fmt.Errorf("has a %q that is not a string", textKey)
	}
	if s := loneSurrogate(value); s != "" {
		return "", fmt.Errorf("has the lone surrogate %s in its text, which encodes no character", s)
	}
	var text string
	err := json.Unmarshal(value, &text)
	return text, err
}

// otherKeys names the keys of a JSON object, at most three, for the error of a missing one.
func otherKeys(object []byte) string {
	var keys []string
	for key := range jsonMembers(object) {
		if len(keys) == 3 {
			return "; it has " + strings.Join(keys, ", ") + " and others"
		}
		keys = append(keys, fmt.Sprintf("%.40q", key))
	}
	if len(keys) == 0 {
		return ""
	}
	return "; it has " + strings.Join(keys, ", ")
}

// jsonMembers returns the keys and raw values of a valid JSON object, including duplicates.
func jsonMembers(object []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		rest := skipSpace(object[1:])
		for rest[0] == '"' {
			n := valueLen(rest)
			key := rest[1 : n-1]
			name := string(key)
			if bytes.IndexByte(key, '\\') >= 0 {
				_ = json.Unmarshal(rest[:n], &name) // cannot fail: the object is valid
			}
			rest = skipSpace(skipSpace(rest[n:])[1:]) // after the colon
			n = valueLen(rest)
			if !yield(name, rest[:n]) {
				return
			}
			if rest = skipSpace(rest[n:]); rest[0] == ',' {
				rest = skipSpace(rest[1:])
			}
		}
	}
}

func skipSpace(data []byte) []byte { return bytes.TrimLeft(data, " \t\r\n") }

// valueLen returns the length of the valid JSON value at the start of data.
func valueLen(data []byte) int {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth == 0 {
				return i // the end of the object around a number or a literal
			}
			depth--
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return len(data)
}

// loneSurrogate returns the first escape \uXXXX of a valid JSON string that is half of a
// UTF-16 surrogate pair without the other half; empty if there is none.
func loneSurrogate(s []byte) string {
	for i := bytes.IndexByte(s, '\\'); i >= 0 && i < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		high, ok := unicodeEscape(s[i:])
		if !ok {
			i++ // the escaped character may be a backslash
			continue
		}
		if high < 0xd800 || high > 0xdfff {
			i += 5
			continue
		}
		low, ok := unicodeEscape(s[i+6:])
		if high > 0xdbff || !ok || low < 0xdc00 || low > 0xdfff {
			return string(s[i : i+6])
		}
		i += 11
	}
	return ""
}

// unicodeEscape reads the escape \uXXXX at the start of s.
func unicodeEscape(s []byte) (uint64, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	u, err := strconv.ParseUint(string(s[2:6]), 16, 16)
	return u, err == nil
}
