package infer

import (
	"context"
	"testing"

	"afmq/pkg/compute"
	"afmq/pkg/model"
)

// tinyModel is the trained checkpoint that the project embeds: 1.07 M
// parameters, tied, F16.
const tinyModel = "../../internal/demo/model"

// adapterFixture is an adapter that PEFT wrote, and the checkpoint that it is for.
const (
	adapterFixture = "../recovery/testdata/llama"
	adapterModel   = fixtures + "/llama-biases"
)

var bg = context.Background()

func openTiny(t testing.TB, pool *compute.Pool) *Model {
	t.Helper()
	m, err := Open(bg, tinyModel, OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// projectionKinds returns the kinds of the projections of a layer.
func projectionKinds(m *Model) (kinds []string) {
	for _, s := range m.Config.Tensors() {
		if s.Role == model.Projection && s.Layer == 0 {
			kinds = append(kinds, s.Kind)
		}
	}
	return kinds
}

func loadConfig(t testing.TB, dir string) *model.Config {
	t.Helper()
	cfg, err := model.LoadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
