package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"afmq/pkg/fault"
)

// maxNesting is the largest nesting of pipelines. Real files use two levels, and parsing
// scans each level once more.
const maxNesting = 8

// object is a JSON object with its file and its path in the file, for errors. Keys are
// matched exactly and unknown members are ignored, as in the official library.
type object struct {
	file, at string
	members  map[string]json.RawMessage
}

// newObject parses raw as an object; at is its path in the file.
func newObject(file, at string, raw []byte) (*object, error) {
	o := &object{file: file, at: at}
	if trimmed := bytes.TrimLeft(raw, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, o.errorf("is not a JSON object")
	}
	if err := json.Unmarshal(raw, &o.members); err != nil {
		return nil, o.errorf("is not valid JSON: %s", jsonCause(err))
	}
	return o, nil
}

// jsonCause formats an error of encoding/json for an error message.
func jsonCause(err error) string {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Sprintf("%v at byte %d", err, syntax.Offset)
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return "unexpected " + kind.Value
	}
	return err.Error()
}

func (o *object) errorf(format string, args ...any) error {
	msg := fmt.Sprintf(format, args...)
	if o.at != "" {
		msg = o.at + " " + msg
	}
	return fault.Inputf(o.file, "%s", msg)
}

// path returns the path of member key of o.
func (o *object) path(key string) string {
	if o.at == "" {
		return key
	}
	return o.at + "." + key
}

// has reports whether key is present and not null.
func (o *object) has(key string) bool {
	raw, ok := o.members[key]
	return ok && !bytes.Equal(bytes.TrimSpace(raw), []byte("null"))
}

// get decodes the required member key into v.
func (o *object) get(key string, v any) error {
	if !o.has(key) {
		return o.errorf("lacks %q", key)
	}
	if err := json.Unmarshal(o.members[key], v); err != nil {
		return o.errorf("has an invalid %q: %s", key, jsonCause(err))
	}
	return nil
}

func (o *object) str(key string) (s string, err error)   { return s, o.get(key, &s) }
func (o *object) boolean(key string) (b bool, err error) { return b, o.get(key, &b) }

// optStr returns the member key, or "" if it is missing or null.
func (o *object) optStr(key string) (string, error) {
	if !o.has(key) {
		return "", nil
	}
	return o.str(key)
}

// optBool returns the member key, or def if it is missing or null.
func (o *object) optBool(key string, def bool) (bool, error) {
	if !o.has(key) {
		return def, nil
	}
	return o.boolean(key)
}

// char returns the member key, which must hold exactly one character.
func (o *object) char(key string) (rune, error) {
	s, err := o.str(key)
	if err != nil {
		return 0, err
	}
	r, n := utf8.DecodeRuneInString(s)
	if s == "" || n != len(s) {
		return 0, o.errorf("has an invalid %q: %q is not one character", key, s)
	}
	return r, nil
}

// object returns the required member key as an object.
func (o *object) object(key string) (*object, error) {
	if !o.has(key) {
		return nil, o.errorf("lacks %q", key)
	}
	return newObject(o.file, o.path(key), o.members[key])
}

// objects returns the required member key as a list of at most most objects. The list is
// limited because a parsed object takes many times the memory of its text.
func (o *object) objects(key string, most int) ([]*object, error) {
	var raws []json.RawMessage
	if err := o.get(key, &raws); err != nil {
		return nil, err
	}
	if len(raws) > most {
		return nil, o.errorf("is not supported: %q has %d entries", key, len(raws))
	}
	list := make([]*object, len(raws))
	for i, raw := range raws {
		var err error
		if list[i], err = newObject(o.file, fmt.Sprintf("%s[%d]", o.path(key), i), raw); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// literal returns the String of a {"String": s} pattern; isRegex is true, and s
// the expression, for {"Regex": s}.
func (o *object) literal(key string) (s string, isRegex bool, err error) {
	p, err := o.object(key)
	if err != nil {
		return "", false, err
	}
	if p.has("Regex") {
		s, err = p.str("Regex")
		return s, true, err
	}
	s, err = p.str("String")
	return s, false, err
}

// id reads a token id: a non-negative integer that fits an int32.
func (o *object) id(what string, raw []byte) (int32, error) {
	n, err := strconv.ParseUint(string(bytes.TrimSpace(raw)), 10, 31)
	if err != nil {
		return 0, o.errorf("assigns %s the id %.40s, which is not an integer from 0 to %d", what, raw, 1<<31-1)
	}
	return int32(n), nil
}

// checkText refuses invalid UTF-8 and unpaired surrogate escapes. encoding/json would
// replace both by U+FFFD, which could make two different tokens equal.
func checkText(file string, data []byte) error {
	if !utf8.Valid(data) {
		return fault.Inputf(file, "is not valid UTF-8")
	}
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		if i++; i >= len(data) || data[i] != 'u' {
			continue
		}
		hi := hex4(data, i+1)
		if hi < 0xd800 || hi > 0xdfff {
			continue
		}
		if hi < 0xdc00 && i+6 < len(data) && data[i+5] == '\\' && data[i+6] == 'u' {
			if lo := hex4(data, i+7); lo >= 0xdc00 && lo <= 0xdfff {
				i += 10
				continue
			}
		}
		return fault.Inputf(file, "has an unpaired surrogate escape at byte %d", i-1)
	}
	return nil
}

// hex4 returns the value of the four hexadecimal digits at i, -1 if there are none.
func hex4(data []byte, i int) int {
	if i+4 > len(data) {
		return -1
	}
	n, err := strconv.ParseUint(string(data[i:i+4]), 16, 16)
	if err != nil {
		return -1
	}
	return int(n)
}

// quote quotes a token for an error message, truncated to fit a line.
func quote(s string) string {
	if utf8.RuneCountInString(s) > 40 {
		s = string([]rune(s)[:40]) + "…"
	}
	return strconv.Quote(s)
}
