package sensitivity

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"afmq/internal/calibration"
	"afmq/internal/demo"
	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/tokenizer"
)

// demoText returns the tokenizer and the config of the embedded model.
func demoText(t *testing.T) (*tokenizer.Tokenizer, *model.Config) {
	t.Helper()
	dir := t.TempDir()
	if err := demo.Extract(dir); err != nil {
		t.Fatal(err)
	}
	src, err := artifact.OpenSource(bg, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	return src.Tokenizer, src.Config
}

// The built-in text gives what a .jsonl file of its documents does, and evaluation recognizes
// the file.
func TestBuiltinTextIsThatOfItsFile(t *testing.T) {
	tok, cfg := demoText(t)
	file := filepath.Join(t.TempDir(), "documents.jsonl")
	if err := os.WriteFile(file, calibration.JSONL(), 0o666); err != nil {
		t.Fatal(err)
	}
	read := func(files ...string) *Calibration {
		t.Helper()
		c, err := ReadCalibration(CalibrationOptions{Files: files, SeqLen: 128}, tok, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	got, want := read(BuiltinText), read(file)
	if got.Tokens() != DefaultTokens {
		t.Errorf("%d tokens of the default %d", got.Tokens(), DefaultTokens)
	}
	if got.Record.Builtin != infile.SHA256(calibration.JSONL()) || want.Record.Builtin != "" {
		t.Errorf("builtin is %q, that of the file %q", got.Record.Builtin, want.Record.Builtin)
	}
	got.Record.Builtin = ""
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the built-in text has the record %+v, its file %+v", got.Record, want.Record)
	}

	corpus, err := eval.ReadCorpus(file, tok, cfg.Separator())
	if err != nil {
		t.Fatal(err)
	}
	m := &artifact.Manifest{Calibration: &got.Record}
	if o := eval.FindOverlap(m, corpus); !o.SameFile || o.Passages != o.Of || o.Of < 500 {
		t.Errorf("the file overlaps by %+v", o)
	}
	if r := corpus.Repetition(); r.Passages > 0.002 || r.Phrases > 0.01 {
		t.Errorf("the text repeats itself: %+v", r)
	}

	// With another text it is one of two.
	story := textFile(t, "story.txt", story)
	if both := read(story, BuiltinText).Record; len(both.Files) != 2 || both.Files[1] != both.Builtin {
		t.Errorf("two texts: %+v", both)
	}
	for _, twice := range [][]string{{BuiltinText, BuiltinText}, {BuiltinText, file}} {
		_, err := ReadCalibration(CalibrationOptions{Files: twice}, tok, cfg)
		wantFault(t, err, fault.Usage, "listed twice")
	}
}

// A file of that name is read by its path only.
func TestBuiltinTextAndAFileOfThatName(t *testing.T) {
	tok, cfg := demoText(t)
	t.Chdir(t.TempDir())
	if err := os.WriteFile(BuiltinText, []byte(story), 0o666); err != nil {
		t.Fatal(err)
	}
	for path, builtin := range map[string]bool{BuiltinText: true, "./" + BuiltinText: false} {
		c, err := ReadCalibration(CalibrationOptions{Files: []string{path}, SeqLen: 32}, tok, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if fromFile := slices.Contains(c.Record.Files, infile.SHA256([]byte(story))); fromFile == builtin || (c.Record.Builtin != "") != builtin {
			t.Errorf("%s: the record is %+v", path, c.Record)
		}
	}
}

// A model without an end-of-sequence token refuses files of several texts, but not this one.
func TestBuiltinTextWithoutSeparator(t *testing.T) {
	tok, _ := demoText(t)
	c, err := readCorpus(BuiltinText, tok, -1)
	if err != nil {
		t.Fatal(err)
	}
	text := tok.Decode(c.IDs, false)
	for _, d := range calibration.Documents() {
		if !strings.Contains(text, d.Text) {
			t.Errorf("%s is missing", d.Name)
		}
	}
}

// The scores say whether a text was the built-in one. So a run does not resume the job of one
// that read the same text from a file, but one of its own.
func TestResumeWithBuiltinText(t *testing.T) {
	o := options(t, Hessian, 2, 4)
	o.Model, o.Out = t.TempDir(), filepath.Join(t.TempDir(), "scores.json")
	if err := demo.Extract(o.Model); err != nil {
		t.Fatal(err)
	}
	o.Calibration = CalibrationOptions{Files: []string{BuiltinText}, SeqLen: 32, Tokens: 64}
	interrupt(t, o, 3)
	file := o
	file.Calibration.Files = []string{textFile(t, "documents.jsonl", string(calibration.JSONL()))}
	_, err := Score(bg, file)
	wantFault(t, err, fault.Input, "another job", "calibration_builtin")
	r, err := Score(bg, o)
	if err != nil {
		t.Fatal(err)
	}
	if r.ResumedUnits != 3 || r.Scores.Calibration.Builtin != calibration.SHA256() {
		t.Errorf("%d units resumed, built-in text %q", r.ResumedUnits, r.Scores.Calibration.Builtin)
	}
}
