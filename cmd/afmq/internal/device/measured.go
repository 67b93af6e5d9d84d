package device

import "afmq/internal/units"

// Measured is the range of what programs reach of an estimate.
type Measured struct {
	// DecodeLow and DecodeHigh are measured decoding speeds divided by the estimate.
	DecodeLow  float64 `json:"decode_low"`
	DecodeHigh float64 `json:"decode_high"`
	// FirstTokenLow and FirstTokenHigh are measured times to the first token divided by the
	// estimate.
	FirstTokenLow  float64 `json:"first_token_low"`
	FirstTokenHigh float64 `json:"first_token_high"`
}

// measured are the ranges of the measurements of docs/devices.md: afmq on a Xeon, and the published
// ones of other programs on phones and boards. Decoding in float32 is slower.
var measured = Measured{DecodeLow: 0.74, DecodeHigh: 0.87, FirstTokenLow: 1.3, FirstTokenHigh: 3.9}

// Rate formats the range of the decoding speed for an estimate in tokens per second.
func (m Measured) Rate(estimate float64) string {
	return units.RateRange(estimate*m.DecodeLow, estimate*m.DecodeHigh)
}

// FirstToken formats the range of the time to the first token for an estimate in seconds.
func (m Measured) FirstToken(estimate float64) string {
	return units.SpanRange(estimate*m.FirstTokenLow, estimate*m.FirstTokenHigh)
}
