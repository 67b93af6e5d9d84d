package eval

import (
	"fmt"

	"afmq/internal/units"
)

// A perplexity whose standard error is more than noisyShare of it does not tell apart models
// that a reader would: at 4 and 2 bits the perplexity of afm-mini differs by 19 %. Below
// fewScored tokens the standard error itself is an estimate from too small a sample.
const (
	noisyShare = 0.1
	fewScored  = 100
)

// NoiseWarning returns a line for people if the text is too short for a perplexity that means
// something; otherwise it returns "".
func (r *Result) NoiseWarning() string {
	share := r.PerplexitySE / r.Perplexity
	scored := "only " + units.Thousands(int64(r.Tokens)) + " tokens are scored"
	switch {
	case r.Tokens == 1:
		return "only 1 token is scored: the figures are noise; score a longer text"
	case r.Tokens < fewScored:
		return scored + ": the figures are noise; score a longer text"
	case share > noisyShare:
		return fmt.Sprintf("%s: the standard error of the perplexity is %.0f %% of it; score a longer text", scored, 100*share)
	}
	return ""
}
