package recovery

import (
	"slices"

	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
)

// Init is the choice of an adapter's initial values.
type Init string

const (
	// InitSVD is the best low-rank approximation of the quantization error W−Ŵ, weighted
	// by the second moments of the module's input and of the loss's gradient at its output.
	InitSVD Init = "svd"
	// InitPlain is the best low-rank approximation in the Frobenius norm.
	InitPlain Init = "plain"
	// InitZero is the standard LoRA init: A random, B zero, so that the adapter changes
	// nothing before the first step.
	InitZero Init = "zero"
)

// Loss is the choice of what training minimizes.
type Loss string

const (
	LossKL  Loss = "kl"  // KL(teacher ‖ student)
	LossCE  Loss = "ce"  // cross-entropy of the text
	LossMix Loss = "mix" // Mix · KL + (1 − Mix) · cross-entropy
)

// Defaults of [Options].
const (
	DefaultRank        = 16
	DefaultTokens      = 2_000_000
	DefaultBatchTokens = 1024
	DefaultRate        = 1e-3
	DefaultWarmup      = 0.05
	DefaultClip        = 1.0
	DefaultMix         = 0.5
	DefaultInitTokens  = 32768
	DefaultValidation  = 32768 // at most
)

// Options are the settings of [Run]. Artifact, Out and Data are required, and Teacher unless
// Loss is LossCE with From or InitZero; the zero value of every other field is its default.
type Options struct {
	Artifact string // directory of the palettized base
	Teacher  string // directory of the 16-bit checkpoint
	Out      string // directory to make; it must not exist, or be empty
	// Data are the files of text: .jsonl with one {"text": …} per line, .safetensors with one
	// tensor "tokens" of token ids, or plain text.
	Data []string

	Ranks   []int         // one adapter each; nil for DefaultRank
	Alpha   float64       // PEFT's lora_alpha; 0 for each adapter's rank, which makes the scale 1
	RSLoRA  bool          // scale by alpha/√rank instead of alpha/rank
	Targets []string      // regular expressions for the names of the modules to adapt; nil for all projections
	Pattern []RankPattern // modules of another rank; the last match wins
	// RankAllocation divides each rank among the modules; "" for RanksUniform. RanksByLoss needs InitSVD
	// and no Pattern.
	RankAllocation RankAllocation
	Init           Init // "" for InitSVD
	// From is the directory of an adapter to start from. Its rank, alpha and modules are
	// kept; the seven fields above must be zero.
	From string

	Loss        Loss    // "" for LossKL
	Mix         float64 // share of the divergence in LossMix, in (0, 1]; 0 for DefaultMix
	Temperature float64 // divides both models' logits in the divergence; 0 for 1

	Tokens      int64   // tokens to train each adapter on; 0 for DefaultTokens
	SeqLen      int     // tokens in a sequence; 0 for min(512, max_position_embeddings)
	BatchTokens int     // tokens in a step; 0 for DefaultBatchTokens, or SeqLen where that is more
	Rate        float64 // peak learning rate; 0 for DefaultRate
	Warmup      float64 // share of the steps over which the rate rises linearly, before it falls as a cosine; 0 for DefaultWarmup, negative for none
	WeightDecay float64 // of AdamW
	Clip        float64 // largest norm of the gradient; 0 for DefaultClip, negative for no limit
	Seed        int64   // of the order of the text, what is held out, and the random numbers of an init
	// Validation is the number of tokens to hold out for validation, and as many for test; 0
	// for a tenth of the text, at most DefaultValidation.
	Validation int
	InitTokens int  // training tokens from which InitSVD computes its weights; 0 for DefaultInitTokens
	Recompute  bool // recompute each layer in the backward pass: less memory, more time, the same bytes
	Float32    bool // store adapters in F32 instead of F16
	Float8     bool // store adapters in F8_E4M3, see adapter.Write; not with Float32

	AllowUnbound bool // accept a From that does not name the artifact it was trained on
	AllowTeacher bool // accept a Teacher other than the model that the artifact was made from

	// Torchrun has PyTorch make the steps; nil for this process. Either continues what the other
	// saved.
	Torchrun *Torchrun
	// TeacherTopK is how many of the teacher's largest logits the divergence takes, with the rest
	// as one; 0 for all. The worker of Torchrun stores them, so that the teacher runs once over each
	// sequence, and every epoch has the sequences of the first. Only it can train so.
	TeacherTopK int

	// Compute is the arithmetic of the models' products; the zero value is float32. The init,
	// the gradients of the adapters and the optimizer are always in float32.
	Compute compute.Arithmetic

	Restart     bool              // discard the state of an interrupted run
	Pool        *compute.Pool     // nil for Threads workers of its own
	Threads     int               // where Pool is nil; 0 for all cores
	Progress    progress.Reporter // nil for progress.Silent
	ToolVersion string            // version of the calling program, recorded and part of the job's identity; may be empty
}

// setDefaults fills in the defaults that need no model.
func (o *Options) setDefaults() {
	if len(o.Ranks) == 0 {
		o.Ranks = []int{DefaultRank}
	}
	setDefault(&o.RankAllocation, RanksUniform)
	setDefault(&o.Init, InitSVD)
	setDefault(&o.Loss, LossKL)
	setDefault(&o.Mix, DefaultMix)
	setDefault(&o.Temperature, 1)
	setDefault(&o.Tokens, DefaultTokens)
	setDefault(&o.InitTokens, DefaultInitTokens)
	setDefault(&o.Rate, DefaultRate)
	setDefault(&o.Warmup, DefaultWarmup)
	setDefault(&o.Clip, DefaultClip)
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// check fills in the defaults that need no model and checks the options. Errors are
// fault.Usage.
func (o *Options) check() error {
	if err := o.checkFrom(); err != nil {
		return err
	}
	setDefault(&o.Init, InitSVD)
	o.Progress = progress.Begin(o.Progress, o.Stages()...)
	return o.checkAll()
}

// checkFrom refuses what an adapter to start from has of its own.
func (o *Options) checkFrom() error {
	if o.From != "" && (len(o.Ranks) > 0 || o.Alpha != 0 || o.RSLoRA || len(o.Targets) > 0 || len(o.Pattern) > 0 || o.RankAllocation != "" || o.Init != "") {
		return fault.Usagef("an adapter to start from has a rank, alpha and modules of its own; give no rank, alpha, targets or init")
	}
	return nil
}

// checkAll is check of everything else, with a progress that has begun.
func (o *Options) checkAll() error {
	o.setDefaults()
	for i, r := range o.Ranks {
		if r < 1 || slices.Contains(o.Ranks[:i], r) {
			return fault.Usagef("ranks %v: expected distinct positive numbers", o.Ranks)
		}
	}
	switch {
	case o.Artifact == "" || o.Out == "":
		return fault.Usagef("no artifact or no output directory")
	case len(o.Data) == 0:
		return fault.Usagef("no data to train on")
	case !slices.Contains([]Init{InitSVD, InitPlain, InitZero}, o.Init):
		return fault.Usagef("unknown init %q; choose %s, %s or %s", o.Init, InitSVD, InitPlain, InitZero)
	case o.RankAllocation != RanksUniform && o.RankAllocation != RanksByLoss:
		return fault.Usagef("unknown rank allocation %q; choose %s or %s", o.RankAllocation, RanksUniform, RanksByLoss)
	case o.RankAllocation == RanksByLoss && (o.Init != InitSVD || len(o.Pattern) > 0):
		return fault.Usagef("rank allocation %s chooses the ranks from the init %s and takes no rank pattern", RanksByLoss, InitSVD)
	case !slices.Contains([]Loss{LossKL, LossCE, LossMix}, o.Loss):
		return fault.Usagef("unknown loss %q; choose %s, %s or %s", o.Loss, LossKL, LossCE, LossMix)
	case o.Teacher == "" && o.Loss != LossCE:
		return fault.Usagef("loss %s needs a teacher", o.Loss)
	case o.Teacher == "" && o.From == "" && o.Init != InitZero:
		return fault.Usagef("init %s needs the teacher's weights", o.Init)
	case !(o.Alpha >= 0) || !finite(o.Alpha):
		return fault.Usagef("alpha %v: expected a positive number", o.Alpha)
	case !(o.Mix > 0 && o.Mix <= 1):
		return fault.Usagef("mix %v: expected a number above 0 and at most 1", o.Mix)
	case !(o.Temperature > 0) || o.Temperature > 100:
		return fault.Usagef("temperature %v: expected a number above 0 and at most 100", o.Temperature)
	case o.Tokens < 1 || o.BatchTokens < 0 || o.SeqLen < 0 || o.InitTokens < 1 || o.Validation < 0:
		return fault.Usagef("numbers of tokens must be positive")
	case !(o.Rate > 0) || !finite(o.Rate):
		return fault.Usagef("learning rate %v: expected a positive number", o.Rate)
	case !(o.Warmup < 1) || !finite(o.Warmup):
		return fault.Usagef("warm-up of %v: expected a share of the steps below 1", o.Warmup)
	case !(o.WeightDecay >= 0) || !finite(o.WeightDecay):
		return fault.Usagef("weight decay %v: expected a number of at least 0", o.WeightDecay)
	case o.Float32 && o.Float8:
		return fault.Usagef("an adapter is stored in F32 or in F8_E4M3, not in both")
	case !finite(o.Clip):
		return fault.Usagef("gradient clipping at %v: expected a norm", o.Clip)
	}
	return o.checkTorchrun()
}

// sequence fills in the sizes of a sequence and of a step and checks them against the model,
// which takes so many positions.
func (o *Options) sequence(positions int) error {
	if o.SeqLen == 0 {
		o.SeqLen = min(512, positions)
	}
	if o.SeqLen < 2 || o.SeqLen > positions {
		return fault.Usagef("sequences of %d tokens; the model takes 2 to %d (max_position_embeddings)", o.SeqLen, positions)
	}
	if o.BatchTokens == 0 {
		o.BatchTokens = max(DefaultBatchTokens, o.SeqLen)
	}
	if o.BatchTokens < o.SeqLen {
		return fault.Usagef("a step of %d tokens holds no sequence of %d", o.BatchTokens, o.SeqLen)
	}
	return nil
}
