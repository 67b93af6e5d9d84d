// Command bitcurve measures and plots the quality of a model at several sizes: the divergence
// from the 16-bit model by bits per weight, and the sensitivity of every module. docs/bits.md
// has the results for one model.
//
//	go run ./scripts/bitcurve -model DIR -calib FILE -data FILE -out docs/bits
//
// It writes curve.json, curve.svg and sensitivity.svg into the directory of -out. With
// -heuristics or -group-rows it prints another comparison instead, and -out may be omitted.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"image/color"
	"log"
	"math"
	"os"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/quantize"
	"afmq/pkg/sensitivity"
)

// point is one artifact.
type point struct {
	Series          string  `json:"series"`
	Target          float64 `json:"target"` // requested bits per weight; 0 for the same width everywhere
	BPW             float64 `json:"bpw"`    // of the projections
	Predicted       float64 `json:"predicted"`
	KL              float64 `json:"kl"` // mean, nats per token
	PerplexityRatio float64 `json:"perplexity_ratio"`

	bytes int64 // of model.safetensors
}

// series is one method of choosing bits.
type series struct {
	name       string
	compensate string
	bits       []int
	targets    []float64
	uniform    []int
}

var all = []series{
	{"one width, no compensation", artifact.NoCompensation, nil, nil, []int{2, 3, 4}},
	{"one width, compensated", artifact.GPTQ, nil, nil, []int{2, 3, 4}},
	{"from 2 and 4 bits, no compensation", artifact.NoCompensation, []int{2, 4}, []float64{2.25, 2.5, 2.75, 3, 3.25, 3.5, 3.75, 4}, nil},
	{"from 2 and 4 bits, compensated", artifact.GPTQ, []int{2, 4}, []float64{2.25, 2.5, 2.75, 3, 3.25, 3.5, 3.75, 4}, nil},
	{"from 2, 3 and 4 bits, compensated", artifact.GPTQ, []int{2, 3, 4}, []float64{2.5, 3, 3.5, 4}, nil},
}

type bench struct {
	pool      *compute.Pool
	model     string
	reference *infer.Model
	corpus    *eval.Corpus
	calib     sensitivity.CalibrationOptions
	ctx       int
	dir       string // of artifacts
	scores    *sensitivity.Scores
}

func main() {
	log.SetFlags(0)
	model := flag.String("model", "", "16-bit checkpoint")
	calib := flag.String("calib", "", "calibration text")
	data := flag.String("data", "", "evaluation text")
	out := flag.String("out", "", "directory to write to")
	heuristics := flag.Bool("heuristics", false, "instead, compare simpler methods of allocation at 3.5 bits per weight, without compensation")
	groups := flag.Bool("group-rows", false, "instead, compare groups of 8, 16 and 32 rows at 4, 3 and 2 bits, compensated")
	seqLen := flag.Int("seq-len", 256, "tokens in a calibration sequence and in a window")
	flag.Parse()
	if *model == "" || *calib == "" || *data == "" || *out == "" && !*heuristics && !*groups {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*model, *calib, *data, *out, *seqLen, *heuristics, *groups); err != nil {
		log.Fatal(err)
	}
}

func run(model, calib, data, out string, seqLen int, heuristics, groups bool) error {
	tmp, err := os.MkdirTemp("", "bitcurve-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	b := &bench{pool: compute.NewPool(0), model: model, ctx: seqLen, dir: tmp}
	b.calib = sensitivity.CalibrationOptions{Files: []string{calib}, SeqLen: seqLen}
	if b.reference, err = infer.Open(context.Background(), model, infer.OpenOptions{Pool: b.pool}); err != nil {
		return err
	}
	if b.corpus, err = eval.ReadCorpus(data, b.reference.Tokenizer, b.reference.Config.Separator()); err != nil {
		return err
	}
	if groups {
		return b.groupRows()
	}
	scored, err := sensitivity.Score(context.Background(), sensitivity.Options{Model: model, Bits: []int{2, 3, 4}, Calibration: b.calib, Pool: b.pool})
	if err != nil {
		return err
	}
	b.scores = scored.Scores
	if heuristics {
		return b.heuristics()
	}
	var points []point
	for _, s := range all {
		for _, bits := range s.uniform {
			p, err := b.measure(quantize.Options{Bits: bits, Compensate: s.compensate})
			if err != nil {
				return err
			}
			p.Series = s.name
			points = append(points, p)
			log.Printf("%+v", p)
		}
		for _, target := range s.targets {
			plan, err := sensitivity.MakePlan(b.scores, sensitivity.PlanOptions{Target: sensitivity.Target{BPW: target}, Bits: s.bits})
			if err != nil {
				return err
			}
			p, err := b.measure(quantize.Options{Plan: plan, Compensate: s.compensate})
			if err != nil {
				return err
			}
			p.Series, p.Target, p.Predicted = s.name, target, plan.Cost
			points = append(points, p)
			log.Printf("%+v", p)
		}
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(points, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "curve.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	if err := drawCurve(points, filepath.Join(out, "curve.svg")); err != nil {
		return err
	}
	return drawSensitivity(b.scores, filepath.Join(out, "sensitivity.svg"))
}

// heuristics prints the divergence of the optimal plan, of ends kept high and of random plans.
func (b *bench) heuristics() error {
	r := sensitivity.PlanOptions{Target: sensitivity.Target{BPW: 3.5}, Bits: []int{2, 4}}
	best, err := sensitivity.MakePlan(b.scores, r)
	if err != nil {
		return err
	}
	ends, random, err := sensitivity.HeuristicPlans(b.scores, r)
	if err != nil {
		return err
	}
	for _, way := range []struct {
		name  string
		plans []*sensitivity.Plan
	}{{"optimum", []*sensitivity.Plan{best}}, {"ends kept high", []*sensitivity.Plan{ends}}, {"random", random}} {
		kl, predicted, least, most := 0.0, 0.0, math.Inf(1), 0.0
		for _, plan := range way.plans {
			p, err := b.measure(quantize.Options{Plan: plan, Compensate: artifact.NoCompensation})
			if err != nil {
				return err
			}
			n := float64(len(way.plans))
			kl, predicted, least, most = kl+p.KL/n, predicted+plan.Cost/n, min(least, p.KL), max(most, p.KL)
		}
		fmt.Printf("%s: mean KL %.5f (%.5f to %.5f), predicted %.5f, %d plans\n", way.name, kl, least, most, predicted, len(way.plans))
	}
	return nil
}

// measure quantizes the model and compares the artifact with the 16-bit model.
func (b *bench) measure(opts quantize.Options) (point, error) {
	ctx := context.Background()
	opts.Model, opts.Out, opts.Pool = b.model, filepath.Join(b.dir, "artifact"), b.pool
	if opts.Compensate == artifact.GPTQ {
		opts.Calibration = b.calib
	}
	defer os.RemoveAll(opts.Out)
	r, err := quantize.Run(ctx, opts)
	if err != nil {
		return point{}, err
	}
	m, err := infer.Open(ctx, opts.Out, infer.OpenOptions{Pool: b.pool})
	if err != nil {
		return point{}, err
	}
	e, err := eval.Score(ctx, m, b.corpus, eval.ScoreOptions{Ctx: b.ctx, Reference: b.reference, Pool: b.pool})
	if err != nil {
		return point{}, err
	}
	return point{BPW: r.BPW.Projections, KL: e.KL.Mean, PerplexityRatio: e.PerplexityRatio, bytes: r.Bytes}, nil
}

// ink has the colors of the series, legible on white and on black.
var ink = []color.Color{
	color.RGBA{0x99, 0x99, 0x99, 0xff}, color.RGBA{0x77, 0x77, 0x33, 0xff}, color.RGBA{0x44, 0x88, 0xcc, 0xff},
	color.RGBA{0xcc, 0x44, 0x33, 0xff}, color.RGBA{0x33, 0x99, 0x66, 0xff},
}

func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.BackgroundColor = color.White
	return p
}

func drawCurve(points []point, path string) error {
	p := newPlot("Divergence by bits per weight", "bits per weight of the projections", "mean KL to the 16-bit model, nats per token")
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Legend.Top = true
	for i, s := range all {
		var xy plotter.XYs
		for _, q := range points {
			if q.Series == s.name {
				xy = append(xy, plotter.XY{X: q.BPW, Y: q.KL})
			}
		}
		line, marks, err := plotter.NewLinePoints(xy)
		if err != nil {
			return err
		}
		line.Color, marks.Color, marks.Shape, line.Width = ink[i], ink[i], draw.CircleGlyph{}, vg.Points(1.2)
		if s.uniform != nil {
			p.Add(marks)
			p.Legend.Add(s.name, marks)
			continue
		}
		p.Add(line, marks)
		p.Legend.Add(s.name, line, marks)
	}
	return p.Save(16*vg.Centimeter, 11*vg.Centimeter, path)
}

func drawSensitivity(s *sensitivity.Scores, path string) error {
	bits := s.Bits[0]
	p := newPlot(fmt.Sprintf("Sensitivity of each module at %d bits", bits), "layer", "predicted KL, nats per token")
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Legend.Top, p.Legend.XOffs = true, 0
	lowest := math.Inf(1)
	for i, kind := range model.Projections() {
		var xy plotter.XYs
		for _, m := range s.Modules {
			layer := 0
			if _, err := fmt.Sscanf(m.Name, "model.layers.%d.", &layer); err != nil {
				return err
			}
			if strings.HasSuffix(m.Name, kind) && m.Costs[0] > 0 {
				xy = append(xy, plotter.XY{X: float64(layer), Y: m.Costs[0]})
				lowest = min(lowest, m.Costs[0])
			}
		}
		line, marks, err := plotter.NewLinePoints(xy)
		if err != nil {
			return err
		}
		c := ink[i%len(ink)]
		line.Color, marks.Color, line.Width = c, c, vg.Points(1.2)
		if i >= len(ink) {
			line.Dashes = []vg.Length{vg.Points(4), vg.Points(2)}
		}
		marks.Shape = draw.CircleGlyph{}
		p.Add(line, marks)
		p.Legend.Add(kind, line, marks)
	}
	p.Y.Min = lowest / 2
	return p.Save(16*vg.Centimeter, 11*vg.Centimeter, path)
}
