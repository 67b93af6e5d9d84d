package main

import (
	"fmt"

	"afmq/pkg/artifact"
	"afmq/pkg/quantize"
)

// The group sizes that are compared: half and twice the default, 16 rows.
var groupSizes = []int{8, 16, 32}

// groupRows prints the size and the divergence of the model at each width and group size,
// compensated, as the rows of a table in Markdown.
func (b *bench) groupRows() error {
	fmt.Println("| bits | rows of a table | model.safetensors, bytes | bits per weight | mean KL | perplexity ratio |")
	fmt.Println("| --- | --- | --- | --- | --- | --- |")
	for _, bits := range []int{4, 3, 2} {
		for _, rows := range groupSizes {
			p, err := b.measure(quantize.Options{Bits: bits, GroupRows: rows, Compensate: artifact.GPTQ})
			if err != nil {
				return err
			}
			fmt.Printf("| %d | %d | %d | %.4f | %.5f | %.4f |\n", bits, rows, p.bytes, p.BPW, p.KL, p.PerplexityRatio)
		}
	}
	return nil
}
