package recovery

import "testing"

// TestRate checks the schedule's ends and that it has one summit.
func TestRate(t *testing.T) {
	const steps = 100
	last := 0.0
	for i := int64(1); i <= steps; i++ {
		r := learningRate(i, steps, 2, 0.1)
		if r <= 0 || r > 2 || (i <= 10) != (r > last) && i != 11 {
			t.Errorf("step %d: %v after %v", i, r, last)
		}
		last = r
	}
	if learningRate(10, steps, 2, 0.1) != 2 || last > 0.01 || learningRate(1, 1, 2, 0) <= 0 {
		t.Errorf("summit %v, end %v", learningRate(10, steps, 2, 0.1), last)
	}
}
