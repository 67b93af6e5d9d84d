package recovery

import (
	"slices"

	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
)

// Init says what an adapter is before its first step.
type Init string

const (
	// InitSVD is the best low-rank approximation of the quantization error W−Ŵ, weighted
	// by the module's inputs and by the loss's gradients at its output.
	InitSVD Init = "svd"
	// InitPlain is the same in the Frobenius norm, which needs no text.
	InitPlain Init = "plain"
	// InitZero is the standard LoRA init: A random, B zero, so that nothing changes
	// before the first step.
	InitZero Init = "zero"
)

// Loss says what training makes small.
type Loss string

const (
	LossKL  Loss = "kl"  // KL(teacher ‖ student)
	LossCE  Loss = "ce"  // cross-entropy of the text
	LossMix Loss = "mix" // a weighted sum of both
)

// Defaults of Options.
const (
	DefaultRank        = 16
	DefaultTokens      = 2_000_000
	DefaultBatchTokens = 1024
	DefaultRate        = 1e-3
	DefaultWarmup      = 0.05
	DefaultClip        = 1.0
	DefaultMix         = 0.5
	DefaultInitTokens  = 32768
	DefaultValidation  = 32768
)

// Options say which adapters are trained and how.
type Options struct {
	Artifact string // directory of the palettized base
	Teacher  string // directory of the 16-bit checkpoint; may be empty where neither loss nor init needs one
	Out      string // directory to be made; must not exist, or be empty
	// Data are the files to train on: text, .jsonl with one {"text"} a line, or
	// .safetensors with one tensor "tokens" of token ids.
	Data []string

	Ranks   []int         // one adapter each; nil for DefaultRank
	Alpha   float64       // lora_alpha; 0 for each adapter's rank, which makes the scale 1
	RSLoRA  bool          // scale by alpha/√rank
	Targets []string      // kinds of projection or regular expressions for module names; nil for all
	Pattern []RankPattern // modules of another rank
	Init    Init          // "" for InitSVD
	From    string        // directory of an adapter to start from; its ranks, alpha and modules are taken over

	Loss        Loss    // "" for LossKL
	Mix         float64 // share of the divergence in LossMix; 0 for DefaultMix
	Temperature float64 // divides both models' logits in the divergence; 0 for 1

	Tokens      int64   // budget for each adapter; 0 for DefaultTokens
	SeqLen      int     // tokens in a sequence; 0 for min(512, max_position_embeddings)
	BatchTokens int     // tokens in a step; 0 for DefaultBatchTokens
	Rate        float64 // highest learning rate; 0 for DefaultRate
	Warmup      float64 // share of the steps over which the rate rises; it then falls as a cosine to zero; 0 for DefaultWarmup, negative for none
	WeightDecay float64 //
	Clip        float64 // largest norm of the gradient; 0 for DefaultClip, negative for no limit
	Seed        int64   // order of the data, what is held out, and the random numbers of an init
	// Validation is the number of tokens held out to choose the checkpoint, and again of those
	// held out for test; 0 for a tenth of the text, at most DefaultValidation.
	Validation   int
	InitTokens   int  // training tokens that InitSVD looks at; 0 for DefaultInitTokens
	Recompute    bool // keep only the layers' inputs and run each forward again in the backward pass
	Float32      bool // store adapters in F32 instead of F16
	AllowUnbound bool // let From be an adapter that does not name its base
	AllowTeacher bool // let Teacher be a model that the artifact was not made from

	// Compute is the arithmetic of the models' products. The init, the gradients of the
	// adapters and the optimizer stay in float32.
	Compute compute.Arithmetic

	Restart     bool              // discard the state of an interrupted run
	Pool        *compute.Pool     // nil for Threads workers of its own
	Threads     int               // where Pool is nil; 0 for all cores
	Progress    progress.Reporter // nil for progress.Silent
	ToolVersion string            // version of the calling program; a saved state of another version is refused; may be empty
}

// check fills in the defaults. Errors are fault.Usage.
func (o *Options) check() error {
	if o.From != "" && (len(o.Ranks) > 0 || o.Alpha != 0 || o.RSLoRA || len(o.Targets) > 0 || len(o.Pattern) > 0 || o.Init != "") {
		return fault.Usagef("rank, alpha, targets and init are those of the adapter to start from")
	}
	if len(o.Ranks) == 0 {
		o.Ranks = []int{DefaultRank}
	}
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.BatchTokens, DefaultBatchTokens)
	def(&o.InitTokens, DefaultInitTokens)
	if o.Tokens == 0 {
		o.Tokens = DefaultTokens
	}
	if o.Rate == 0 {
		o.Rate = DefaultRate
	}
	if o.Warmup == 0 {
		o.Warmup = DefaultWarmup
	}
	if o.Clip == 0 {
		o.Clip = DefaultClip
	}
	if o.Mix == 0 {
		o.Mix = DefaultMix
	}
	if o.Temperature == 0 {
		o.Temperature = 1
	}
	if o.Loss == "" {
		o.Loss = LossKL
	}
	if o.Init == "" {
		o.Init = InitSVD
	}
	if o.Progress == nil {
		o.Progress = progress.Silent
	}
	for i, r := range o.Ranks {
		if r < 1 || slices.Contains(o.Ranks[:i], r) {
			return fault.Usagef("ranks %v: each is a positive number, given once", o.Ranks)
		}
	}
	switch {
	case o.Artifact == "" || o.Out == "":
		return fault.Usagef("no artifact or no output directory")
	case len(o.Data) == 0:
		return fault.Usagef("no data to train on")
	case !slices.Contains([]Init{InitSVD, InitPlain, InitZero}, o.Init):
		return fault.Usagef("there is no init %q; choose %s, %s or %s", o.Init, InitSVD, InitPlain, InitZero)
	case !slices.Contains([]Loss{LossKL, LossCE, LossMix}, o.Loss):
		return fault.Usagef("there is no loss %q; choose %s, %s or %s", o.Loss, LossKL, LossCE, LossMix)
	case o.Teacher == "" && o.Loss != LossCE:
		return fault.Usagef("loss %s needs a teacher", o.Loss)
	case o.Teacher == "" && o.From == "" && o.Init != InitZero:
		return fault.Usagef("init %s needs the teacher's weights", o.Init)
	case !(o.Alpha >= 0) || !finite(o.Alpha):
		return fault.Usagef("alpha %v is no positive number", o.Alpha)
	case !(o.Mix > 0 && o.Mix <= 1):
		return fault.Usagef("mix %v does not lie between 0 and 1", o.Mix)
	case !(o.Temperature > 0) || o.Temperature > 100:
		return fault.Usagef("temperature %v does not lie between 0 and 100", o.Temperature)
	case o.Tokens < 1 || o.BatchTokens < 1 || o.SeqLen < 0 || o.InitTokens < 1 || o.Validation < 0:
		return fault.Usagef("numbers of tokens are positive")
	case !(o.Rate > 0) || !finite(o.Rate):
		return fault.Usagef("learning rate %v is no positive number", o.Rate)
	case !(o.Warmup < 1) || !finite(o.Warmup):
		return fault.Usagef("warm-up of %v: expected a share of the steps below 1", o.Warmup)
	case !(o.WeightDecay >= 0) || !finite(o.WeightDecay):
		return fault.Usagef("weight decay %v is negative", o.WeightDecay)
	case !finite(o.Clip):
		return fault.Usagef("gradient clipping at %v: expected a norm", o.Clip)
	}
	return nil
}

// sequence fills in the length of a sequence and checks it against the models.
func (o *Options) sequence(positions int) error {
	if o.SeqLen == 0 {
		o.SeqLen = min(512, positions)
	}
	if o.SeqLen < 2 || o.SeqLen > positions {
		return fault.Usagef("sequences of %d tokens; the model takes 2 to %d (max_position_embeddings)", o.SeqLen, positions)
	}
	if o.BatchTokens < o.SeqLen {
		return fault.Usagef("a step of %d tokens is less than one sequence of %d", o.BatchTokens, o.SeqLen)
	}
	return nil
}
