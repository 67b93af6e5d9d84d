package sensitivity

import (
	"fmt"

	"afmq/internal/units"
)

// worthSaying is the share of the requested tokens below which [ReadCalibration] warns. Cutting
// into whole sequences loses less than that from the usual numbers: 32k makes 62 sequences of
// 512, which are 31,744 tokens.
const worthSaying = 0.95

// warnFewer adds a warning if the sequences have considerably fewer tokens than o asks for: the
// text, of available tokens, is too short, or its sequences do not divide the number.
func (c *Calibration) warnFewer(o CalibrationOptions, available int) {
	used := c.Record.Tokens
	if float64(used) >= worthSaying*float64(o.Tokens) {
		return
	}
	n := func(i int) string { return units.Thousands(int64(i)) }
	why := fmt.Sprintf("%d × %d, whole sequences of --seq-len", len(c.Sequences), o.SeqLen)
	switch fits := available / o.SeqLen; {
	case fits == 0:
		why = fmt.Sprintf("the text has no more, and makes no whole sequence of %d", o.SeqLen)
	case fits < o.Tokens/o.SeqLen:
		why = fmt.Sprintf("the text has %s, which make %d whole sequences of %d", n(available), fits, o.SeqLen)
	}
	c.Warnings = append(c.Warnings, fmt.Sprintf("calibration takes %s tokens, not %s: %s", n(used), n(o.Tokens), why))
}
