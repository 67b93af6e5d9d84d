package gate

import "afmq/pkg/eval"

// ComparisonIntervals returns the intervals of an evaluation with a reference, at [Confidence]: of
// the mean divergence, and of the mean loss less that of the reference. Both are nil without a
// reference, and on a text of fewer than [MinWindows] windows.
func ComparisonIntervals(e *eval.Result) (kl, rise *Interval, err error) {
	if e.Comparison == nil || len(e.Windows) < MinWindows {
		return nil, nil, nil
	}
	n := len(e.Windows)
	weights, divergences, rises := make([]float64, n), make([]float64, n), make([]float64, n)
	for i, w := range e.Windows {
		weights[i], divergences[i], rises[i] = float64(w.Tokens), *w.KL, w.Nats-*w.ReferenceNats
	}
	of, err := MeanInterval(weights, divergences, Confidence)
	if err != nil {
		return nil, nil, err
	}
	more, err := MeanInterval(weights, rises, Confidence)
	return &of, &more, err
}
