package model

import (
	"strings"
	"testing"

	"afmq/pkg/fault"
)

// A tokenizer that can emit an id beyond the embedding is refused.
func TestOpenTokenizerRefuses(t *testing.T) {
	cfg, err := LoadConfig("../../internal/demo/model")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTokenizer("../../internal/demo/model", cfg); err != nil {
		t.Fatal(err)
	}
	small := *cfg
	small.VocabSize = 2047
	if _, err := OpenTokenizer("../../internal/demo/model", &small); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "id 2047") {
		t.Errorf("got %v", err)
	}
}
