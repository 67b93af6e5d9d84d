package infer

import (
	"strings"
	"testing"

	"afmq/internal/fault"
)

// A tokenizer that can emit an id beyond the embedding is refused.
func TestOpenTokenizerRefuses(t *testing.T) {
	cfg, err := LoadConfig(tinyModel)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTokenizer(tinyModel, cfg); err != nil {
		t.Fatal(err)
	}
	small := *cfg
	small.VocabSize = 2047
	if _, err := OpenTokenizer(tinyModel, &small); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "id 2047") {
		t.Errorf("got %v", err)
	}
}
