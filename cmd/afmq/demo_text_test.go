package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"

	"afmq/internal/demo"
	"afmq/internal/kernel"
	"afmq/pkg/infer"
	"afmq/pkg/progress"
)

// demoTexts are digests of the train.jsonl of `afmq demo`, from which docs/quickstart.md makes
// all of its texts: of the first 16 lines, and of all 160, which the test generates with
// AFMQ_FULL_DEMO in the environment.
var demoTexts = map[int]string{
	16:  "3986de472353d983e530481edd97692c6dbadf0178f9d849275dbc7c1cace201",
	160: "f13284e494e78b4d1a91173237e44a1f564aaa1ccda621b2447b6efb63df912f",
}

// The demo generates the same text at every vector level of every architecture, because it
// computes in f32, which has the same bits at all of them. The level "generic" agrees with them
// within 1e-6 only, which is enough to change a sampled token; its text differs.
func TestDemoTextIsTheSameOnEveryMachine(t *testing.T) {
	if testing.Short() {
		t.Skip("generates the text of the demo once per vector level")
	}
	if os.Getenv(fullDemo) == "" {
		defer func(n int) { demoVolume.trainTexts = n }(demoVolume.trainTexts)
		demoVolume.trainTexts = 16
	}
	want, ok := demoTexts[demoVolume.trainTexts]
	if !ok {
		t.Fatalf("no digest of %d texts is known", demoVolume.trainTexts)
	}
	dir := filepath.Join(t.TempDir(), "model")
	if err := demo.Extract(dir); err != nil {
		t.Fatal(err)
	}
	defer func(level string) {
		if err := kernel.SelectLevel(level); err != nil {
			t.Error(err)
		}
	}(kernel.Level())
	for _, level := range kernel.Levels()[1:] {
		t.Run(level, func(t *testing.T) {
			if err := kernel.SelectLevel(level); err != nil {
				t.Fatal(err)
			}
			a := &app{stdout: io.Discard, stderr: io.Discard, quiet: true}
			a.reporter = newReporter(a.stderr, a.quiet)
			defer a.close()
			m, err := infer.Open(context.Background(), dir, infer.OpenOptions{Pool: a.workers()})
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "train.jsonl")
			if err := writeTraining(context.Background(), a, m, file, progress.Silent); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != want {
				t.Errorf("the text has SHA-256 %x, not %s", sum, want)
			}
		})
	}
}
