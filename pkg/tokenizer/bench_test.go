package tokenizer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sample returns 1 MB of the golden texts' sentences.
func sample(b *testing.B) string {
	texts := loadFixtures(b).texts
	var s strings.Builder
	for i := 0; s.Len() < 1<<20; i++ {
		if t := texts[i*17%len(texts)]; len(t) > 40 {
			s.WriteString(t + " ")
		}
		s.WriteString("and ")
	}
	return s.String()
}

func benchmarkEncode(b *testing.B, tok *Tokenizer, text string) {
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		tok.Encode(text, false)
	}
}

// BenchmarkEncode measures pipelines of each kind on text from the fixtures.
func BenchmarkEncode(b *testing.B) {
	for _, name := range []string{"gpt2", "llama3", "qwen2", "smollm", "llama2", "stories", "metaspace-first-split"} {
		b.Run(name, func(b *testing.B) { benchmarkEncode(b, byName(b, name).tokenizer, sample(b)) })
	}
}

// BenchmarkModels measures the tokenizers in the optional data directory next to the
// repository on a novel.
func BenchmarkModels(b *testing.B) {
	dir := os.Getenv("AFMQ_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	text, err := os.ReadFile(filepath.Join(dir, "corpora", "public.txt"))
	if err != nil {
		b.Skip("no optional data: ", err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "models", "*", "tokenizer.json"))
	for _, file := range files {
		b.Run(filepath.Base(filepath.Dir(file)), func(b *testing.B) {
			tok, err := Load(file)
			if err != nil {
				b.Fatal(err)
			}
			benchmarkEncode(b, tok, string(text))
		})
	}
}

func BenchmarkParse(b *testing.B) {
	data := byName(b, "llama2").file
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Parse("bench", data); err != nil {
			b.Fatal(err)
		}
	}
}
