package gate

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"strings"

	"afmq/pkg/eval"
)

// maxNats bounds the losses and divergences of a baseline, in nats per token. A uniform guess
// over a vocabulary of a million tokens has a loss of 14.
const maxNats = 100

// maxNegative allows for the rounding of a loss that is 0.
const maxNegative = 1e-6

// check returns an error unless the figures are possible and consistent.
func (b *Baseline) check() error {
	for _, check := range []func() error{b.checkDigests, b.checkSetting, b.Model.check, b.checkFigures} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (b *Baseline) checkDigests() error {
	for _, d := range []struct {
		key   string
		value *string
	}{
		{"data", &b.Data}, {"tokenizer", &b.Tokenizer}, {"model.digest", &b.Model.Digest},
		{"reference", b.Reference}, {"model.adapter", b.Model.Adapter},
	} {
		if d.value != nil && (len(*d.value) != 2*sha256.Size || strings.Trim(*d.value, "0123456789abcdef") != "") {
			return fmt.Errorf("%s %.80q is not a SHA-256 in lower-case hex", d.key, *d.value)
		}
	}
	return nil
}

func (b *Baseline) checkSetting() error {
	if _, err := eval.ParseProtocol(string(b.Protocol)); err != nil {
		return err
	}
	if b.Ctx < 2 || b.Ctx > 1<<30 || b.Compute == "" {
		return fmt.Errorf("it has a context of %d and compute %q", b.Ctx, b.Compute)
	}
	if b.Protocol != eval.Stride && b.Stride != 0 {
		return fmt.Errorf("it has a stride of %d, which protocol %s does not have", b.Stride, b.Protocol)
	}
	if b.Protocol == eval.Stride && (b.Stride < 1 || b.Stride >= b.Ctx) {
		return fmt.Errorf("its stride of %d is not between 1 and the context of %d less one", b.Stride, b.Ctx)
	}
	return nil
}

func (m *Subject) check() error {
	if m.Kind != "artifact" && m.Kind != "checkpoint" {
		return fmt.Errorf("model.kind %.80q is neither artifact nor checkpoint", m.Kind)
	}
	if m.Bytes < 0 {
		return fmt.Errorf("model.bytes is %d", m.Bytes)
	}
	if m.BPW != nil && !(*m.BPW > 0 && *m.BPW <= 64) {
		return fmt.Errorf("model.bpw is %v", *m.BPW)
	}
	return nil
}

// checkFigures checks every window, and that the totals are theirs.
func (b *Baseline) checkFigures() error {
	if len(b.Windows) < 2 {
		return fmt.Errorf("it has %d windows", len(b.Windows))
	}
	if (b.KLMean != nil) != (b.Reference != nil) {
		return errors.New("it has a reference without a mean divergence, or the reverse")
	}
	tokens, nats, kl := 0, 0.0, 0.0
	for i, w := range b.Windows {
		if w.Tokens < 1 || w.Tokens > b.Ctx || !possible(w.Nats) || (w.KL != nil) != (b.KLMean != nil) || w.KL != nil && !possible(*w.KL) {
			return fmt.Errorf("window %d has impossible figures", i+1)
		}
		tokens += w.Tokens
		nats += float64(w.Tokens) * w.Nats
		if w.KL != nil {
			kl += float64(w.Tokens) * *w.KL
		}
	}
	if tokens != b.Tokens || !near(nats/float64(tokens), b.NatsPerToken) || b.KLMean != nil && !near(kl/float64(tokens), *b.KLMean) {
		return errors.New("its totals are not those of its windows")
	}
	return nil
}

// possible reports whether x can be a loss or a divergence in nats per token.
func possible(x float64) bool { return x >= -maxNegative && x <= maxNats }

// near reports whether two means are the same up to the rounding of their sums.
func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(a)) }
