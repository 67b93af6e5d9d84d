package main

import (
	"path"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const (
	volume = "afmq"  // name of the claim, and of the volume in a pod
	mount  = "/data" // where pods have it
	// queueLabel names the queue in which Kueue admits a job.
	queueLabel = "kueue.x-k8s.io/queue-name"
)

// objects returns what is written, by file.
func objects(s settings) map[string]any {
	return map[string]any{
		"storage.yaml":  claim(s),
		"stats.yaml":    job(s, "afmq-stats", statsJob(s)),
		"quantize.yaml": job(s, "afmq-quantize", quantizeJob(s)),
		"merge.yaml":    job(s, "afmq-merge", mergeJob(s)),
		"compress.yaml": compress(s),
		"recover.yaml":  recovery(s),
	}
}

// claim is the volume that all pods share: checkpoint, text, statistics, shards, artifact and adapters.
func claim(s settings) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: metav1.ObjectMeta{Name: volume},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(s.storage)}},
		},
	}
	if s.storageClass != "" {
		c.Spec.StorageClassName = &s.storageClass
	}
	return c
}

// job is a Job of its own. Kueue starts what has its label, so that the job begins suspended.
func job(s settings, name string, spec batchv1.JobSpec) *batchv1.Job {
	j := &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels(s)},
		Spec:       spec,
	}
	if s.queue != "" {
		j.Spec.Suspend = ptr.To(true)
	}
	return j
}

func labels(s settings) map[string]string {
	if s.queue == "" {
		return nil
	}
	return map[string]string{queueLabel: s.queue}
}

// statsJob takes the statistics of the calibration text, a share of it in each pod.
func statsJob(s settings) batchv1.JobSpec {
	return indexed(s, s.statsShards, "stats", onVolume(s.model), "--calib", onVolume(s.calib), "--out", onVolume("stats"))
}

// quantizeJob quantizes the modules, a share of them in each pod, into one directory.
func quantizeJob(s settings) batchv1.JobSpec {
	return indexed(s, s.shards, "quantize", onVolume(s.model), "--bpw", s.bpw, "--stats", onVolume("stats"), "--out", onVolume("shards"))
}

// mergeJob makes the artifact of all shards.
func mergeJob(s settings) batchv1.JobSpec {
	return single(s, s.image, s.cpu, s.memory, "merge", onVolume("shards"), "--out", onVolume("artifact"))
}

// indexed is a job of n pods, each of which has its number in JOB_COMPLETION_INDEX. A pod that dies, or
// is evicted, is started again and continues; an exit code that does not pass ends the whole job.
func indexed(s settings, n int, args ...string) batchv1.JobSpec {
	args = append(args, "--shard", "auto/"+strconv.Itoa(n))
	return batchv1.JobSpec{
		CompletionMode:       ptr.To(batchv1.IndexedCompletion),
		Completions:          ptr.To(int32(n)),
		Parallelism:          ptr.To(int32(n)),
		BackoffLimitPerIndex: ptr.To(int32(3)),
		MaxFailedIndexes:     ptr.To(int32(0)),
		PodFailurePolicy:     failures(),
		Template:             pod(afmq(s.image, s.cpu, s.memory, args...)),
	}
}

// single is a job of one pod.
func single(s settings, image, cpu, memory string, args ...string) batchv1.JobSpec {
	return batchv1.JobSpec{
		BackoffLimit:     ptr.To(int32(3)),
		PodFailurePolicy: failures(),
		Template:         pod(afmq(image, cpu, memory, args...)),
	}
}

// failures ends a job at once where afmq says that trying again is no use: docs/exit-codes.md. Pods that
// the cluster takes away do not count.
func failures() *batchv1.PodFailurePolicy {
	return &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		{
			Action: batchv1.PodFailurePolicyActionFailJob,
			OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
				ContainerName: ptr.To("afmq"), Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{2, 3, 4},
			},
		},
		{
			Action:          batchv1.PodFailurePolicyActionIgnore,
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
		},
	}}
}

// afmq is a container that runs a command of the program. It may use the CPUs that it requests.
func afmq(image, cpu, memory string, args ...string) corev1.Container {
	return corev1.Container{
		Name:  "afmq",
		Image: image,
		Args:  append(args, "--threads", cpu, "--quiet"),
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: volume, MountPath: mount}},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false),
			ReadOnlyRootFilesystem:   ptr.To(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
}

// pod is a pod of one container, with the volume, that gets two minutes to save what it did.
func pod(c corev1.Container) corev1.PodTemplateSpec {
	const user = 65532
	spec := corev1.PodSpec{
		RestartPolicy:                 corev1.RestartPolicyNever, // podFailurePolicy needs it
		TerminationGracePeriodSeconds: ptr.To(int64(120)),
		AutomountServiceAccountToken:  ptr.To(false),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To(int64(user)), RunAsGroup: ptr.To(int64(user)), FSGroup: ptr.To(int64(user)),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []corev1.Container{c},
		Volumes: []corev1.Volume{{Name: volume, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: volume},
		}}},
	}
	addEmpty(&spec, "tmp", "/tmp", corev1.StorageMediumDefault) // all else is read-only
	return corev1.PodTemplateSpec{Spec: spec}
}

// addEmpty gives the container of a pod an empty directory.
func addEmpty(spec *corev1.PodSpec, name, path string, medium corev1.StorageMedium) {
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		EmptyDir: &corev1.EmptyDirVolumeSource{Medium: medium},
	}})
	c := &spec.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: path})
}

// onVolume is a path on the volume, as pods see it.
func onVolume(name string) string { return path.Join(mount, name) }
