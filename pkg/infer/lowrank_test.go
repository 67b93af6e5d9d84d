package infer

import (
	"testing"

	"afmq/pkg/adapter"
)

// TestWithAdapterSharesTheBase checks that neither the model nor another view of it sees
// an adapter.
func TestWithAdapterSharesTheBase(t *testing.T) {
	pool := newPool(t, 1)
	m := openFixture(t, adapterModel, pool)
	a, err := adapter.Read(adapterFixture, m.Config)
	if err != nil {
		t.Fatal(err)
	}
	with := m.WithAdapter(a)
	if m.Blocks[0].Q.Adapter != nil || with.Blocks[0].Q.Adapter == nil || with.Blocks[0].Q.Weight != m.Blocks[0].Q.Weight {
		t.Error("the model changed, or its weights were copied")
	}
}
