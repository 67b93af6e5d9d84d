package recovery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"afmq/internal/disk"
	"afmq/pkg/adapter"
	"afmq/pkg/fault"
)

// write stores the best and the last state of the adapter of student i. test has the scores
// of trainer.test.
func (r *run) write(t *trainer, i int, test []score) (*AdapterResult, error) {
	s, best, dir := r.students[i], t.Best[i], t.dir
	bestDir, lastDir := adapterDir(s.config.Rank)
	for name, weights := range map[string][]float32{bestDir: best.weights, lastDir: s.weights} {
		if err := dir.Mkdir(name); err != nil {
			return nil, err
		}
		if err := r.writeAdapter(dir.Path(name), s, weights); err != nil {
			return nil, err
		}
	}
	info, err := os.Stat(filepath.Join(dir.Path(bestDir), adapter.WeightsFile))
	if err != nil {
		return nil, err
	}
	params := int64(0)
	for _, spec := range r.base.Config.Tensors() {
		n := int64(1)
		for _, d := range spec.Shape {
			n *= int64(d)
		}
		params += n
	}
	bits := int64(8 * r.opts.stored().Size())
	a := &AdapterResult{
		Rank: s.config.Rank, Path: bestDir, Last: lastDir, Bytes: info.Size(), Params: int64(len(s.weights)), Tokens: t.tokens(t.steps), Step: best.Step,
		ModuleRanks:      r.opts.moduleRanks(s.config),
		WithAdapter:      r.manifest.BPW.Model + float64(bits*int64(len(s.weights)))/float64(params),
		PerplexityBefore: math.Exp(t.Base.Nats), PerplexityInit: math.Exp(t.Initial[i].Nats), PerplexityAfter: math.Exp(best.Score.Nats),
	}
	if r.teacher != nil {
		a.KLBefore, a.KLInit, a.KLAfter = &t.Base.KL, &t.Initial[i].KL, &best.Score.KL
		a.Recovered, a.PerplexityTeacher = recovered(t.Base, best.Score), perplexity(t.Teacher)
	}
	before, after, teacher := test[0], test[1+i], test[len(test)-1]
	a.Test = &TestResult{PerplexityBefore: math.Exp(before.Nats), PerplexityAfter: math.Exp(after.Nats)}
	if r.teacher != nil {
		a.Test.KLBefore, a.Test.KLAfter = &before.KL, &after.KL
		a.Test.Recovered, a.Test.PerplexityTeacher = recovered(before, after), perplexity(teacher)
	}
	return a, nil
}

// recovered returns the share of the divergence that is gone; 0 where there was none.
func recovered(before, after score) *float64 {
	share := 0.0
	if before.KL > 0 {
		share = 1 - after.KL/before.KL
	}
	return &share
}

// writeAdapter stores weights, which have the layout of the student's, in a directory. The
// adapter names the training files and passages of this run and of the adapter that it
// started from.
func (r *run) writeAdapter(dir string, s *student, weights []float32) error {
	a := &adapter.Adapter{Dir: dir, Config: *s.config, Base: r.manifest.ContentHash, Modules: s.values(r.pool, weights)}
	a.Data, a.Passages = r.data.files, r.passages
	if r.from != nil {
		a.Data, a.Passages = adapter.MergeFiles(r.from.Data, r.data.files), adapter.MergePassages(r.from.Passages, r.passages)
	}
	return adapter.Write(a, r.base.Config, r.opts.stored(), disk.WriteFile)
}

// rescue stores the best adapters so far beside the saved state of a run that diverged.
func (r *run) rescue(t *trainer) error {
	for i, s := range r.students {
		name, _ := adapterDir(s.config.Rank)
		dir := t.dir.StatePath(name)
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return fault.Writing(dir, err)
		}
		if err := r.writeAdapter(dir, s, t.Best[i].weights); err != nil {
			return err
		}
	}
	return nil
}

// writeRecord stores the record, the metrics and the plots.
func (r *run) writeRecord(t *trainer, record *Record) error {
	dir := t.dir
	text, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return err
	}
	if err := dir.WriteFile(RecordFile, append(text, '\n')); err != nil {
		return err
	}
	if err := writeMetrics(t.metrics, dir.WriteFile); err != nil {
		return err
	}
	plot, err := lossPlot(t.metrics)
	if err != nil {
		return err
	}
	if err := dir.WriteFile(LossPlot, plot); err != nil {
		return err
	}
	if len(record.Adapters) < 2 || r.teacher == nil {
		return nil
	}
	if plot, err = curvePlot(record.Adapters); err != nil {
		return err
	}
	return dir.WriteFile(CurvePlot, plot)
}

// writeMetrics stores the metrics.
func writeMetrics(metrics []Metric, write func(name string, data []byte) error) error {
	var lines bytes.Buffer
	e := json.NewEncoder(&lines)
	for _, m := range metrics {
		if err := e.Encode(m); err != nil {
			return err
		}
	}
	return write(MetricsFile, lines.Bytes())
}

// adapterDir returns the names of the directories of the best and the last state of a rank.
func adapterDir(rank int) (best, last string) {
	best = fmt.Sprintf("rank-%d", rank)
	return best, best + "-last"
}
