package lmeval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// members are the members of a JSON object. Their names are exact: encoding/json would match
// them in any case.
type members map[string]json.RawMessage

// parseObject parses a JSON object. A name that occurs twice is an error.
func parseObject(data []byte) (members, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	tok, err := d.Token()
	if err != nil {
		return nil, notJSON(err)
	}
	if tok != json.Delim('{') {
		return nil, errors.New("is not a JSON object")
	}
	m := members{}
	for d.More() {
		tok, err := d.Token()
		if err != nil {
			return nil, notJSON(err)
		}
		name := tok.(string) // the decoder allows nothing else here
		if _, twice := m[name]; twice {
			return nil, fmt.Errorf("has the key %.80q twice", name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, notJSON(err)
		}
		m[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, notJSON(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("has data after the JSON object")
	}
	return m, nil
}

func notJSON(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("is not valid JSON: it ends too early")
	}
	return fmt.Errorf("is not valid JSON: %w", err)
}

// object returns the object of a key; nil where the key is absent or null.
func (m members) object(key string) (members, error) {
	raw := m[key]
	if raw == nil || string(raw) == "null" {
		return nil, nil
	}
	o, err := parseObject(raw)
	if err != nil {
		return nil, fmt.Errorf("%.80q %w", key, err)
	}
	return o, nil
}

// text returns the string of a key; "" where it is absent or of another type.
func (m members) text(key string) string {
	var s string
	if json.Unmarshal(m[key], &s) != nil {
		return ""
	}
	return s
}

// number returns the number of a key, or of a boolean 0 or 1.
func number(raw json.RawMessage) (float64, bool) {
	switch string(raw) {
	case "true":
		return 1, true
	case "false":
		return 0, true
	case "null", "":
		return 0, false
	}
	var x float64
	err := json.Unmarshal(raw, &x) // refuses what is not finite
	return x, err == nil
}

// compact returns a value in a form in which equal values are equal. Spaces, the order of keys
// and the form of numbers do not count.
func compact(raw json.RawMessage) string {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return string(raw)
	}
	out, err := json.Marshal(v)
	if err != nil {
		return string(raw)
	}
	return string(out)
}

// withoutNaN returns data with null in place of NaN and the infinities, which Python's json writes
// and JSON does not have.
func withoutNaN(data []byte) []byte {
	if !bytes.Contains(data, []byte("NaN")) && !bytes.Contains(data, []byte("Infinity")) {
		return data
	}
	out := make([]byte, 0, len(data))
	inString := false
	for i := 0; i < len(data); {
		c := data[i]
		switch {
		case inString && c == '\\' && i+1 < len(data):
			out = append(out, c, data[i+1])
			i += 2
			continue
		case c == '"':
			inString = !inString
		case !inString:
			word := ""
			for _, w := range []string{"NaN", "Infinity", "-Infinity"} {
				if bytes.HasPrefix(data[i:], []byte(w)) {
					word = w
				}
			}
			if word != "" {
				out = append(out, "null"...)
				i += len(word)
				continue
			}
		}
		out = append(out, c)
		i++
	}
	return out
}
