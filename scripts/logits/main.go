// Command logits writes what the engine computes for a text, for comparisons with other programs.
//
//	go run ./scripts/logits -model DIR -data FILE -out FILE.safetensors [-bytes N] [-ctx N] [-adapter DIR]
//
// The file has the token ids, ids [n], and the logits after each token in float32 arithmetic,
// logits [n, vocab]. The text is divided into windows of -ctx tokens, each without those before it.
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"log"
	"os"
	"strings"

	"afmq/pkg/compute"
	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
)

func main() {
	dir := flag.String("model", "", "checkpoint or artifact")
	data := flag.String("data", "", "text")
	out := flag.String("out", "", "file to write")
	size := flag.Int("bytes", 20000, "bytes of the text")
	ctx := flag.Int("ctx", 256, "tokens of a window")
	lora := flag.String("adapter", "", "directory of an adapter")
	flag.Parse()
	log.SetFlags(0)
	if err := run(*dir, *data, *out, *lora, *size, *ctx); err != nil {
		log.Fatal(err)
	}
}

func run(dir, data, out, lora string, size, window int) error {
	pool := compute.NewPool(0)
	defer pool.Close()
	m, err := infer.Open(context.Background(), dir, infer.OpenOptions{Pool: pool})
	if err != nil {
		return err
	}
	if lora != "" {
		a, err := m.OpenAdapter(lora, true)
		if err != nil {
			return err
		}
		m = m.WithAdapter(a)
	}
	text, err := os.ReadFile(data)
	if err != nil {
		return err
	}
	ids := m.Tokenizer.Encode(strings.ToValidUTF8(string(text[:min(size, len(text))]), ""), true).IDs
	w, err := safetensors.Create(out, []safetensors.Info{
		{Name: "ids", DType: safetensors.I32, Shape: []int{len(ids)}},
		{Name: "logits", DType: safetensors.F32, Shape: []int{len(ids), m.Config.VocabSize}},
	}, nil)
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := write(w, ids); err != nil {
		return err
	}
	runner, cache, logits := m.NewRunner(pool), m.NewCache(window), make([]float32, window*m.Config.VocabSize)
	for at := 0; at < len(ids); at += window {
		part := ids[at:min(at+window, len(ids))]
		cache.Reset()
		x := logits[:len(part)*m.Config.VocabSize]
		runner.Logits(x, runner.Forward([]infer.Segment{{Cache: cache, Tokens: part}}), len(part))
		if err := write(w, x); err != nil {
			return err
		}
	}
	return w.Close()
}

func write(w *safetensors.Writer, values any) error {
	data, err := binary.Append(nil, binary.LittleEndian, values)
	if err != nil {
		return err
	}
	return w.Append(data)
}
