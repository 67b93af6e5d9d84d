package recovery

import (
	"cmp"
	"context"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// Parallel is how the processes of a worker share a model.
type Parallel string

const (
	DDP  Parallel = "ddp"  // every process has the whole model
	FSDP Parallel = "fsdp" // the processes divide its layers (PyTorch's fully_shard)
)

// Torchrun has PyTorch make the steps: afmq_train, a Python package that this program carries,
// under torchrun. Text, init, test and output remain this process's. The zero value works.
type Torchrun struct {
	Python    string   // interpreter with the packages of afmq_train; "" for python3
	Processes int      // on this machine; 0 for 1
	Args      []string // further arguments of torchrun

	Parallel   Parallel // "" for DDP
	MicroBatch int      // sequences in a forward pass of a process; 0 for as many as 1 GiB of intermediate results allow
	Packed     bool     // keep palettes packed and dequantize them in every product: less memory, more time
	Compile    bool     // compile the layers with torch.compile
}

// checkTorchrun fills in the defaults and checks the options of a worker, and those that need one.
func (o *Options) checkTorchrun() error {
	w := o.Torchrun
	switch {
	case o.TeacherTopK < 0:
		return fault.Usagef("top %d logits of the teacher: expected a positive number", o.TeacherTopK)
	case o.TeacherTopK > 0 && o.Loss == LossCE:
		return fault.Usagef("the teacher's top logits have no meaning with loss %s", o.Loss)
	case w == nil && o.TeacherTopK > 0:
		return fault.Usagef("the teacher's top logits need the launcher torchrun")
	case w == nil:
		return nil
	case runtime.GOOS == "windows":
		return fault.Usagef("the worker of torchrun runs on Linux and macOS")
	}
	own := *w
	o.Torchrun = &own
	setDefault(&own.Processes, 1)
	setDefault(&own.Parallel, DDP)
	switch {
	case own.Processes < 1 || own.MicroBatch < 0:
		return fault.Usagef("numbers of processes and sequences must be positive")
	case own.Parallel != DDP && own.Parallel != FSDP:
		return fault.Usagef("unknown division %q of a model; choose %s or %s", own.Parallel, DDP, FSDP)
	case o.Compute != compute.F32 && o.Compute != compute.BF16:
		return fault.Usagef("PyTorch computes in f32 or bf16, not in %s", o.Compute)
	}
	return nil
}

// checkShares checks that every process has a sequence of each step, and that the vocabulary has as
// many entries as the teacher is to store.
func (o *Options) checkShares(vocab int) error {
	if o.TeacherTopK > vocab {
		return fault.Usagef("top %d logits of the teacher, whose vocabulary has %d entries", o.TeacherTopK, vocab)
	}
	if w := o.Torchrun; w != nil && w.Processes > max(o.BatchTokens/o.SeqLen, 1) {
		return fault.Usagef("%d processes cannot share a step of %d tokens, which has %d sequences of %d; at least one for each process is needed",
			w.Processes, o.BatchTokens, max(o.BatchTokens/o.SeqLen, 1), o.SeqLen)
	}
	return nil
}

// workerFamilies are the values of model_type whose layers afmq_train computes.
var workerFamilies = []string{"llama", "mistral", "qwen2", "qwen3"}

// checkFamily checks that the worker computes what a model does.
func (o *Options) checkFamily(dir string, cfg *model.Config) error {
	if o.Torchrun == nil || slices.Contains(workerFamilies, cfg.ModelType) {
		return nil
	}
	return fault.Infeasiblef("%s: the worker of torchrun does not compute %s models; it has %s", dir, cfg.ModelType, strings.Join(workerFamilies, ", ")).
		WithHint("without a launcher afmq trains it")
}

// command returns the program and arguments that make the steps of a job.
func (w *Torchrun) command(job string) []string {
	args := []string{cmp.Or(w.Python, "python3"), "-m", "torch.distributed.run"}
	if !slices.ContainsFunc(w.Args, placesProcesses) {
		args = append(args, "--standalone")
	}
	args = append(args, "--nproc-per-node", strconv.Itoa(max(w.Processes, 1)))
	return append(append(args, w.Args...), "-m", workerPackage, job)
}

// placesProcesses reports whether an argument of torchrun says how its machines find each other,
// which --standalone would override.
func placesProcesses(arg string) bool {
	arg = strings.ReplaceAll(arg, "_", "-")
	return slices.ContainsFunc([]string{"--nnodes", "--rdzv-", "--master-", "--node-rank", "--standalone"}, func(p string) bool { return strings.HasPrefix(arg, p) })
}

// Prepared is a job that torchrun can make the steps of.
type Prepared struct {
	Job       string   `json:"job"`       // path of job.json; see [TrainJob]
	Directory string   `json:"directory"` // of the Python package, for PYTHONPATH
	Command   []string `json:"command"`   // makes the steps on this machine
	Step      int64    `json:"step"`      // steps made already
	Steps     int64    `json:"steps"`     // of the whole run
}

// Prepare is [Run] up to the first step: it saves the initialized adapters beside opts.Out and
// writes the job that torchrun makes the steps of. Run with the same options, with or without
// Torchrun, continues from what torchrun saved, and writes the results once all steps are made.
func Prepare(ctx context.Context, opts Options) (*Prepared, error) {
	if opts.Torchrun == nil {
		opts.Torchrun = &Torchrun{}
	}
	if err := opts.check(); err != nil {
		return nil, err
	}
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	r := &run{pool: pool, opts: &opts}
	t, resumed, err := r.start(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.begin(ctx, t, resumed); err != nil {
		return nil, t.dir.End(err)
	}
	job, err := r.writeJob(ctx, t)
	if err != nil {
		return nil, t.dir.End(err)
	}
	p := &Prepared{Job: job, Directory: filepath.Dir(job), Command: opts.Torchrun.command(job), Step: t.Step, Steps: t.steps}
	return p, t.dir.Keep()
}
