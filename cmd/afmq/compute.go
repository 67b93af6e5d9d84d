package main

import (
	"github.com/spf13/pflag"

	"afmq/pkg/compute"
	"afmq/pkg/fault"
)

// computeFlag is the arithmetic of a command's products.
type computeFlag struct{ name string }

const computeHelp = "`ARITHMETIC` of products: f32, i16, split, bf16, or auto for the fastest that is nearly as exact as f32; afmq version lists what this machine has"

// register adds the flag. Commands that write files default to f32, which is the same on
// every machine.
func (c *computeFlag) register(f *pflag.FlagSet, value string) {
	f.StringVar(&c.name, "compute", value, computeHelp)
}

// choose returns the arithmetic; auto looks at whether products are of one row, as in
// decoding, or of many.
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
