package shard

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/fault"
)

func TestParse(t *testing.T) {
	slurm := map[string]string{"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
	for _, c := range []struct {
		text string
		env  map[string]string
		want string // the shard, or a part of the error
	}{
		{"", nil, "0/0"},
		{"0/1", nil, "0/1"},
		{"3/4", slurm, "3/4"},
		{"auto", slurm, "2/4"},
		{"auto/4", slurm, "2/4"},
		{"auto/5", slurm, "the scheduler says that there are 4"},
		{"auto", map[string]string{"SLURM_PROCID": "1", "SLURM_NTASKS": "3"}, "1/3"},
		{"auto", map[string]string{"RANK": "0", "WORLD_SIZE": "2"}, "0/2"},
		{"auto/6", map[string]string{"JOB_COMPLETION_INDEX": "5"}, "5/6"},
		{"auto", map[string]string{"JOB_COMPLETION_INDEX": "5"}, "does not say how many"},
		{"auto/5", map[string]string{"JOB_COMPLETION_INDEX": "5"}, "they count from 0 to 4"},
		{"auto", nil, "has no variables"},
		{"auto", map[string]string{"RANK": "x", "WORLD_SIZE": "2"}, `RANK="x" is not a number`},
		{"auto", map[string]string{"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "2"}, "must be consecutive"},
		{"4/4", nil, "they count from 0 to 3"},
		{"-1/4", nil, "they count from 0 to 3"},
		{"0/0", nil, "0 shards"},
		{"0/99999999", nil, "expected 1 to"},
		{"1", nil, "expected I/N"},
		{"a/b", nil, "expected I/N"},
		{"1/2/3", nil, "expected I/N"},
	} {
		s, err := Parse(c.text, func(name string) string { return c.env[name] })
		got := s.String()
		if err != nil {
			got = err.Error()
			if fault.KindOf(err) != fault.Usage {
				t.Errorf("%q: %v", c.text, err)
			}
		}
		if err == nil && got != c.want || err != nil && !strings.Contains(got, c.want) {
			t.Errorf("%q with %v: %s, want %s", c.text, c.env, got, c.want)
		}
	}
}

func TestRange(t *testing.T) {
	for n := 0; n < 20; n++ {
		for count := 1; count < 8; count++ {
			at := 0
			for i := range count {
				from, to := Shard{i, count}.Range(n)
				if from != at || to-from < n/count || to-from > n/count+1 {
					t.Errorf("%d of %d items in %d: %d to %d", i, n, count, from, to)
				}
				at = to
			}
			if at != n {
				t.Errorf("%d items in %d shards end at %d", n, count, at)
			}
		}
	}
}

// Of shards that join at the same time, one describes the job; all others agree or are refused.
func TestJoinAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "parent", "job")
	const n = 8
	errs := make(chan error, n)
	for i := range n {
		go func() {
			job := `{"a":1}`
			if i == 3 {
				job = `{"a":2}`
			}
			_, err := Join(dir, "stats", Shard{i, n}, []byte(job), nil, []Name{{Key: "a", Words: "--a"}})
			errs <- err
		}()
	}
	refused := 0
	for range n {
		if err := <-errs; err != nil {
			refused++
			if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "--a was") {
				t.Error(err)
			}
		}
	}
	if refused != 1 && refused != n-1 {
		t.Errorf("%d shards were refused", refused)
	}
}

// A directory that someone made is not a finished shard, and a job of which no shard has begun can be
// replaced, as the message says.
func TestEmptyShard(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "job")
	set, err := Join(dir, "stats", Shard{0, 2}, []byte(`{"a":1}`), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(set.Path(0), 0o777); err != nil {
		t.Fatal(err)
	}
	if set.Finished(0) || set.Status()[0].State != Missing {
		t.Error("an empty directory is a finished shard")
	}
	_, err = Join(dir, "stats", Shard{0, 3}, []byte(`{"a":2}`), nil, nil)
	var f *fault.Error
	if !errors.As(err, &f) || !strings.Contains(f.Hint, "none of its shards has begun: remove "+filepath.Join(dir, JobFile)) {
		t.Errorf("%+v", err)
	}
	if err := os.WriteFile(filepath.Join(set.Path(0), "x"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Join(dir, "stats", Shard{0, 3}, []byte(`{"a":2}`), nil, nil)
	if !errors.As(err, &f) || strings.Contains(f.Hint, "none of its shards") || !set.Finished(0) {
		t.Errorf("%+v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "cannot be read",
		"{":                                      "is not the description",
		`{"schema":"x"}`:                         `has schema "x"`,
		`{"schema":"afmq.shards/v1"}`:            "has 0 shards",
		`{"schema":"afmq.shards/v1","shards":2}`: "names no job",
	} {
		dir := t.TempDir()
		if text != "" {
			if err := os.WriteFile(filepath.Join(dir, JobFile), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		} else {
			want = JobFile
		}
		if _, err := Open(dir); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzJobFile(f *testing.F) {
	f.Add([]byte(`{"schema":"afmq.shards/v1","command":"stats","shards":2,"job":{},"request":null}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, JobFile), data, 0o666); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir)
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Error(err)
			}
			return
		}
		s.Complete()
	})
}
