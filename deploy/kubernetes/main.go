// The program kubernetes writes the objects that run afmq on Kubernetes, from the types of its API,
// as YAML for kubectl apply. Without arguments it writes the files that are committed here.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

//go:generate go run .

// settings are what differs from cluster to cluster.
type settings struct {
	image, trainImage     string // of deploy/container
	queue                 string // of Kueue; "" for none
	storageClass          string // "" for the default of the cluster
	storage               string // size of the volume
	model, calib, train   string // paths on the volume
	bpw                   string // bits per weight
	statsShards, shards   int
	cpu, memory           string // of a shard
	nodes, gpus           int    // of the training
	trainCPU, trainMemory string
	rank, tokens          string
}

// register registers a flag for each setting.
func (s *settings) register(f *flag.FlagSet) {
	f.StringVar(&s.image, "image", "registry.example/afmq:0.1.0", "image of deploy/container/Containerfile")
	f.StringVar(&s.trainImage, "train-image", "registry.example/afmq-train:0.1.0", "image of deploy/container/Containerfile.train")
	f.StringVar(&s.queue, "queue", "afmq", "LocalQueue of Kueue; empty on a cluster without it")
	f.StringVar(&s.storageClass, "storage-class", "", "storage class that many nodes can write; empty for the default")
	f.StringVar(&s.storage, "storage", "200Gi", "size of the volume")
	f.StringVar(&s.model, "model", "model", "directory of the checkpoint on the volume")
	f.StringVar(&s.calib, "calib", "calib.jsonl", "calibration text on the volume")
	f.StringVar(&s.train, "train", "train.jsonl", "training text on the volume")
	f.StringVar(&s.bpw, "bpw", "4", "bits per weight")
	f.IntVar(&s.statsShards, "stats-shards", 8, "pods for the statistics")
	f.IntVar(&s.shards, "shards", 16, "pods for the modules")
	f.StringVar(&s.cpu, "cpu", "16", "CPUs of a pod")
	f.StringVar(&s.memory, "memory", "32Gi", "memory of a pod")
	f.IntVar(&s.nodes, "nodes", 2, "pods of the training")
	f.IntVar(&s.gpus, "gpus", 8, "GPUs of a pod of the training")
	f.StringVar(&s.trainCPU, "train-cpu", "64", "CPUs of a pod of the training")
	f.StringVar(&s.trainMemory, "train-memory", "512Gi", "memory of a pod of the training")
	f.StringVar(&s.rank, "rank", "16", "rank of the adapter")
	f.StringVar(&s.tokens, "tokens", "100M", "tokens to train on")
}

func main() {
	var s settings
	s.register(flag.CommandLine)
	out := flag.String("out", ".", "directory to write to")
	flag.Parse()
	if err := write(*out, s); err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes:", err)
		os.Exit(1)
	}
}

// write writes a file for each object.
func write(dir string, s settings) error {
	for name, object := range objects(s) {
		data, err := yaml.Marshal(object)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		data = append([]byte("# Made by go generate in deploy/kubernetes.\n"), withoutStatus(data)...)
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// withoutStatus removes the status of an object, which the types write and a cluster fills in: the last
// key of the file.
func withoutStatus(data []byte) []byte {
	if i := bytes.LastIndex(data, []byte("\nstatus:")); i >= 0 {
		return data[:i+1]
	}
	return data
}
