package main

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/jobset/api/jobset/v1alpha2"
	"sigs.k8s.io/yaml"
)

// defaults are the settings of the committed files.
func defaults(t *testing.T, args ...string) settings {
	t.Helper()
	var s settings
	f := flag.NewFlagSet("kubernetes", flag.PanicOnError)
	s.register(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return s
}

// Every committed file, decoded by the types of the API with unknown fields as errors, is the object
// that it was made from, and there is no other file.
func TestFilesAreTheObjects(t *testing.T) {
	want := objects(defaults(t))
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if names := slices.Sorted(maps.Keys(want)); !slices.Equal(files, names) {
		t.Fatalf("the files are %q, expected %q", files, names)
	}
	for name, object := range want {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got := reflect.New(reflect.TypeOf(object).Elem()).Interface()
		if err := yaml.UnmarshalStrict(data, got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !equality.Semantic.DeepEqual(got, object) {
			t.Errorf("%s is another object: run go generate", name)
		}
	}
}

// The strict decoder finds a field that the API does not have.
func TestUnknownFieldsAreErrors(t *testing.T) {
	data, err := os.ReadFile("stats.yaml")
	if err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Replace(data, []byte("backoffLimitPerIndex"), []byte("backoffLimitByIndex"), 1)
	if err := yaml.UnmarshalStrict(wrong, &batchv1.Job{}); err == nil || !strings.Contains(err.Error(), "backoffLimitByIndex") {
		t.Errorf("the error is %v", err)
	}
}

// What Kubernetes demands of a job beyond the fields, and what the steps rely on.
func TestJobs(t *testing.T) {
	var specs []batchv1.JobSpec
	for _, object := range objects(defaults(t)) {
		switch o := object.(type) {
		case *batchv1.Job:
			specs = append(specs, o.Spec)
		case *v1alpha2.JobSet:
			for i, r := range o.Spec.ReplicatedJobs {
				specs = append(specs, r.Template.Spec)
				if (i == 0) != (len(r.DependsOn) == 0) {
					t.Errorf("%s: %s depends on %v", o.Name, r.Name, r.DependsOn)
				}
			}
		}
	}
	for _, spec := range specs {
		pod := spec.Template.Spec
		args := strings.Join(pod.Containers[0].Args, " ")
		if pod.RestartPolicy != corev1.RestartPolicyNever {
			t.Errorf("%s: podFailurePolicy and BackoffLimitPerIndex need restartPolicy Never", args)
		}
		indexed := spec.CompletionMode != nil && *spec.CompletionMode == batchv1.IndexedCompletion
		if sharded := strings.Contains(args, "--shard auto/"); sharded && (!indexed || spec.BackoffLimitPerIndex == nil) {
			t.Errorf("%s: a sharded job has an index, and attempts, for each pod", args)
		}
		if p := spec.PodFailurePolicy; p != nil {
			if c := *p.Rules[0].OnExitCodes.ContainerName; c != pod.Containers[0].Name {
				t.Errorf("%s: the policy is about container %q", args, c)
			}
			if !slices.IsSorted(p.Rules[0].OnExitCodes.Values) {
				t.Errorf("%s: exit codes must be in order", args)
			}
		}
		for resource, limit := range pod.Containers[0].Resources.Limits {
			if request := pod.Containers[0].Resources.Requests[resource]; request.Cmp(limit) != 0 {
				t.Errorf("%s: requests %v of %s, and its limit is %v", args, request, resource, limit)
			}
		}
	}
}

// Without Kueue nothing is labelled or suspended; with another number of shards the pods know it.
func TestSettings(t *testing.T) {
	all := objects(defaults(t, "-queue", "", "-shards", "64"))
	quantize := all["quantize.yaml"].(*batchv1.Job)
	if quantize.Labels != nil || quantize.Spec.Suspend != nil {
		t.Errorf("without a queue the job has the labels %v and suspend %v", quantize.Labels, quantize.Spec.Suspend)
	}
	args := strings.Join(quantize.Spec.Template.Spec.Containers[0].Args, " ")
	if *quantize.Spec.Completions != 64 || !strings.Contains(args, "--shard auto/64 ") {
		t.Errorf("%d pods run %s", *quantize.Spec.Completions, args)
	}
}
