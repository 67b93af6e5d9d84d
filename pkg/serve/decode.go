package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"
	"time"

	"afmq/pkg/fault"
)

// bodyTime is how long a client may take to send a request.
const bodyTime = time.Minute

// decode reads the JSON object of a request into v. A key that v does not have, a value of another
// type and anything after the object are errors.
func (s *Server) decode(w http.ResponseWriter, r *http.Request, v any) error {
	// A page of another site may send a form or plain text without asking, but no JSON.
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return newError(http.StatusUnsupportedMediaType, "invalid_request_error", "", "unsupported_media_type",
			"the Content-Type is %q; send application/json", r.Header.Get("Content-Type"))
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(s.bodyTime)) // not every connection has deadlines
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.opts.MaxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return err
		}
		return newError(http.StatusRequestTimeout, "invalid_request_error", "", "incomplete_request", "the request could not be read: %v", err)
	}
	_ = control.SetReadDeadline(time.Time{})
	return decodeObject(data, v)
}

func decodeObject(data []byte, v any) error {
	if err := checkKeys(data); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, end := d.Token(); end != io.EOF {
			return invalid("", "the request has text after its JSON object")
		}
		return nil
	}
	var typeError *json.UnmarshalTypeError
	var own *apiError
	var usage *fault.Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &usage): // of a message
		return invalid("messages", "messages: %v", usage)
	case errors.As(err, &typeError) && typeError.Field != "":
		field := typeError.Field
		for _, embedded := range []string{"sampling.", "conversation."} {
			field = strings.TrimPrefix(field, embedded)
		}
		return invalid(field, "%s is %s; expected %s", field, withArticle(typeError.Value), expected(typeError.Type))
	case errors.As(err, &typeError):
		return invalid("", "the request is %s; expected a JSON object", withArticle(typeError.Value))
	case errors.Is(err, io.EOF):
		return invalid("", "the request is empty; expected a JSON object")
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		name = strings.Trim(name, `"`)
		return newError(http.StatusBadRequest, "invalid_request_error", name, "unknown_parameter", "unknown parameter: %q", name)
	}
	return invalid("", "the request is not valid JSON: %v", err)
}

// withArticle returns a description of a JSON value with its article.
func withArticle(value string) string {
	if strings.HasPrefix(value, "array") || strings.HasPrefix(value, "object") {
		return "an " + value
	}
	return "a " + value
}

// expected describes a Go type of a request's field.
func expected(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "an integer"
	case reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "a list"
	}
	return "an object"
}

// checkKeys refuses an object with a key twice, or spelled in another case: encoding/json would take
// the last, and any case.
func checkKeys(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil // decoding says what is wrong
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		key, ok := t.(string)
		if err != nil || !ok {
			return nil
		}
		if key != strings.ToLower(key) {
			return newError(http.StatusBadRequest, "invalid_request_error", key, "unknown_parameter", "unknown parameter: %q", key)
		}
		if seen[key] {
			return invalid(key, "%s is there twice", key)
		}
		seen[key] = true
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil
		}
	}
	return nil
}

// prompts is one text, several texts, the token ids of one prompt, or those of several.
type prompts struct {
	texts []string  // or
	ids   [][]int32 // one of both is set
}

// UnmarshalJSON decodes any of the four forms.
func (p *prompts) UnmarshalJSON(data []byte) error {
	var one string
	var ids []int32
	switch {
	case json.Unmarshal(data, &one) == nil:
		p.texts = []string{one}
	case json.Unmarshal(data, &p.texts) == nil && !nulls(data):
	case json.Unmarshal(data, &ids) == nil && !nulls(data):
		p.texts, p.ids = nil, [][]int32{ids}
	case json.Unmarshal(data, &p.ids) == nil && !nulls(data):
		p.texts = nil
	default:
		return invalid("prompt", "prompt is not a string, a list of strings, a list of token ids or a list of lists of token ids")
	}
	if len(p.texts)+len(p.ids) == 0 {
		return invalid("prompt", "prompt is an empty list")
	}
	return nil
}

// nulls reports whether an array has null where a value is expected, which encoding/json reads as
// nothing.
func nulls(data []byte) bool {
	d := json.NewDecoder(bytes.NewReader(data))
	for {
		t, err := d.Token()
		if err != nil {
			return false
		}
		if t == nil {
			return true
		}
	}
}

// stops is one string or several.
type stops []string

// maxStops is the largest number of strings that stop a text; OpenAI's API allows 4.
const maxStops = 64

// UnmarshalJSON decodes a string, a list of strings, or null.
func (s *stops) UnmarshalJSON(data []byte) error {
	var one string
	switch {
	case string(data) == "null":
		return nil
	case json.Unmarshal(data, &one) == nil:
		*s = stops{one}
	case json.Unmarshal(data, (*[]string)(s)) == nil && !nulls(data):
	default:
		return invalid("stop", "stop is not a string or a list of strings")
	}
	if len(*s) > maxStops {
		return invalid("stop", "stop has %d strings; at most %d are possible", len(*s), maxStops)
	}
	for _, one := range *s {
		if one == "" {
			return invalid("stop", "stop has an empty string")
		}
		if len(one) > maxStopBytes {
			return invalid("stop", "stop has a string of %d bytes; at most %d are possible", len(one), maxStopBytes)
		}
	}
	return nil
}

// maxStopBytes is the largest size of a string that stops a text.
const maxStopBytes = 1024

// between checks that a number is in a range.
func between[T int | int64 | float64](param string, v, least, most T) error {
	if !(v >= least && v <= most) {
		return invalid(param, "%s is %s; expected %s to %s", param, fmt.Sprint(v), fmt.Sprint(least), fmt.Sprint(most))
	}
	return nil
}
