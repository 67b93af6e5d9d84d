//go:build linux || darwin

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"afmq/cmd/afmq/internal/report"
	"afmq/internal/demo"
	"afmq/internal/infile"
)

// The commands that a report shows make everything again: the artifact and the adapter to the last
// byte, and the figures of the evaluation and of the gate. The options here are unusual ones.
func TestReportedCommandsRepeatTheWork(t *testing.T) {
	t.Parallel()
	first, second := t.TempDir(), t.TempDir()
	for _, dir := range []string{first, second} {
		if err := demo.Extract(filepath.Join(dir, "a model")); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "text.txt"), []byte(sampleText))
	}
	writeFile(t, filepath.Join(first, "train.jsonl"), trainingText())
	writeFile(t, filepath.Join(first, "calib.txt"), []byte(prose(40)+" Calibrated."))
	shell(t, first, `
afmq sensitivity 'a model' --calib calib.txt --tokens 500 --seq-len 32 --seed 3 --method hessian --bits 2,3,4 --group-rows 8 --out scores.json
afmq plan scores.json --bpw 2.8 --bits 2,4 --tie qkv --override 'layers\.0\.mlp=4' --seed 5 --out plan.json
afmq quantize 'a model' --plan plan.json --calib calib.txt --tokens 300 --seq-len 16 --seed 9 --compensate none --out planned
afmq quantize 'a model' --bpw 2.7 --bits 2,3 --method weight --tie gate_up --override 'v_proj$=4' --row-scale=false --calib calib.txt --tokens 300 --seq-len 32 --out art
afmq recover art --teacher 'a model' --data train.jsonl --rank 2 --init plain --init-tokens 512 --loss mix --mix 0.25 --tokens 256 --seq-len 16 --batch-tokens 64 --rate 2e-4 --warmup 0 --weight-decay 0.01 --clip 0 --validation-tokens 64 --seed 4 --targets mlp --out rec
afmq eval-perplexity art --data text.txt --reference 'a model' --protocol stride --ctx 64 --stride 48 --compute f32 --adapter best=rec/rank-2 --max-ppl-increase 900% --json > eval.json
afmq gate art --baseline baseline.json --data text.txt --reference 'a model' --ctx 64 --max-kl 9 --max-bytes 1MB --update --json > gate.json
afmq report art --eval eval.json --gate gate.json --recovery rec --reference 'a model' --sample 'It was' --sample-tokens 4 --out page.html --json > page.json
afmq report planned --scores scores.json --plan plan.json --out planned.html --json > planned.json
`)
	files := map[string]string{} // of the first directory, by digest
	for _, name := range []string{"train.jsonl", "calib.txt", "text.txt"} {
		data, err := os.ReadFile(filepath.Join(first, name))
		if err != nil {
			t.Fatal(err)
		}
		files[infile.SHA256(data)] = filepath.Join(first, name)
	}
	for _, page := range []string{"planned.json", "page.json"} {
		c := reportedCommands(t, filepath.Join(first, page))
		for _, n := range c.Names {
			if path, known := files[n.SHA256]; known {
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				writeFile(t, filepath.Join(second, n.Name), data)
			} else if n.Name != "MODEL" {
				t.Errorf("%s: nothing has the digest of %+v", page, n)
			}
		}
		var script []string
		for _, s := range c.Steps {
			script = append(script, strings.ReplaceAll(s.Command, "MODEL", "'a model'"))
		}
		shell(t, second, strings.Join(script, "\n")+"\nmv report.html "+page+".html\n")
	}
	for _, name := range []string{
		"scores.json", "plan.json", "planned/manifest.json", "planned/model.safetensors", "art/manifest.json", "art/model.safetensors",
		"rec/recovery.json", "rec/rank-2/adapter_model.safetensors", "rec/rank-2/adapter_config.json", "baseline.json",
	} {
		a, errA := os.ReadFile(filepath.Join(first, name))
		b, errB := os.ReadFile(filepath.Join(second, name))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs: %v, %v", name, errA, errB)
		}
	}
	for _, name := range []string{"eval.json", "gate.json"} {
		if a, b := withoutTimes(t, filepath.Join(first, name)), withoutTimes(t, filepath.Join(second, name)); a != b {
			t.Errorf("%s differs:\n%s\n%s", name, a, b)
		}
	}
}

// shell runs a script in dir, in which afmq is the program.
func shell(t *testing.T, dir, script string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sh", "-e", "-c", `afmq() { "$AFMQ" --quiet "$@"; }`+"\n"+script)
	c.Dir, c.Env = dir, append(os.Environ(), asProgram+"=1", "AFMQ="+self)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
}

func reportedCommands(t *testing.T, file string) report.Commands {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var page struct {
		Sections []struct {
			ID   string          `json:"id"`
			Data json.RawMessage `json:"data"`
		} `json:"sections"`
	}
	if err := json.Unmarshal(data, &page); err != nil {
		t.Fatal(err)
	}
	var c report.Commands
	for _, s := range page.Sections {
		if s.ID == "commands" {
			if err := json.Unmarshal(s.Data, &c); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(c.Steps) < 2 {
		t.Fatalf("%s has the commands %+v", file, c)
	}
	return c
}

// withoutTimes returns a JSON object without what every run measures anew.
func withoutTimes(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		t.Fatal(err)
	}
	list, _ := object["adapters"].([]any)
	for _, o := range append(list, object) {
		delete(o.(map[string]any), "seconds")
		delete(o.(map[string]any), "tokens_per_second")
	}
	out, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}
