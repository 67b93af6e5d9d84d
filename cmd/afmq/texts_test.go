package main

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
)

// sampleText is a plain English text without repetition, long enough for several windows.
var sampleText = prose(60)

// prose returns so many sentences, each of parts drawn from short lists. The same sentence
// hardly comes twice.
func prose(sentences int) string {
	parts := [][]string{
		{"The old man", "A young woman", "His brother", "The captain", "Her mother", "The tall stranger", "One of the boys", "The doctor"},
		{"walked down to", "looked out over", "came back from", "stood for an hour at", "was waiting beside", "had never seen", "ran along", "sat down near"},
		{"the river", "the harbour", "the white house", "the garden wall", "the bridge", "the church", "the sea", "the old mill"},
		{"in the morning", "before the rain", "without a word", "on a cold evening", "after the long journey", "that summer", "at noon", "in the dark"},
		{"and said", "and thought", "and told his friend", "and knew", "and remembered", "and could not believe"},
		{"that the water was high.", "that it would be too late.", "that nobody had been there.", "that the boats were gone.", "that they must wait.",
			"that the fish would not run away.", "that the money was lost.", "that a letter had come.", "that there was still time."},
	}
	rng := rand.New(rand.NewPCG(3, 4))
	var b strings.Builder
	for i := range sentences {
		for k, choices := range parts {
			if k > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(choices[rng.IntN(len(choices))])
		}
		if b.WriteByte(' '); i%5 == 4 {
			b.WriteString("\n\n")
		}
	}
	return b.String()
}

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
