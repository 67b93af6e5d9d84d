package ggufmodel

import "strings"

// Types of tokens (enum llama_token_type in llama.h), the values of tokenizer.ggml.token_type.
const (
	NormalToken  = 1
	UnknownToken = 2
	ControlToken = 3 // matched in a text only where special tokens are parsed
	UserToken    = 4 // matched in every text
	UnusedToken  = 5
	ByteToken    = 6
)

// Values of tokenizer.ggml.model.
const (
	ByteLevel     = "gpt2"  // byte-level BPE
	SentencePiece = "llama" // BPE on characters with a visible space, by scores
)

// Space is the character that stands for a space in SentencePiece's tokens.
const Space = "▁"

// preTokenizer is a pre-tokenizer of byte-level BPE that llama.cpp has.
type preTokenizer struct {
	// names are values of tokenizer.ggml.pre. The first is the one that is written. All have the
	// same expressions in llm_tokenizer_bpe and the same settings in llama-vocab.cpp.
	names        []string
	expression   string // of the steps, as tokenizer.Expression knows it
	digits       bool   // single digits are split off before
	ignoreMerges bool   // a word that is a token is not divided
	addBOS       bool   // where the file does not say it
}

var preTokenizers = []preTokenizer{
	{expression: "gpt-2", names: []string{
		"gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum", "modern-bert", "exaone4", "mpt", "olmo", "jais", "trillion", "granite-docling",
	}},
	{expression: "gpt-2", digits: true, names: []string{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"}},
	{expression: "llama-3", names: []string{"dbrx", "smaug-bpe"}},
	{expression: "llama-3", ignoreMerges: true, addBOS: true, names: []string{
		"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano",
	}},
	{expression: "qwen2", names: []string{"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open"}},
	{expression: "gpt-4o", names: []string{"gpt-4o", "llama4", "kanana2", "talkie"}},
	{expression: "tekken", ignoreMerges: true, addBOS: true, names: []string{"tekken"}},
}

// steps returns the steps as [tokenizer.Description] has them.
func (p *preTokenizer) steps() string {
	s := "Split " + p.expression + " Isolated, ByteLevel"
	if p.digits {
		s = "Digits individual, " + s
	}
	return s
}

// PreTokenizer returns llama.cpp's name of a byte-level pre-tokenizer, by its steps, joined by
// ", ", and whether merges are ignored for words that are tokens; or false if it has none.
func PreTokenizer(steps string, ignoreMerges bool) (string, bool) {
	for _, p := range preTokenizers {
		if p.steps() == steps && p.ignoreMerges == ignoreMerges {
			return p.names[0], true
		}
	}
	return "", false
}

// IsByteToken reports whether a token is one like <0xE2>.
func IsByteToken(s string) bool {
	return len(s) == 6 && strings.HasPrefix(s, "<0x") && s[5] == '>' &&
		strings.Trim(s[3:5], "0123456789ABCDEF") == ""
}
