package main

import (
	"fmt"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/jobset/api/jobset/v1alpha2"
)

// rendezvousPort is where the processes of torchrun meet, on the first pod.
const rendezvousPort = 29500

// trainDir is where afmq recover --launcher job writes the job of adapters, on the volume.
const trainDir = ".adapters.afmq/state/torch"

// compress is the three steps as one JobSet, each of which starts when the one before is complete.
func compress(s settings) *v1alpha2.JobSet {
	return jobSet(s, "afmq-compress", step("stats", statsJob(s)), step("quantize", quantizeJob(s)), step("merge", mergeJob(s)))
}

// recovery trains adapters: one pod prepares text and init, one for each node makes the steps with
// torchrun, and one evaluates and writes the adapters. A set that is started again continues from the
// last step that was saved.
func recovery(s settings) *v1alpha2.JobSet {
	const name = "afmq-recover"
	args := []string{"recover", onVolume("artifact"), "--teacher", onVolume(s.model), "--data", onVolume(s.train),
		"--out", onVolume("adapters"), "--rank", s.rank, "--tokens", s.tokens, "--compute", "bf16"}
	prepare := single(s, s.trainImage, s.cpu, s.trainMemory, append(args, "--launcher", "job")...)
	finish := single(s, s.trainImage, s.cpu, s.trainMemory, args...)
	return jobSet(s, name, step("prepare", prepare), step("train", trainJob(s, name)), step("finish", finish))
}

// trainJob is torchrun on every node.
func trainJob(s settings, set string) batchv1.JobSpec {
	c := afmq(s.trainImage, s.trainCPU, s.trainMemory)
	c.Name = "torchrun"
	// The first pod of the first job of the replicated job "train"; JobSet gives it this name.
	first := fmt.Sprintf("%[1]s-train-0-0.%[1]s:%d", set, rendezvousPort)
	c.Command = []string{"python3", "-m", "torch.distributed.run"}
	c.Args = []string{"--nnodes", strconv.Itoa(s.nodes), "--nproc-per-node", strconv.Itoa(s.gpus),
		"--rdzv-id", set, "--rdzv-backend", "c10d", "--rdzv-endpoint", first, "-m", "afmq_train", onVolume(trainDir + "/job.json")}
	// The job of afmq recover --launcher job, with the Python program that belongs to it.
	c.Env = []corev1.EnvVar{{Name: "PYTHONPATH", Value: onVolume(trainDir)}}
	c.Ports = []corev1.ContainerPort{{ContainerPort: rendezvousPort}}
	gpus := resource.MustParse(strconv.Itoa(s.gpus))
	c.Resources.Requests["nvidia.com/gpu"], c.Resources.Limits["nvidia.com/gpu"] = gpus, gpus
	template := pod(c)
	addEmpty(&template.Spec, "shm", "/dev/shm", corev1.StorageMediumMemory) // of NCCL
	return batchv1.JobSpec{
		CompletionMode: ptr.To(batchv1.IndexedCompletion),
		Completions:    ptr.To(int32(s.nodes)),
		Parallelism:    ptr.To(int32(s.nodes)),
		BackoffLimit:   ptr.To(int32(0)), // one pod alone cannot go on: the set starts again
		Template:       template,
	}
}

// step is a job of a set.
func step(name string, spec batchv1.JobSpec) v1alpha2.ReplicatedJob {
	return v1alpha2.ReplicatedJob{Name: name, Replicas: 1, Template: batchv1.JobTemplateSpec{Spec: spec}}
}

// jobSet is a sequence of steps. It starts again after a failure, and what is done is not done again;
// a job that failed by its exit code ends it.
func jobSet(s settings, name string, steps ...v1alpha2.ReplicatedJob) *v1alpha2.JobSet {
	for i := range steps[1:] {
		steps[i+1].DependsOn = []v1alpha2.DependsOn{{Name: steps[i].Name, Status: v1alpha2.DependencyComplete}}
	}
	set := &v1alpha2.JobSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha2.GroupVersion.String(), Kind: "JobSet"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels(s)},
		Spec: v1alpha2.JobSetSpec{
			ReplicatedJobs: steps,
			Network:        &v1alpha2.Network{EnableDNSHostnames: ptr.To(true)},
			FailurePolicy: &v1alpha2.FailurePolicy{
				MaxRestarts: 3,
				Rules: []v1alpha2.FailurePolicyRule{{
					Name: "finalExitCode", Action: v1alpha2.FailJobSet, OnJobFailureReasons: []string{batchv1.JobReasonPodFailurePolicy},
				}},
			},
		},
	}
	if s.queue != "" {
		set.Spec.Suspend = ptr.To(true)
	}
	return set
}
