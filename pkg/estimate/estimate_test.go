package estimate

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"afmq/pkg/fault"
)

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		e    Estimate
		want string // part of the error; empty for none
	}{
		"fits":             {Estimate{PeakBytes: 10, MemoryBytes: 10, OutputBytes: 3, ScratchBytes: 2, DiskBytes: 5}, ""},
		"disk unknown":     {Estimate{PeakBytes: 10, MemoryBytes: 10, OutputBytes: 3}, ""},
		"memory":           {Estimate{PeakBytes: 3 << 30, MemoryBytes: 2 << 30}, "takes about 3.00 GiB of memory, and may use 2.00 GiB"},
		"disk":             {Estimate{OutputBytes: 2 << 30, ScratchBytes: 1 << 30, DiskBytes: 1 << 30}, "writes about 3.00 GiB, of which 1.00 GiB are scratch files, and the disk of out has 1.00 GiB free"},
		"disk by one byte": {Estimate{OutputBytes: 3, ScratchBytes: 3, DiskBytes: 5}, "the disk of out"},
	} {
		err := c.e.Check("out", "do this")
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var f *fault.Error
		if !errors.As(err, &f) || f.Kind != fault.Infeasible || !strings.Contains(err.Error(), c.want) || f.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTime(t *testing.T) {
	s, err := Time(context.Background(), func() error {
		time.Sleep(5 * time.Millisecond)
		return nil
	})
	if err != nil || s < 4e-3 {
		t.Errorf("%v s, %v", s, err)
	}
	wrong := errors.New("wrong")
	if _, err := Time(context.Background(), func() error { return wrong }); !errors.Is(err, wrong) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Time(ctx, func() error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		times []float64
		want  float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 9}, 2}} {
		if got := median(c.times); got != c.want {
			t.Errorf("%v: %v", c.times, got)
		}
	}
}
