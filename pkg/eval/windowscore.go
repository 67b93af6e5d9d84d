package eval

// WindowScore has the figures of one window of a text, as means over its scored tokens.
type WindowScore struct {
	Tokens int     `json:"tokens"` // scored in the window
	Nats   float64 `json:"nats"`   // −ln p, nats per token
	// KL is KL(reference ‖ model) in nats per token; nil without a reference.
	KL *float64 `json:"kl,omitempty"`
	// ReferenceNats is −ln p of the reference in nats per token; nil without one. It pairs
	// the two models window by window and is not recorded in files.
	ReferenceNats *float64 `json:"-"`
}

// windowScores averages the figures of the tokens, in the order of the text, over the
// windows. refNats and kl are nil without a reference.
func windowScores(windows []window, nats, refNats, kl []float64) []WindowScore {
	out := make([]WindowScore, 0, len(windows))
	at := 0
	for _, w := range windows {
		n := w.scored()
		if n == 0 {
			continue
		}
		s := WindowScore{Tokens: n}
		s.Nats, _ = meanSD(nats[at : at+n])
		if kl != nil {
			mean, _ := meanSD(kl[at : at+n])
			refMean, _ := meanSD(refNats[at : at+n])
			s.KL, s.ReferenceNats = &mean, &refMean
		}
		out = append(out, s)
		at += n
	}
	return out
}
