package recovery

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/safetensors"
)

// The saved state is one file, which replaces its predecessor as a whole: tensors with every
// student's values, and in the metadata the training state as JSON and a digest. The journal
// beside it holds the metrics, which are only appended to.
const (
	stateFile = "recovery.safetensors"
	stateKey  = "training_state"
	digestKey = "digest" // of the state and the metrics; see trainer.digest
)

// journalEntry is the metrics of the steps after From up to To.
type journalEntry struct {
	From    int64    `json:"from"`
	To      int64    `json:"to"`
	Metrics []Metric `json:"metrics"`
}

// stateTensors lists what the state holds of each student, in order.
func (t *trainer) stateTensors() (infos []safetensors.Info, values []*[]float32) {
	for i, l := range t.students {
		s := l.state()
		add := func(what string, v *[]float32) {
			infos = append(infos, safetensors.Info{Name: s.name + "." + what, DType: safetensors.F32, Shape: []int{len(s.weights)}})
			values = append(values, v)
		}
		add("weights", &s.weights)
		add("m", &s.m)
		add("v", &s.v)
		add("best", &t.Best[i].weights)
	}
	return infos, values
}

// save writes the state to disk and returns once it would survive a crash.
func (t *trainer) save() error {
	began := time.Now()
	journal, err := t.dir.Journal()
	if err != nil {
		return err
	}
	if err := journal.Append(journalEntry{t.saved, t.Step, t.metrics[t.kept:]}); err != nil {
		return err
	}
	t.recordMade()
	state, err := json.Marshal(t.trainingState)
	if err != nil {
		return err
	}
	digest, err := t.digest(string(state))
	if err != nil {
		return err
	}
	infos, values := t.stateTensors()
	w, err := safetensors.Create(t.dir.StatePath(stateFile), infos, map[string]string{stateKey: string(state), digestKey: digest})
	if err != nil {
		return err
	}
	for _, v := range values {
		data, err := binary.Append(nil, binary.LittleEndian, *v)
		if err == nil {
			err = w.Append(data)
		}
		if err != nil {
			w.Abort()
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	t.saved, t.kept, t.savedAt = t.Step, len(t.metrics), time.Now()
	t.saveTime = t.savedAt.Sub(began)
	t.reportSaved()
	return nil
}

// recordMade notes that this process made the steps since the last saved state.
func (t *trainer) recordMade() {
	if t.Step == t.saved {
		return
	}
	m := Made{From: t.saved, To: t.Step, By: "afmq", Compute: t.opts.Compute.String(), Kernels: compute.KernelClass(t.opts.Compute)}
	if n := len(t.Made); n > 0 {
		last := t.Made[n-1]
		m.From = last.From
		if last.To = m.To; last == m {
			t.Made[n-1] = m
			return
		}
		m.From = t.saved
	}
	t.Made = append(t.Made, m)
}

// restore reads what an interrupted run of the same job saved, and reports whether there was
// anything.
func (t *trainer) restore() (bool, error) {
	path := t.dir.StatePath(stateFile)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	state, digest, err := t.readState(path)
	if err == nil {
		err = t.readMetrics(path)
	}
	if err == nil {
		err = t.checkDigest(path, state, digest)
	}
	if err != nil {
		var fe *fault.Error
		if errors.As(err, &fe) {
			return false, fe.WithHint("--restart discards the state of the interrupted run")
		}
	}
	return err == nil, err
}

// readState reads the saved state and returns its JSON and the digest that it names.
func (t *trainer) readState(path string) (state, digest string, err error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	infos, values := t.stateTensors()
	err = safetensors.Guard(path, func() error {
		for i, info := range infos {
			tensor, ok := f.Tensor(info.Name)
			if !ok || tensor.DType != info.DType || !slices.Equal(tensor.Shape, info.Shape) {
				return fault.Inputf(path, "tensor %q is missing or has another type or shape than this run saves", info.Name)
			}
			// In place where the capacity suffices: the parts' matrices are views of it.
			if v := values[i]; len(*v) != info.Shape[0] {
				*v = make([]float32, info.Shape[0])
			}
			if err := tensor.Float32(*values[i], 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", "", err
	}
	state, digest = f.Metadata()[stateKey], f.Metadata()[digestKey]
	best := t.Best
	t.trainingState = trainingState{}
	if err := json.Unmarshal([]byte(state), &t.trainingState); err != nil {
		return "", "", fault.Inputf(path, "its metadata cannot be read: %v", err)
	}
	if n := len(t.students); t.Step < 0 || t.Step > t.steps || len(t.Best) != n || len(t.Initial) != n {
		return "", "", fault.Inputf(path, "its metadata is not that of this run")
	}
	for i := range best {
		t.Best[i].weights = best[i].weights
		t.validation = t.value(t.Best[i].Score)
	}
	return state, digest, nil
}

// digest returns the hex SHA-256 of all that a run continues from: the training state as
// JSON, the metrics of the steps made and every student's values.
func (t *trainer) digest(state string) (string, error) {
	h := sha256.New()
	e := json.NewEncoder(h)
	if err := e.Encode(state); err != nil {
		return "", err
	}
	if err := e.Encode(t.metrics); err != nil {
		return "", err
	}
	infos, values := t.stateTensors()
	for i, info := range infos {
		if err := e.Encode(info); err != nil {
			return "", err
		}
		if err := binary.Write(h, binary.LittleEndian, *values[i]); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// checkDigest compares what was read with the digest that was saved with it: a value that
// was edited, or damaged on disk, would end up in the published figures and adapters.
func (t *trainer) checkDigest(path, state, digest string) error {
	got, err := t.digest(state)
	if err != nil {
		return err
	}
	if got != digest {
		return fault.Inputf(path, "the state or the journal beside it was changed after the run saved it: SHA-256 %s, expected %s", got, digest)
	}
	return nil
}

// readMetrics collects the metrics up to the saved step.
func (t *trainer) readMetrics(path string) error {
	journal, err := t.dir.Journal()
	if err != nil {
		return err
	}
	metrics, err := journalMetrics(path, journal.Records(), t.Step)
	if err != nil {
		return err
	}
	t.metrics = metrics
	t.saved, t.kept = t.Step, len(t.metrics)
	return nil
}

// journalMetrics returns the metrics of the steps up to the saved one. Entries that a run
// appended after its last saved state are replaced by those of the run that continued from
// it. path is that of the state.
func journalMetrics(path string, records []json.RawMessage, step int64) (metrics []Metric, err error) {
	reached := int64(0)
	for _, r := range records {
		var e journalEntry
		if err := json.Unmarshal(r, &e); err != nil {
			return nil, fault.Inputf(path, "the journal beside it cannot be read: %v", err)
		}
		if e.To > step || e.From > e.To {
			continue
		}
		if i := slices.IndexFunc(metrics, func(m Metric) bool { return m.Step > e.From }); i >= 0 {
			metrics = metrics[:i]
		}
		metrics = append(metrics, e.Metrics...)
		reached = e.To
	}
	if reached != step {
		return nil, fault.Inputf(path, "is of step %d, and the journal beside it ends at %d", step, reached)
	}
	return metrics, nil
}
