package report

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/sensitivity"
)

// The map has the figures of the manifest and of the scores, read independently; larger values
// have darker colors.
func TestHeatMapHasTheFiguresOfTheFiles(t *testing.T) {
	r, page := mustMake(t, everything(t))
	m, err := artifact.ReadManifest(in("mixed"))
	if err != nil {
		t.Fatal(err)
	}
	scores, err := sensitivity.ReadScores(in("scores.json"))
	if err != nil {
		t.Fatal(err)
	}
	heat := r.section(t, "bits").(*Bits).Heat
	var names []string
	for _, q := range heat.Quantities {
		names = append(names, q.Name)
	}
	if strings.Join(names, " ") != "Bits Sensitivity Size Error" {
		t.Fatalf("the quantities are %v", names)
	}
	type seen struct {
		value float64
		step  int
	}
	of := make([][]seen, len(names))
	modules := slices.DeleteFunc(m.Plan.Modules, func(r artifact.ModuleRecord) bool { return r.Form != artifact.Palette })
	module := 0
	for _, l := range heat.Layers {
		for _, c := range l.Cells {
			rec := modules[module]
			costs := scores.Modules[module].Costs
			if rec.Name != c.Name || scores.Modules[module].Name != c.Name {
				t.Fatalf("module %d is %s, not %s", module, c.Name, rec.Name)
			}
			if *c.Score != costs[0] || *c.Loss != costs[slices.Index(scores.Bits, rec.Bits)] {
				t.Errorf("%s has scores %v and %v, expected some of %v", c.Name, *c.Score, *c.Loss, costs)
			}
			want := []float64{float64(rec.Bits), costs[0], float64(rec.Bytes), rec.RelError}
			unit := []float64{1, 0, 1.0 / 1024, 100}
			for q, v := range want {
				of[q] = append(of[q], seen{v, c.Values[q].Step})
				got, err := strconv.ParseFloat(c.Values[q].Text, 64)
				if err != nil || unit[q] > 0 && math.Abs(got-v*unit[q]) > 0.006*v*unit[q] {
					t.Errorf("%s: %s is %q for %v", c.Name, names[q], c.Values[q].Text, v)
				}
			}
			module++
		}
	}
	for q, values := range of {
		slices.SortFunc(values, func(a, b seen) int { return int(math.Copysign(1, a.value-b.value)) })
		for i := 1; i < len(values); i++ {
			if values[i].value > values[i-1].value && values[i].step < values[i-1].step {
				t.Errorf("%s: %v has a lighter color than %v", names[q], values[i], values[i-1])
			}
		}
		if first, last := values[0].step, values[len(values)-1].step; last <= first || last >= heatSteps {
			t.Errorf("%s: colors from %d to %d", names[q], first, last)
		}
	}
	if want := fmt.Sprintf("<b>layer 3, down</b><span>%d bits,", modules[27].Bits); !strings.Contains(page, want) {
		t.Errorf("no cell has the tooltip %q", want)
	}
}

// Without scores the map has no sensitivity.
func TestHeatMapWithoutScores(t *testing.T) {
	r, page := mustMake(t, Options{Artifact: in("mixed")})
	heat := r.section(t, "bits").(*Bits).Heat
	if len(heat.Quantities) != 3 || strings.Contains(page, `for="heat-3"`) || !strings.Contains(page, `for="heat-2"`) {
		t.Errorf("the map has quantities %v", heat.Quantities)
	}
}

// section returns the data of a section.
func (r *Report) section(t *testing.T, id string) any {
	t.Helper()
	i := slices.IndexFunc(r.Sections, func(s Section) bool { return s.ID == id })
	if i < 0 {
		t.Fatalf("there is no section %s", id)
	}
	return r.Sections[i].Data
}

// The colors of the map run from light to dark in light mode, and from dark to light in dark
// mode, so that they can be told apart by lightness alone. The text of each has the contrast of
// WCAG 2, level AA.
func TestHeatColors(t *testing.T) {
	css := string(pageCSS)
	roots := strings.Split(css, ":root{")[1:4]
	for i, name := range []string{"light", "dark", "print"} {
		vars := map[string]float64{}
		for _, m := range regexp.MustCompile(`--(\w+):#(\w{3,6})\b`).FindAllStringSubmatch(strings.SplitN(roots[i], "}", 2)[0], -1) {
			vars[m[1]] = luminance(t, m[2])
		}
		for step := range heatSteps {
			rule := regexp.MustCompile(fmt.Sprintf(`\.h%d\{background:var\(--(\w+)\);color:var\(--(\w+)\)\}`, step)).FindStringSubmatch(css)
			if rule == nil {
				t.Fatalf("there is no color %d", step)
			}
			a, b := vars[rule[1]], vars[rule[2]]
			if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < 4.5 {
				t.Errorf("%s: color %d has a contrast of %.2f", name, step, ratio)
			}
			if step > 0 {
				if before := vars[fmt.Sprintf("h%d", step-1)]; (a < before) != (name != "dark") || max(a, before)/min(a, before) < 1.1 {
					t.Errorf("%s: colors %d and %d have luminances %.3f and %.3f", name, step-1, step, before, a)
				}
			}
		}
	}
}

// luminance is the relative luminance of WCAG 2.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	n, err := strconv.ParseUint(hex, 16, 24)
	if err != nil {
		t.Fatal(err)
	}
	linear := func(c uint64) float64 {
		v := float64(c&255) / 255
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(n>>16) + 0.7152*linear(n>>8) + 0.0722*linear(n)
}

// The sums of a layer have enough decimals at every width to tell them apart.
func TestSumsHaveDigits(t *testing.T) {
	d := &Sensitivity{Widths: []int{2, 8}, Layers: []ScoreLayer{{Sums: []float64{0.05, 0.0000172}}, {Sums: []float64{1.23, 0.0000266}}}}
	if got := d.Decimals(); !slices.Equal(got, []int{3, 7}) {
		t.Errorf("the decimals are %v", got)
	}
}

func TestThreeDigits(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.123: "0.12", 1.234: "1.23", 9.996: "10.0", 12.34: "12.3", 99.96: "100", 1234: "1234"} {
		if got := three(v); got != want {
			t.Errorf("%v is %s, expected %s", v, got, want)
		}
	}
}

// Scores of palettes that are stored otherwise predict no loss of the artifact's modules.
func TestScoresOfOtherStorage(t *testing.T) {
	r, page := mustMake(t, Options{Artifact: in("two"), Scores: in("scores.json")}) // without row scales
	for _, l := range r.section(t, "bits").(*Bits).Heat.Layers {
		for _, c := range l.Cells {
			if c.Loss != nil || c.Score == nil {
				t.Fatalf("%s has the predicted loss %v", c.Name, c.Loss)
			}
		}
	}
	if w := r.section(t, "weights").(*Weights); w.By != byError || strings.Contains(page, "predicted loss") {
		t.Errorf("the matrices are chosen by %s", w.By)
	}
}
