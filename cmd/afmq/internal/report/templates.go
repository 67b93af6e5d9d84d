package report

import (
	_ "embed"
	"html/template"

	"afmq/pkg/gate"
)

//go:embed summary.html
var summaryText string

//go:embed samples.html
var samplesText string

//go:embed evaluations.html
var evaluationsText string

//go:embed comparison.html
var comparisonText string

//go:embed commands.html
var commandsText string

//go:embed summary.css
var summaryCSS template.CSS

// summaryFuncs are the functions of these templates.
var summaryFuncs = template.FuncMap{
	"summaryCSS":  func() template.CSS { return summaryCSS },
	"half":        half,
	"outcomeWord": func(o gate.Outcome) string { return checkWords[o] },
	"outcomeClass": func(o gate.Outcome) string {
		switch o {
		case gate.Worse:
			return " bad"
		case gate.Inconclusive:
			return " open"
		}
		return ""
	},
}

// checkWords name the outcomes of single checks for people, as the gate prints them.
var checkWords = map[gate.Outcome]string{gate.NoWorse: "no worse:", gate.Worse: "WORSE:", gate.Inconclusive: "NOT ENOUGH TEXT:"}
