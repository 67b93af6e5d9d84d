package eval

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"afmq/pkg/fault"
)

// Objects whose text readers of JSON disagree on are refused, with file, line and cause.
func TestReadTextsRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ line, want string }{
		"other case":             {`{"Text": "x"}`, `line 2 has the key "Text", which differs from "text" in case`},
		"upper case beside text": {`{"text": "x", "TEXT": "y"}`, `line 2 has the key "TEXT", which differs from "text" in case`},
		"escaped other case":     {`{"\u0054ext": "x"}`, `line 2 has the key "Text", which differs from "text" in case`},
		"duplicate":              {`{"text": "x", "n": {"text": "z"}, "text": "y"}`, `line 2 has a duplicate key "text"`},
		"escaped duplicate":      {`{"text": "x", "te\u0078t": "y"}`, `line 2 has a duplicate key "text"`},
		"null duplicate":         {`{"text": null, "text": "y"}`, `line 2 has a duplicate key "text"`},
		"high surrogate":         {`{"text": "a\ud800b"}`, `line 2 has the lone surrogate \ud800 in its text`},
		"low surrogate":          {`{"text": "\uDC00"}`, `line 2 has the lone surrogate \uDC00 in its text`},
		"two high surrogates":    {`{"text": "\ud83d\ud83d\ude00"}`, `line 2 has the lone surrogate \ud83d in its text`},
		"high surrogate, letter": {`{"text": "\ud83d\u0041"}`, `line 2 has the lone surrogate \ud83d in its text`},
		"high surrogate, cut":    {`{"text": "\\\ud83d"}`, `line 2 has the lone surrogate \ud83d in its text`},
		"no text":                {`{"txt": "x", "n": {"text": "x"}}`, `line 2 has no key "text"`},
		"null":                   {`{"text": null}`, `line 2 has a "text" that is not a string`},
		"number":                 {`{"text": 5}`, `line 2 has a "text" that is not a string`},
		"object":                 {`{"text": {"text": "x"}}`, `line 2 has a "text" that is not a string`},
		"array":                  {`["text"]`, `line 2 is not a JSON object`},
		"empty object":           {`{}`, `line 2 has no key "text"`},
		"torn":                   {`{"text": "x`, `line 2 is not valid JSON`},
		"two objects":            {`{"text": "x"} {"text": "y"}`, `line 2 is not valid JSON`},
	} {
		path := filepath.Join(t.TempDir(), "a.jsonl")
		if err := os.WriteFile(path, []byte("{\"text\": \"good\"}\n"+tt.line+"\n{\"text\": \"good\"}\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		_, _, err := ReadTexts(path)
		if fault.KindOf(err) != fault.Input || !strings.HasPrefix(err.Error(), path+": "+tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A byte order mark is refused at the start of a file; it would be scored as text. Elsewhere
// U+FEFF is a character of the text.
func TestReadTextsByteOrderMark(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"a.jsonl": "{\"text\": \"x\"}\n", "a.txt": "The old man"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("\xef\xbb\xbf"+content), 0o666); err != nil {
			t.Fatal(err)
		}
		_, _, err := ReadTexts(path)
		if want := path + ": starts with a byte order mark (U+FEFF); remove it"; fault.KindOf(err) != fault.Input || err.Error() != want {
			t.Errorf("%v; want %q", err, want)
		}
	}
	path := filepath.Join(dir, "b.txt")
	if err := os.WriteFile(path, []byte("a\ufeffb"), 0o666); err != nil {
		t.Fatal(err)
	}
	if texts, _, err := ReadTexts(path); err != nil || len(texts) != 1 || texts[0] != "a\ufeffb" {
		t.Errorf("%q, %v", texts, err)
	}
}

// A file that was cut within its last line is told from one whose last line is no JSON.
func TestReadTextsCut(t *testing.T) {
	for content, want := range map[string]string{
		"{\"text\": \"a\"}\n{\"text\": \"b":                   "ends within this line",
		"{\"text\": \"a\"}\n{\"text\": \"b\n":                 "one {\"text\": …} a line",
		"{\"text\": \"a\"}\n{\"txt\": \"b\"}":                 "one {\"text\": …} a line",
		"The old man":                                         "one {\"text\": …} a line",
		"{\"text\": \"a\"}\n{\"txt\": \"b\"}\n{\"text\": \"c": "one {\"text\": …} a line",
	} {
		path := filepath.Join(t.TempDir(), "a.jsonl")
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		_, _, err := ReadTexts(path)
		var f *fault.Error
		if !errors.As(err, &f) || !strings.Contains(f.Hint, want) {
			t.Errorf("%q: %v, hint %q; want %q", content, err, f.Hint, want)
		}
	}
}

// UTF-16 is named as such.
func TestReadTextsUTF16(t *testing.T) {
	for _, content := range []string{"\xff\xfeh\x00i\x00", "\xfe\xff\x00h\x00i"} {
		path := filepath.Join(t.TempDir(), "a.txt")
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		_, _, err := ReadTexts(path)
		if want := path + ": is UTF-16; expected UTF-8"; fault.KindOf(err) != fault.Input || err.Error() != want {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

// A binary file whose bytes are UTF-8 is refused.
func TestReadTextsBinary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model")
	if err := os.WriteFile(path, []byte("GGUF\x03\x00\x00\x00"), 0o666); err != nil {
		t.Fatal(err)
	}
	_, _, err := ReadTexts(path)
	if want := path + ": is not text: NUL byte at offset 5"; fault.KindOf(err) != fault.Input || err.Error() != want {
		t.Errorf("%v; want %q", err, want)
	}
}

// Other keys, escapes and white space do not matter.
func TestReadTextsAccepts(t *testing.T) {
	for line, want := range map[string]string{
		`{"text":"a\u00e9\n"}`: "aé\n",
		`{"id": 7, "meta": {"Text": "x", "text": ["\ud800"]}, "n": [1, "]"], "text": "a", "b": true}`: "a",
		` { "text" : "\ud83d\ude00" , "t\"ext": null } ` + "\r":                                       "😀",
		`{"text": "\\ud800 \\\\ \"\ufffd"}`:                                                           `\ud800 \\ "` + "\ufffd",
		`{"a": -1.5e3, "text": "}{"}`:                                                                 "}{",
		`{"texts": "x", "ext": 1, "text": ""}`:                                                        "",
	} {
		got, err := jsonlTexts([]byte("\n" + line + "\n\n"))
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, %v", line, got, err)
		}
	}
}

// FuzzJSONLTexts checks the reader of .jsonl files against the tokens of encoding/json: each
// line that it accepts has one key "text" and none that differs in case, and its text is
// that string; and any string survives being written by encoding/json.
func FuzzJSONLTexts(f *testing.F) {
	f.Add([]byte("{\"text\": \"a\"}\n\n{\"text\": \"b\", \"n\": [1]}"))
	f.Add([]byte(`{"text": null}`))
	f.Add([]byte(`{"text": "\ud83d\ude00\\", "TEXT": 1}`))
	f.Add([]byte(`{"n": {"text": "\ud800"}, "text": "}"}`))
	f.Add([]byte("\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s := strings.ToValidUTF8(string(data), ""); s != "" {
			line, err := json.Marshal(map[string]any{"text": s, "a": s, s: []string{s}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := jsonlTexts(line)
			if !strings.EqualFold(s, "text") && (err != nil || len(got) != 1 || got[0] != s) {
				t.Fatalf("%s: %q, %v", line, got, err)
			}
		}
		if !utf8.Valid(data) {
			return
		}
		texts, err := jsonlTexts(data)
		if err != nil {
			if strings.Count(err.Error(), "\n") > 0 {
				t.Fatalf("%q", err)
			}
			return
		}
		for _, line := range bytes.Split(data, []byte("\n")) {
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			if len(texts) == 0 || texts[0] != onlyText(t, line) {
				t.Fatalf("%s: %q", line, texts)
			}
			if strings.Contains(texts[0], "\ufffd") && !bytes.Contains(line, []byte("\ufffd")) && !bytes.Contains(bytes.ToLower(line), []byte(`\ufffd`)) {
				t.Fatalf("%s: a character was replaced: %q", line, texts[0])
			}
			texts = texts[1:]
		}
		if len(texts) != 0 {
			t.Fatalf("%d more texts than lines", len(texts))
		}
	})
}

// onlyText returns the value of the key "text" of an object, read token by token.
func onlyText(t *testing.T, line []byte) (text string) {
	d := json.NewDecoder(bytes.NewReader(line))
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		t.Fatalf("%s: %v, %v", line, tok, err)
	}
	found := 0
	for d.More() {
		key, err := d.Token()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		var value any
		if err := d.Decode(&value); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if strings.EqualFold(key.(string), "text") {
			found++
			text, _ = value.(string)
		}
	}
	if found != 1 {
		t.Fatalf("%s: %d keys like text", line, found)
	}
	return text
}
