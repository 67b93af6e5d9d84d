package infile

import (
	"path/filepath"
	"strings"
)

// Hints for models in formats that most commands do not read.
const (
	ggufHint    = "eval-perplexity, generate, diff and inspect read the file itself; give other commands the safetensors checkpoint that it was made from"
	pytorchHint = "convert it with transformers: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OUT)"
)

// Foreign returns the format of a model in a file of this name, and a hint how to get the model
// in safetensors; "" for the name of any other file.
func Foreign(name string) (format, hint string) {
	name = strings.ToLower(filepath.Base(name))
	switch ext := filepath.Ext(name); {
	case ext == ".gguf":
		return "a GGUF file", ggufHint
	case ext == ".pth", ext == ".pt", ext == ".bin" && strings.HasPrefix(name, "pytorch_model"):
		return "a PyTorch checkpoint", pytorchHint
	}
	return "", ""
}
