package stage

import (
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/fault"
)

func TestDifferenceNamesOptions(t *testing.T) {
	hash := func(c string) string { return strings.Repeat(c, 64) }
	names := []Name{
		{"bits", "--bits"}, {"text", "--calib"}, {"text.files", "the text of --calib"}, {"text.tokens", "--tokens"},
		{"request.bits", "--bits"}, {"compute", "--compute"}, {"source", "the checkpoint"}, {"modules.*", "the width of"},
	}
	text := func(digest, files string, tokens string) string {
		return `"text":{"digest":"` + digest + `","files":["` + files + `"],"tokens":` + tokens + `}`
	}
	for name, c := range map[string]struct{ old, now, want string }{
		"one":          {`{"bits":4}`, `{"bits":2}`, "--bits was 4 and is now 2"},
		"a string":     {`{"compute":"f32"}`, `{"compute":"bf16"}`, "--compute was f32 and is now bf16"},
		"two":          {`{"bits":4,"compute":"f32"}`, `{"bits":2,"compute":"i16"}`, "--bits was 4 and is now 2; --compute was f32 and is now i16"},
		"not a digest": {"{" + text(hash("a"), hash("b"), "1536") + "}", "{" + text(hash("c"), hash("b"), "1024") + "}", "--tokens was 1536 and is now 1024"},
		"other text":   {"{" + text(hash("a"), hash("b"), "1536") + "}", "{" + text(hash("c"), hash("d"), "1536") + "}", "the text of --calib has other content"},
		"no text":      {"{" + text(hash("a"), hash("b"), "1536") + "}", `{"text":null}`, "--calib was given and is now none"},
		"new text":     {`{}`, "{" + text(hash("a"), hash("b"), "1536") + "}", "--calib was none and is now given"},
		"one flag":     {`{"bits":4,"request":{"bits":[2]}}`, `{"bits":2,"request":{"bits":[4]}}`, "--bits was 4 and is now 2"},
		"an input":     {`{"source":"` + hash("a") + `"}`, `{"source":"` + hash("b") + `"}`, "the checkpoint has other content"},
		"both":         {"{" + text(hash("a"), hash("b"), "1536") + "}", "{" + text(hash("c"), hash("d"), "512") + "}", "the text of --calib has other content; --tokens was 1536 and is now 512"},
		"a module":     {`{"modules":{"a.b":"4 bit","c":"4 bit"}}`, `{"modules":{"a.b":"4 bit","c":"8 bit"}}`, "the width of c was 4 bit and is now 8 bit"},
		"all modules":  {`{"bits":4,"modules":{"c":"4 bit"}}`, `{"bits":8,"modules":{"c":"8 bit"}}`, "--bits was 4 and is now 8"},
		"encoding":     {`{"bits":4}`, `{"bits": 4}`, "their descriptions have equal values in different encodings"},
		"no name":      {`{"version":"1"}`, `{"version":"2"}`, `version was "1" and is now "2"`},
	} {
		if got := Difference([]byte(c.old), []byte(c.now), names); got != c.want {
			t.Errorf("%s: %s; expected %s", name, got, c.want)
		}
	}
}

func TestStateOfAnotherCommand(t *testing.T) {
	target := filepath.Join(t.TempDir(), "t")
	d, err := Open(target, []byte(`{"job":"recover/v3","bits":4}`), Options{})
	must(t, err)
	must(t, d.WriteFile("f0", []byte("x")))
	j, err := d.Journal()
	must(t, err)
	must(t, j.Append(1))
	must(t, d.Keep())
	_, err = Open(target, []byte(`{"job":"quantize/v2","bits":4}`), Options{})
	if fault.KindOf(err) != fault.Input || !strings.HasSuffix(err.Error(), "holds the state of an interrupted `afmq recover`") {
		t.Errorf("the state of another command: %v", err)
	}
	_, err = Open(target, []byte(`{"job":"recover/v4","bits":4}`), Options{})
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), `job was "recover/v3" and is now "recover/v4"`) {
		t.Errorf("the state of another version: %v", err)
	}
}
