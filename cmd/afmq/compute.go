package main

import (
	"github.com/spf13/pflag"

	"afmq/pkg/batch"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
)

// computeFlag is the arithmetic of a command's matrix products.
type computeFlag struct{ name string }

const (
	computeHelp = "`ARITHMETIC` of matrix products: f32, i16, split, bf16, or auto for the fastest that is nearly as exact as f32; afmq version lists those of this machine"
	verifyUsage = "hash the tensors of an artifact as they are loaded; false checks only names, types and shapes"
)

// register adds the flag. Commands that write files default to f32, which gives the same
// bits on every machine.
func (c *computeFlag) register(f *pflag.FlagSet, value string) {
	f.StringVar(&c.name, "compute", value, computeHelp)
}

// choose returns the arithmetic. That of auto depends on whether products have one row, as in
// decoding, or many.
func (c *computeFlag) choose(oneRow bool) (compute.Arithmetic, error) {
	if c.name == "auto" {
		return compute.Fastest(oneRow), nil
	}
	compute, err := compute.Parse(c.name)
	if err != nil {
		return compute, fault.Usagef("--compute: %v", err)
	}
	return compute, nil
}

// engine returns the options of an engine with the arithmetics: prompts have many rows, generated
// tokens few.
func (c *computeFlag) engine(a *app) (batch.Options, error) {
	opts := batch.Options{Pool: a.workers()}
	var err error
	if opts.Prefill, err = c.choose(false); err == nil {
		opts.Decode, err = c.choose(true)
	}
	return opts, err
}
