package lmeval

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"afmq/internal/infile"
	"afmq/pkg/fault"
)

// maxResults is the size of the largest file of results that is read.
const maxResults = 256 << 20

// Results are the results of one run of lm_eval.
type Results struct {
	File    string // results_DATE.json
	SHA256  string // of the file, lower-case hex
	Version string // of lm_eval; empty where the file does not say
	Tasks   []Task // tasks and groups, by name

	samples map[string]*samples // by task, as far as they were read
}

// Task is a task of a run, or a group of tasks.
type Task struct {
	Name     string
	Subtasks []string // of a group; nil for a task
	Items    int      // that were scored; 0 where the file does not say
	Metrics  []Metric // by name and filter
	Samples  string   // file with the result of every item; empty where there is none

	settings   []setting // what two runs must have in common
	hash       string    // of all items; empty without samples
	outputType string
	means      map[string]bool // metrics that are the mean over the items
}

// Metric is one score of a task.
type Metric struct {
	Name           string
	Filter         string // of the answers, such as strict-match; "none" for none
	Value          float64
	StdErr         *float64 // nil where lm_eval gives none
	HigherIsBetter *bool    // nil where lm_eval does not say
}

// setting is a property of a run on a task.
type setting struct{ key, value string }

// taskKeys are the keys of configs.TASK that two runs must agree in. The others name paths and
// the model.
var taskKeys = []string{
	"output_type", "num_fewshot", "repeats", "doc_to_text", "doc_to_target", "doc_to_choice", "description", "gen_prefix",
	"target_delimiter", "fewshot_delimiter", "generation_kwargs", "filter_list", "dataset_path", "dataset_name",
	"test_split", "validation_split", "fewshot_split",
}

// dated is the end of the name of a file of results.
var dated = regexp.MustCompile(`_(\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}(?:\.\d+)?)\.json$`)

// Read reads the results of one run: a file that lm_eval wrote, or the directory of --output_path.
// A directory with the results of several runs is refused.
func Read(path string) (*Results, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.Reading(path, err)
	}
	if info.IsDir() {
		if path, err = find(path); err != nil {
			return nil, err
		}
	}
	data, err := infile.ReadBounded(path, maxResults)
	if err != nil {
		return nil, err
	}
	r, err := parse(path, data)
	if err != nil {
		return nil, err
	}
	for i := range r.Tasks {
		if t := &r.Tasks[i]; t.Subtasks == nil {
			if t.Samples, err = findSamples(path, t.Name); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// find returns the one file of results in a directory, or in the directories in it: lm_eval makes
// one for each model.
func find(dir string) (string, error) {
	var found []string
	for _, pattern := range []string{"*.json", "*/*.json"} {
		files, err := filepath.Glob(filepath.Join(globQuote(dir), pattern))
		if err != nil {
			return "", fault.Inputf(dir, "cannot be searched: %v", err)
		}
		for _, f := range files {
			if dated.MatchString(filepath.Base(f)) {
				found = append(found, f)
			}
		}
	}
	switch len(found) {
	case 0:
		return "", fault.Inputf(dir, "has no results of lm_eval: no results_DATE.json").
			WithHint("name the directory that lm_eval was given as --output_path, or the file")
	case 1:
		return found[0], nil
	}
	return "", fault.Inputf(dir, "has the results of %d runs: %s and %s", len(found), found[0], found[1]).
		WithHint("name the file of one run")
}

// globQuote quotes a path for a pattern.
func globQuote(path string) string {
	return regexp.MustCompile(`[*?\[\\]`).ReplaceAllStringFunc(path, func(c string) string {
		if c == `\` && filepath.Separator == '\\' {
			return c
		}
		return `\` + c
	})
}

// findSamples returns the file of samples of a task that belongs to a file of results: of the same
// date, or the only one of the task if the file of results has another name. It returns "" where
// there is none.
func findSamples(results, task string) (string, error) {
	if task != filepath.Base(task) || strings.ContainsAny(task, `/\`) {
		return "", nil // no name of a file
	}
	dir := filepath.Dir(results)
	if m := dated.FindStringSubmatch(filepath.Base(results)); m != nil {
		file := filepath.Join(dir, "samples_"+task+"_"+m[1]+".jsonl")
		if _, err := os.Stat(file); err != nil {
			return "", nil
		}
		return file, nil
	}
	files, err := filepath.Glob(filepath.Join(globQuote(dir), "samples_"+globQuote(task)+"_[0-9][0-9][0-9][0-9]-*.jsonl"))
	if err != nil || len(files) == 0 {
		return "", nil
	}
	if len(files) > 1 {
		return "", fault.Inputf(results, "has %d files of samples of task %s beside it, and no date in its name to choose by", len(files), task).
			WithHint("keep the names that lm_eval gave")
	}
	return files[0], nil
}

// parse parses a file of results.
func parse(file string, data []byte) (*Results, error) {
	bad := func(format string, args ...any) (*Results, error) {
		return nil, fault.Inputf(file, format, args...).WithHint("expected results_DATE.json, which lm_eval writes with --output_path")
	}
	top, err := parseObject(withoutNaN(data))
	if err != nil {
		return bad("%v", err)
	}
	results, err := top.object("results")
	if err != nil {
		return bad("%v", err)
	}
	if len(results) == 0 {
		return bad("has no results of lm_eval: the key \"results\" is missing or empty")
	}
	p := &parser{top: top, parts: map[string]members{}}
	for _, key := range []string{"group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "config", "task_hashes"} {
		if p.parts[key], err = top.object(key); err != nil {
			return bad("%v", err)
		}
	}
	r := &Results{File: file, SHA256: infile.SHA256(data), Version: top.text("lm_eval_version"), samples: map[string]*samples{}}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		if !printable(name) {
			return bad("has a task with the name %.80q", name)
		}
		t, err := p.task(name, results)
		if err != nil {
			return bad("%v", err)
		}
		r.Tasks = append(r.Tasks, t)
	}
	return r, nil
}

// printable reports whether a name can stand in a table.
func printable(name string) bool {
	return name != "" && len(name) <= 200 && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar })
}

// parser parses the tasks of a file.
type parser struct {
	top   members
	parts map[string]members
}

func (p *parser) task(name string, results members) (Task, error) {
	t := Task{Name: name, means: map[string]bool{}}
	values, err := results.object(name)
	if err != nil {
		return t, fmt.Errorf("results: %w", err)
	}
	if json.Unmarshal(p.parts["group_subtasks"][name], &t.Subtasks) != nil || len(t.Subtasks) == 0 {
		t.Subtasks = nil
	}
	config, err := p.parts["configs"].object(name)
	if err != nil {
		return t, fmt.Errorf("configs: %w", err)
	}
	t.outputType = config.text("output_type")
	if t.Items, err = p.items(name, values); err != nil {
		return t, err
	}
	if hash := p.parts["task_hashes"].text(name); hash != "" {
		if t.hash = hash; !infile.IsSHA256(hash) {
			return t, fmt.Errorf("task_hashes: that of %s is no SHA-256", name)
		}
	}
	if t.Metrics, err = p.metrics(name, values); err != nil {
		return t, err
	}
	t.settings = p.settings(name, config)
	t.means = means(config["metric_list"])
	return t, nil
}

// maxItems bounds the items of a task.
const maxItems = 1 << 30

// items returns the number of items that were scored.
func (p *parser) items(name string, values members) (int, error) {
	raw := values["sample_len"]
	if counts, err := p.parts["n-samples"].object(name); err != nil {
		return 0, fmt.Errorf("n-samples: %w", err)
	} else if counts != nil {
		raw = counts["effective"]
	}
	if raw == nil || string(raw) == "null" {
		return 0, nil
	}
	n, ok := number(raw)
	if !ok || n != math.Trunc(n) || n < 0 || n > maxItems {
		return 0, fmt.Errorf("n-samples: %.40q is not a number of items of %s", raw, name)
	}
	return int(n), nil
}

// metrics returns the scores of a task: the keys METRIC,FILTER.
func (p *parser) metrics(task string, values members) ([]Metric, error) {
	higher, err := p.parts["higher_is_better"].object(task)
	if err != nil {
		return nil, fmt.Errorf("higher_is_better: %w", err)
	}
	var out []Metric
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name, filter, found := strings.Cut(key, ",")
		if !found || strings.HasSuffix(name, "_stderr") {
			continue
		}
		if !printable(name) || !printable(filter) {
			return nil, fmt.Errorf("results.%s has a metric with the name %.80q", task, key)
		}
		m := Metric{Name: name, Filter: filter}
		var ok bool
		if m.Value, ok = number(values[key]); !ok {
			return nil, fmt.Errorf("results.%s: %s is %.40s, which is not a finite number", task, key, orNothing(values[key]))
		}
		// lm_eval writes "N/A" where it has no standard error.
		if se, ok := number(values[name+"_stderr,"+filter]); ok {
			if se < 0 {
				return nil, fmt.Errorf("results.%s: the standard error of %s is %v", task, key, se)
			}
			m.StdErr = &se
		}
		if s := string(higher[name]); s == "true" || s == "false" {
			up := s == "true"
			m.HigherIsBetter = &up
		}
		out = append(out, m)
	}
	return out, nil
}

func orNothing(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "nothing"
	}
	return string(raw)
}

// settings returns what another run of the task must have in common with this one.
func (p *parser) settings(task string, config members) []setting {
	var out []setting
	add := func(key string, raw json.RawMessage) {
		value := compact(raw)
		if len(raw) == 0 {
			value = "null"
		}
		// Some functions are recorded with their address in memory.
		if !strings.Contains(value, " at 0x") {
			out = append(out, setting{key, value})
		}
	}
	add("versions."+task, p.parts["versions"][task])
	add("n-shot."+task, p.parts["n-shot"][task])
	add("config.limit", p.parts["config"]["limit"])
	for _, key := range taskKeys {
		add("configs."+task+"."+key, config[key])
	}
	if shots, ok := number(p.parts["n-shot"][task]); ok && shots > 0 {
		add("config.fewshot_seed", p.parts["config"]["fewshot_seed"])
	}
	add("config.gen_kwargs", p.parts["config"]["gen_kwargs"])
	for _, key := range []string{"system_instruction_sha", "chat_template_sha", "fewshot_as_multiturn"} {
		add(key, p.top[key])
	}
	return out
}

// means returns the metrics of metric_list that are the mean over the items.
func means(raw json.RawMessage) map[string]bool {
	out := map[string]bool{}
	var list []struct {
		Metric      string `json:"metric"`
		Aggregation string `json:"aggregation"`
	}
	if json.Unmarshal(raw, &list) != nil {
		return out
	}
	for _, m := range list {
		out[m.Metric] = m.Aggregation == "mean"
	}
	return out
}

// Task returns the task or group of a name; nil if the run has none.
func (r *Results) Task(name string) *Task {
	if i := slices.IndexFunc(r.Tasks, func(t Task) bool { return t.Name == name }); i >= 0 {
		return &r.Tasks[i]
	}
	return nil
}

// CheckComparable returns an error unless the tasks that both runs have are the same: in version,
// number of examples, prompt, limit, number of items and, where both have samples, in the items.
func (r *Results) CheckComparable(other *Results) error {
	for i := range r.Tasks {
		a := &r.Tasks[i]
		b := other.Task(a.Name)
		if b == nil {
			continue
		}
		if err := a.same(b, r.File, other.File); err != nil {
			return err
		}
	}
	return nil
}

// same compares two runs of a task, in the files a and b.
func (t *Task) same(o *Task, a, b string) error {
	differs := func(what, x, y string) error {
		return fault.Inputf(a, "%s of task %s is %.80s; in %s it is %.80s", what, t.Name, x, b, y).
			WithHint("run both models with the same tasks and options of lm_eval")
	}
	theirs := map[string]string{}
	for _, s := range o.settings {
		theirs[s.key] = s.value
	}
	for _, s := range t.settings {
		if value, ok := theirs[s.key]; ok && value != s.value {
			return differs(s.key, s.value, value)
		}
	}
	if t.Items != o.Items && t.Items > 0 && o.Items > 0 {
		return differs("n-samples", fmt.Sprint(t.Items), fmt.Sprint(o.Items))
	}
	if t.hash != o.hash && t.hash != "" && o.hash != "" {
		return differs("task_hashes", t.hash[:16]+"…", o.hash[:16]+"…")
	}
	return nil
}
