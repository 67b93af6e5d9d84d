package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
)

// writeTexts writes n texts of a few sentences each, drawn by the seed.
func writeTexts(path string, seed uint64, n int) error {
	rng := rand.New(rand.NewPCG(seed, 0))
	pick := func(words string) string {
		list := strings.Split(words, ",")
		return list[rng.IntN(len(list))]
	}
	var b bytes.Buffer
	for range n {
		var text []string
		for range 6 + rng.IntN(6) {
			text = append(text, fmt.Sprintf("%s %s %s to the %s, and %s %s the %s.",
				pick("The old man,The captain,His wife,A stranger,The boy,My brother,The youngest sister"),
				pick("walked,came back,went down,was on the way,ran"), pick("slowly,in the morning,at last,without a word,with the others"),
				pick("river,house,town,garden,ship,church,mountain"), pick("there,on the way,in the evening,once more"),
				pick("he saw,she found,nobody knew,they took,we left"), pick("letter,horse,door,child,fire,key,money")))
		}
		line, err := json.Marshal(map[string]string{"text": strings.Join(text, " ")})
		if err != nil {
			return err
		}
		b.Write(append(line, '\n'))
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}
