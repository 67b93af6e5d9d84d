package main

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
)

// trainingText returns a .jsonl file of 40 documents without repetition, for jobs that divide
// their text into parts that share none: sentences of words drawn from sampleText.
func trainingText() []byte {
	words := strings.Fields(sampleText)
	rng := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	e := json.NewEncoder(&b)
	for range 40 {
		var text []string
		for range 50 {
			text = append(text, words[rng.IntN(len(words))])
		}
		if err := e.Encode(map[string]string{"text": strings.Join(text, " ")}); err != nil {
			panic(err) // a string always encodes
		}
	}
	return []byte(b.String())
}
