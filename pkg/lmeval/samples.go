package lmeval

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"afmq/internal/infile"
	"afmq/pkg/fault"
)

// Limits of a file of samples.
const (
	maxSampleLine = 64 << 20
	maxSamples    = 16 << 30
)

// samples are the results of the items of one task.
type samples struct {
	file    string
	filters map[string]map[int64]*sample // by filter and doc_id
}

// sample is the result of one item under one filter.
type sample struct {
	hashes  [3]string          // of the item, the prompt and the right answer
	values  map[string]float64 // of the metrics that are one number
	choices int                // to choose from; 0 unless the task is multiple choice
}

// hashKeys are the keys of sample.hashes.
var hashKeys = [3]string{"doc_hash", "prompt_hash", "target_hash"}

// read returns the samples of a task, nil where it has none. It checks that they are the items and
// the answers that the results summarize.
func (r *Results) read(t *Task) (*samples, error) {
	if t.Samples == "" {
		return nil, nil
	}
	if s := r.samples[t.Name]; s != nil {
		return s, nil
	}
	s, hash, err := readSamples(t.Samples, t.outputType == "multiple_choice")
	if err != nil {
		return nil, err
	}
	if t.hash != "" && hash != t.hash {
		return nil, fault.Inputf(t.Samples, "has other items than the run in %s: the hash of all is %.16s…, task_hashes.%s is %.16s…", r.File, hash, t.Name, t.hash).
			WithHint("keep the files of a run together; one was cut off or replaced")
	}
	if err := s.checkMeans(r.File, t); err != nil {
		return nil, err
	}
	r.samples[t.Name] = s
	return s, nil
}

// readSamples reads a file of samples, and returns with them the hash of all its items.
func readSamples(file string, choice bool) (*samples, string, error) {
	f, info, err := infile.Open(file)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	if info.Size() > maxSamples {
		return nil, "", fault.Inputf(file, "has %d bytes; the limit is %d", info.Size(), int64(maxSamples))
	}
	s := &samples{file: file, filters: map[string]map[int64]*sample{}}
	all := sha256.New()
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, maxSampleLine)
	line := 0
	for scan.Scan() {
		line++
		if len(scan.Bytes()) == 0 {
			continue
		}
		item, err := s.add(scan.Bytes(), choice)
		if err != nil {
			return nil, "", fault.Inputf(file, "line %d %v", line, err).
				WithHint("expected samples_TASK_DATE.jsonl, which lm_eval writes with --log_samples")
		}
		for _, h := range item.hashes {
			all.Write([]byte(h))
		}
	}
	if err := scan.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return nil, "", fault.Inputf(file, "line %d has more than %d bytes", line+1, maxSampleLine)
		}
		return nil, "", fault.Reading(file, err)
	}
	return s, hex.EncodeToString(all.Sum(nil)), nil
}

// add parses a line and adds its sample.
func (s *samples) add(line []byte, choice bool) (*sample, error) {
	m, err := parseObject(withoutNaN(line))
	if err != nil {
		return nil, err
	}
	id, ok := number(m["doc_id"])
	if !ok || id != math.Trunc(id) || id < 0 || id > 1<<53 {
		return nil, errors.New("has no doc_id that is a whole number")
	}
	item := &sample{values: map[string]float64{}}
	for i, key := range hashKeys {
		if item.hashes[i] = m.text(key); !infile.IsSHA256(item.hashes[i]) {
			return nil, fmt.Errorf("has no %s that is a SHA-256", key)
		}
	}
	var names []string
	if json.Unmarshal(m["metrics"], &names) != nil || m["metrics"] == nil {
		return nil, errors.New("has no list of metrics")
	}
	for _, name := range names {
		if x, ok := number(m[name]); ok {
			item.values[name] = x
		}
	}
	// The mutual information of a choice is computed from a second answer for each.
	if choice && !slices.Contains(names, "acc_mutual_info") {
		var answers []json.RawMessage
		if json.Unmarshal(m["filtered_resps"], &answers) == nil {
			item.choices = len(answers)
		}
	}
	filter := m.text("filter")
	if filter == "" {
		return nil, errors.New("has no filter")
	}
	if s.filters[filter] == nil {
		s.filters[filter] = map[int64]*sample{}
	}
	if s.filters[filter][int64(id)] != nil {
		return nil, fmt.Errorf("is the second of doc_id %d with filter %.40q", int64(id), filter)
	}
	s.filters[filter][int64(id)] = item
	return item, nil
}

// checkMeans returns an error unless the items give the scores of the results.
func (s *samples) checkMeans(results string, t *Task) error {
	for _, m := range t.Metrics {
		items := s.filters[m.Filter]
		if len(items) == 0 {
			return fault.Inputf(s.file, "has no items with filter %q, which %s has scores of", m.Filter, results)
		}
		if t.Items > 0 && len(items) != t.Items {
			return fault.Inputf(s.file, "has %d items; %s has scores of %d", len(items), results, t.Items)
		}
		if !t.means[m.Name] {
			continue
		}
		sum, n := 0.0, 0
		for _, item := range items {
			if x, ok := item.values[m.Name]; ok {
				sum += x
				n++
			}
		}
		if mean := sum / float64(n); n > 0 && !(math.Abs(mean-m.Value) <= 1e-6*max(1, math.Abs(m.Value))) {
			return fault.Inputf(s.file, "gives %s %.6g; %s has %.6g: the two are of different runs", m.Name, mean, results, m.Value).
				WithHint("keep the files of a run together; one was cut off or replaced")
		}
	}
	return nil
}

// chance returns the score of guessing: the mean of one over the number of choices. It returns nil
// for other tasks than multiple choice.
func (s *samples) chance(m Metric) *float64 {
	if s == nil || m.Name != "acc" && m.Name != "acc_norm" && m.Name != "acc_bytes" {
		return nil
	}
	sum, items := 0.0, s.filters[m.Filter]
	for _, item := range items {
		if item.choices < 2 {
			return nil
		}
		sum += 1 / float64(item.choices)
	}
	if len(items) == 0 {
		return nil
	}
	mean := sum / float64(len(items))
	return &mean
}
