package infer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"afmq/internal/demo"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
)

// endsAfter is a context that ends after its error was asked for so many times.
type endsAfter struct {
	context.Context
	left atomic.Int64
}

func (c *endsAfter) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

// Generate returns a text or an error, wherever in a pass the context ends.
func TestGenerateCancelled(t *testing.T) {
	pool := compute.NewPool(2)
	defer pool.Close()
	dir := t.TempDir() + "/model"
	if err := demo.Extract(dir); err != nil {
		t.Fatal(err)
	}
	m, err := infer.Open(t.Context(), dir, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	for n := int64(0); n < 300; n += 7 {
		ctx := &endsAfter{Context: t.Context()}
		ctx.left.Store(n)
		g, err := m.Generate(ctx, []int32{1, 2, 3}, infer.GenerateOptions{MaxTokens: 200, IgnoreEOS: true, Pool: pool})
		if g != nil || !errors.Is(err, context.Canceled) {
			t.Fatalf("after %d checks: %v, %v", n, g, err)
		}
	}
}
