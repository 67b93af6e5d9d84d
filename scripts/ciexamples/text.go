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
				pick("The old man,The captain,His wife,A stranger,The boy,My brother,The youngest sister,An old woman,The doctor,Two sailors,Her uncle,The teacher,Every child,The king"),
				pick("walked,came back,went down,was on the way,ran,hurried,rode,had returned,turned,went back,drove"), pick("slowly,in the morning,at last,without a word,with the others,before dawn,after dinner,that night,through the snow,with a lantern,on Sunday"),
				pick("river,house,town,garden,ship,church,mountain,mill,bridge,market,forest,castle,harbour,school,station"), pick("there,on the way,in the evening,once more,by the gate,near the wall,under a tree,at noon,far away,in silence"),
				pick("he saw,she found,nobody knew,they took,we left,someone hid,I remembered,he sold,she carried,the dog followed,all admired"), pick("letter,horse,door,child,fire,key,money,lamp,book,knife,picture,basket,ring,clock,coat")))
		}
		line, err := json.Marshal(map[string]string{"text": strings.Join(text, " ")})
		if err != nil {
			return err
		}
		b.Write(append(line, '\n'))
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}
