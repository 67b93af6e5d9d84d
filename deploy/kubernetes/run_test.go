package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
)

// The program takes the arguments of the pods: the three jobs, run here with the index of each pod in
// the environment and a directory in place of the volume, make an artifact that verify passes.
func TestPodsRun(t *testing.T) {
	data := t.TempDir()
	afmq := filepath.Join(data, "afmq")
	command := func(env []string, name string, args ...string) {
		t.Helper()
		for i, a := range args {
			args[i] = strings.Replace(a, mount+"/", data+"/", 1)
		}
		c := exec.CommandContext(t.Context(), name, args...)
		c.Env = append(os.Environ(), env...)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
	}
	command(nil, "go", "build", "-C", filepath.Join("..", ".."), "-o", afmq, "./cmd/afmq")
	if err := os.CopyFS(filepath.Join(data, "model"), os.DirFS(filepath.Join("..", "..", "internal", "demo", "model"))); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "concepts.md"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "calib.txt"), text, 0o666); err != nil {
		t.Fatal(err)
	}
	all := objects(defaults(t, "-stats-shards", "2", "-shards", "3", "-cpu", "1", "-calib", "calib.txt"))
	for _, name := range []string{"stats.yaml", "quantize.yaml", "merge.yaml"} {
		job := all[name].(*batchv1.Job)
		pods := 1
		if job.Spec.Completions != nil {
			pods = int(*job.Spec.Completions)
		}
		for i := range pods {
			args := append([]string{}, job.Spec.Template.Spec.Containers[0].Args...)
			command([]string{fmt.Sprintf("JOB_COMPLETION_INDEX=%d", i)}, afmq, args...)
		}
	}
	command(nil, afmq, "verify", onVolume("artifact"))
}
