// Package estimate predicts the time, the memory and the disk space of a job before it runs, from a
// few seconds of measurements on this machine: a layer of the model runs, and some rows of its
// matrices are quantized. What the jobs do beside that is counted in the units of their progress.
package estimate

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"afmq/internal/disk"
	"afmq/internal/memory"
	"afmq/internal/units"
	"afmq/pkg/fault"
)

// Estimate is what a job will take.
type Estimate struct {
	Stages       []Stage `json:"stages"`
	Seconds      float64 `json:"seconds"`       // of all stages
	OutputBytes  int64   `json:"output_bytes"`  // of what it writes; an upper bound if that depends on a choice yet to be made
	PeakBytes    int64   `json:"peak_bytes"`    // largest resident memory
	ScratchBytes int64   `json:"scratch_bytes"` // of files that exist only while it runs
	MemoryBytes  int64   `json:"memory_bytes"`  // that it may use; see --memory
	DiskBytes    int64   `json:"disk_bytes"`    // that are free where it writes; 0 if the system does not say
	// Measured is the time that the measurements took, in seconds.
	Measured float64 `json:"measured_seconds"`
}

// Stage is a stage of the job.
type Stage struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Add adds a stage.
func (e *Estimate) Add(name string, seconds float64) {
	e.Stages = append(e.Stages, Stage{name, seconds})
	e.Seconds += seconds
}

// Join adds the stages of a job that follows in the same process, with scratch files of its own.
func (e *Estimate) Join(o *Estimate) {
	for _, s := range o.Stages {
		e.Add(s.Name, s.Seconds)
	}
	e.OutputBytes += o.OutputBytes
	e.PeakBytes, e.ScratchBytes = max(e.PeakBytes, o.PeakBytes), e.ScratchBytes+o.ScratchBytes
}

// Check returns an error of kind fault.Infeasible if the job does not fit into the memory or on the
// disk; hint is what makes it take less memory. dir is where it writes.
func (e *Estimate) Check(dir, hint string) error {
	need := e.OutputBytes + e.ScratchBytes
	switch {
	case e.PeakBytes > e.MemoryBytes:
		return fault.Infeasiblef("the job takes about %s of memory, and may use %s", units.Size(e.PeakBytes), units.Size(e.MemoryBytes)).WithHint("%s", hint)
	case e.DiskBytes > 0 && need > e.DiskBytes:
		return fault.Infeasiblef("the job writes about %s, of which %s are scratch files, and the disk of %s has %s free", units.Size(need), units.Size(e.ScratchBytes), dir, units.Size(e.DiskBytes)).
			WithHint("give an --out on another disk; more --memory takes less scratch space")
	}
	return nil
}

// SetMachine sets the memory that the job may use, wanted or for 0 the default, and the space that is
// free in dir.
func (e *Estimate) SetMachine(wanted int64, dir string) {
	e.MemoryBytes = memory.Budget(wanted)
	e.DiskBytes = disk.Free(dir)
}

// RandomFloats returns n normal random numbers, the same each time: what measurements compute with.
func RandomFloats(n int) []float32 {
	rng := rand.New(rand.NewPCG(3, 4))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	return v
}

// least is the time for which a measurement repeats what it measures.
const least = 60 * time.Millisecond

// Time returns the seconds that f takes: the median of several runs, or that of one run that takes
// long. f runs once before.
func Time(ctx context.Context, f func() error) (float64, error) {
	if err := f(); err != nil {
		return 0, err
	}
	var times []float64
	for total := 0.0; len(times) < 3 || total < least.Seconds() && len(times) < 50; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		began := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		t := time.Since(began).Seconds()
		times = append(times, t)
		total += t
		if total > 0.5 {
			break
		}
	}
	return median(times), nil
}

// median returns the median of times, the lower one of two.
func median(times []float64) float64 {
	slices.Sort(times)
	return times[(len(times)-1)/2]
}
