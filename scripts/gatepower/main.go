// Command gatepower estimates how often a gate reaches each verdict, by number of windows.
//
//	go run ./scripts/gatepower [flags] BASELINE NEW [BASELINE NEW]...
//
// BASELINE and NEW are baselines of two models on one text, recorded by afmq gate --update.
// Texts of n windows are resampled by the circular block bootstrap (Politis and Romano, 1992):
// blocks of consecutive windows from random starts, which preserve the correlation of
// neighbours. Each text is tested like in afmq gate. An entry has the shares, in per cent, of
// no worse / worse / inconclusive. In the rows "moved to the margin" a constant is added to
// the rises so that their mean is the margin; the share of "no worse" is then that of false
// passes, nominally 2.5 %. scripts/gate-power makes the artifacts and the recordings.
package main

import (
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"

	"afmq/pkg/gate"
)

func main() {
	log.SetFlags(0)
	var (
		margin = flag.Float64("max-nats", gate.DefaultNats, "margin for the rise of the loss, nats per token")
		klRise = flag.Float64("max-kl-rise", 0.002, "margin for the rise of the divergence, nats per token")
		sizes  = flag.String("windows", "5,8,20,50,100,200,400", "numbers of windows")
		block  = flag.Int("block", 20, "windows in a block")
		trials = flag.Int("trials", 2000, "resampled texts per entry")
	)
	flag.Parse()
	if flag.NArg() < 2 || flag.NArg()%2 != 0 {
		log.Fatal("usage: gatepower [flags] BASELINE NEW [BASELINE NEW]...")
	}
	var windows []int
	for _, s := range strings.Split(*sizes, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			log.Fatalf("%q is not a number of windows", s)
		}
		windows = append(windows, n)
	}
	fmt.Printf("| baseline, new | rise of | mean rise | margin | %s |\n", strings.ReplaceAll(*sizes, ",", " | "))
	fmt.Printf("| --- | --- | --- | --- |%s\n", strings.Repeat(" --- |", len(windows)))
	for i := 0; i < flag.NArg(); i += 2 {
		p, err := read(flag.Arg(i), flag.Arg(i+1))
		if err != nil {
			log.Fatal(err)
		}
		p.row("loss", p.nats, *margin, windows, *block, *trials)
		p.row("loss, moved to the margin", p.moved(p.nats, *margin), *margin, windows, *block, *trials)
		if p.kl != nil {
			p.row("divergence", p.kl, *klRise, windows, *block, *trials)
			p.row("divergence, moved to the margin", p.moved(p.kl, *klRise), *klRise, windows, *block, *trials)
		}
	}
}

// pair has the paired differences of two recordings, one for each window.
type pair struct {
	name             string
	tokens, nats, kl []float64
}

func read(baseline, now string) (*pair, error) {
	base, err := gate.ReadBaseline(baseline)
	if err != nil {
		return nil, err
	}
	next, err := gate.ReadBaseline(now)
	if err != nil {
		return nil, err
	}
	if d := base.Differs(&next.Setting); d != "" {
		return nil, fmt.Errorf("%s %s", baseline, d)
	}
	stem := func(path string) string { return strings.TrimSuffix(filepath.Base(path), ".json") }
	p := &pair{name: stem(baseline) + ", " + stem(now)}
	for i, w := range next.Windows {
		p.tokens = append(p.tokens, float64(w.Tokens))
		p.nats = append(p.nats, w.Nats-base.Windows[i].Nats)
		if w.KL != nil && base.Windows[i].KL != nil {
			p.kl = append(p.kl, *w.KL-*base.Windows[i].KL)
		}
	}
	return p, nil
}

func (p *pair) mean(rise []float64) float64 {
	iv, err := gate.MeanInterval(p.tokens, rise, gate.Confidence)
	if err != nil {
		log.Fatalf("%s: %v", p.name, err)
	}
	return iv.Mean
}

// moved returns the rises plus the constant that makes their mean the margin.
func (p *pair) moved(rise []float64, margin float64) []float64 {
	by := margin - p.mean(rise)
	out := make([]float64, len(rise))
	for i, v := range rise {
		out[i] = v + by
	}
	return out
}

// row prints the shares of the outcomes for each number of windows.
func (p *pair) row(quantity string, rise []float64, margin float64, windows []int, block, trials int) {
	fmt.Printf("| %s | %s | %+.5f | %g |", p.name, quantity, p.mean(rise), margin)
	for _, n := range windows {
		if n < gate.MinWindows {
			fmt.Print(" refused |")
			continue
		}
		share := p.draw(rise, margin, n, block, trials)
		fmt.Printf(" %.1f / %.1f / %.1f |", 100*share[gate.NoWorse], 100*share[gate.Worse], 100*share[gate.Inconclusive])
	}
	fmt.Println()
}

// draw returns the share of each outcome over texts of n windows.
func (p *pair) draw(rise []float64, margin float64, n, block, trials int) map[gate.Outcome]float64 {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	share := map[gate.Outcome]float64{}
	tokens, values := make([]float64, n), make([]float64, n)
	for range trials {
		for at := 0; at < n; at += block {
			start := r.IntN(len(rise))
			for i := at; i < min(at+block, n); i++ {
				from := (start + i - at) % len(rise)
				tokens[i], values[i] = p.tokens[from], rise[from]
			}
		}
		iv, err := gate.MeanInterval(tokens, values, gate.Confidence)
		if err != nil {
			log.Fatalf("%s: %v", p.name, err)
		}
		share[iv.Against(margin)] += 1 / float64(trials)
	}
	return share
}
