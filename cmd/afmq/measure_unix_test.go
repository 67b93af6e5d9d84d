//go:build linux || darwin

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/progress"
	"afmq/pkg/quantize"
	"afmq/pkg/recovery"
	"afmq/pkg/sensitivity"
)

// predictions is a reporter that compares the time left that each stage shows with the time that
// the stage then takes. Time is the CPU time of the process, which other load does not change.
type predictions struct {
	t      *testing.T
	stage  progress.Stage
	meter  meter
	begun  time.Time
	points []point
}

// point is the time left that is shown at a share of a stage's work.
type point struct {
	share float64
	at    time.Time
	left  time.Duration
}

// cpu returns the CPU time of the process as a time.
func cpu() time.Time {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Unix(0, u.Utime.Nano()+u.Stime.Nano())
}

func (p *predictions) Stage(s progress.Stage) {
	p.Done()
	p.stage, p.begun, p.points = s, cpu(), nil
	p.meter = newMeter(s, p.begun)
}

func (p *predictions) Advance(n int64) {
	p.meter.advance(n, cpu())
	for _, share := range []float64{0.1, 0.25, 0.5} {
		if k := len(p.points); p.meter.share() >= share && (k == 0 || p.points[k-1].share < share) {
			left, _ := p.meter.left(p.meter.last)
			p.points = append(p.points, point{share, p.meter.last, left})
		}
	}
}

func (p *predictions) Status(string) {}
func (p *predictions) Notice(string) {}
func (p *predictions) Saved(string)  {}

// Done prints a line of the table. Stages of less than two seconds are left out.
func (p *predictions) Done() {
	end := cpu()
	if took := end.Sub(p.begun); p.stage.Name != "" && took > 2*time.Second {
		line := fmt.Sprintf("| %s | %.1f s |", p.stage.Name, took.Seconds())
		for _, x := range p.points {
			line += fmt.Sprintf(" %.2f |", x.left.Seconds()/end.Sub(x.at).Seconds())
		}
		p.t.Logf("%s reported %.3f of its work", line, p.meter.share())
	}
	p.stage.Name = ""
}

// TestTimeLeft measures how well the time left is predicted, for every stage of the jobs on a
// checkpoint: the ratio of the predicted to the true time left after 10, 25 and 50 % of the work.
// It needs the directory of a checkpoint in AFMQ_MEASURE_MODEL and a text file in
// AFMQ_MEASURE_TEXT. docs/performance.md has its table.
func TestTimeLeft(t *testing.T) {
	model, text := os.Getenv("AFMQ_MEASURE_MODEL"), os.Getenv("AFMQ_MEASURE_TEXT")
	if model == "" || text == "" {
		t.Skip("AFMQ_MEASURE_MODEL and AFMQ_MEASURE_TEXT are not set")
	}
	dir, ctx := t.TempDir(), context.Background()
	small := filepath.Join(dir, "small.txt")
	data, err := os.ReadFile(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(small, data[:min(len(data), 12000)], 0o666); err != nil {
		t.Fatal(err)
	}
	pool := compute.NewPool(0)
	defer pool.Close()
	calibration := sensitivity.CalibrationOptions{Files: []string{text}, Tokens: 2048}
	score := func(method sensitivity.Method, bits ...int) func(p progress.Reporter) error {
		return func(p progress.Reporter) error {
			c := calibration
			if method == sensitivity.KL {
				c.Tokens = 64
				c.SeqLen = 64
			}
			_, err := sensitivity.Score(ctx, sensitivity.Options{Model: model, Method: method, Bits: bits, Calibration: c, Pool: pool, Progress: p})
			return err
		}
	}
	quantizeTo := func(out string, o quantize.Options) func(p progress.Reporter) error {
		return func(p progress.Reporter) error {
			o.Model, o.Out, o.Pool, o.Progress = model, filepath.Join(dir, out), pool, p
			_, err := quantize.Run(ctx, o)
			return err
		}
	}
	art := filepath.Join(dir, "plain")
	for _, job := range []struct {
		name string
		run  func(p progress.Reporter) error
	}{
		{"quantize --bits 4", quantizeTo("plain", quantize.Options{})},
		{"quantize --bits 8 --row-scale=false", quantizeTo("exact", quantize.Options{Bits: 8, NoRowScale: true})},
		{"quantize --calib", quantizeTo("calib", quantize.Options{Calibration: calibration})},
		{"sensitivity --method fisher", score(sensitivity.Fisher)},
		{"sensitivity --method hessian", score(sensitivity.Hessian)},
		{"sensitivity --method kl", score(sensitivity.KL, 2)},
		{"sensitivity --method weight --bits 3,6", score(sensitivity.Weight, 3, 6)},
		{"verify", func(p progress.Reporter) error {
			_, err := artifact.Verify(ctx, art, artifact.VerifyOptions{Pool: pool, Progress: p})
			return err
		}},
		{"diff", func(p progress.Reporter) error {
			_, err := artifact.Diff(ctx, art, model, artifact.DiffOptions{Pool: pool, Progress: p})
			return err
		}},
		{"dequantize", func(p progress.Reporter) error {
			_, err := quantize.Dequantize(ctx, quantize.DequantizeOptions{Artifact: art, Out: filepath.Join(dir, "dense"), Pool: pool, Progress: p})
			return err
		}},
		{"eval-perplexity --reference", func(p progress.Reporter) error {
			_, err := eval.Run(ctx, eval.Options{Model: art, Reference: model, Data: small, Pool: pool, Progress: p})
			return err
		}},
		{"recover", func(p progress.Reporter) error {
			_, err := recovery.Run(ctx, recovery.Options{
				Artifact: art, Teacher: model, Data: []string{text}, Out: filepath.Join(dir, "adapters"), Ranks: []int{8},
				Tokens: 8192, InitTokens: 2048, Validation: 1024, Pool: pool, Progress: p,
			})
			return err
		}},
	} {
		if only := os.Getenv("AFMQ_MEASURE_JOB"); only != "" && !strings.HasPrefix(job.name, only) {
			continue
		}
		t.Log(job.name)
		p := &predictions{t: t}
		if err := job.run(p); err != nil {
			t.Fatal(err)
		}
		p.Done()
	}
}
