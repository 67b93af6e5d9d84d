package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strings"

	"afmq/cmd/afmq/internal/chart"
	"afmq/internal/disk"
	"afmq/internal/units"
)

//go:embed page.html
var pageText string

//go:embed layers.html
var layersText string

//go:embed histogram.html
var histogramText string

//go:embed page.css
var pageCSS template.CSS

// colors is the number of different series colors.
const colors = 7

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"css":         func() template.CSS { return pageCSS + chart.CSS },
	"size":        units.Size,
	"thousands":   func(n any) string { return units.Thousands(toInt(n)) },
	"nats":        nats,
	"lines":       func(s string) []string { return strings.Split(s, "\n") },
	"fixed":       func(decimals int, v float64) string { return fmt.Sprintf("%.*f", decimals, v) },
	"sig":         func(digits int, v float64) string { return fmt.Sprintf("%.*g", digits, v) },
	"percent":     func(decimals int, v float64) string { return fmt.Sprintf("%.*f %%", decimals, 100*v) },
	"change":      func(ratio float64) string { return fmt.Sprintf("%+.2f %%", 100*(ratio-1)) },
	"show":        show,
	"div":         func(a, b float64) float64 { return a / b },
	"bytes":       func(v float64) int64 { return int64(v) },
	"span":        units.Span,
	"rate":        units.Rate,
	"heatClasses": heatClasses,
	"px":          func(v float64) string { return fmt.Sprintf("%.2f", v) },
}).Funcs(summaryFuncs).Parse(pageText + summaryText + samplesText + evaluationsText + comparisonText + commandsText + layersText + histogramText))

func toInt(n any) int64 {
	if i, ok := n.(int); ok {
		return int64(i)
	}
	return n.(int64)
}

// HTML returns the page.
func (r *Report) HTML() ([]byte, error) {
	var b bytes.Buffer
	if err := page.Execute(&b, r); err != nil {
		return nil, fmt.Errorf("writing the page: %w", err)
	}
	return b.Bytes(), nil
}

// Write writes the page atomically to a file that must not exist, and returns its size.
func (r *Report) Write(path string) (int, error) {
	data, err := r.HTML()
	if err != nil {
		return 0, err
	}
	return len(data), disk.WriteNewFile(path, data)
}

// nats formats a divergence with a number of decimals that depends on its magnitude.
func nats(v float64) string {
	switch {
	case v == 0:
		return "0"
	case math.Abs(v) < 1e-5:
		return fmt.Sprintf("%.2g", v)
	case math.Abs(v) < 1:
		return fmt.Sprintf("%.5f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// decimals returns the number of decimals, 2 to 7, that gives a number four digits.
func decimals(most float64) int {
	if !(most > 0) {
		return 2
	}
	return min(max(3-int(math.Floor(math.Log10(most))), 2), 7)
}

// thousandths returns the unit of a table whose largest number is most, which is a power of a
// thousand, the number of decimals, and the label of the unit.
func thousandths(most float64) (unit float64, decimals int, label string) {
	if !(most > 0) {
		return 1, 3, ""
	}
	exponent := 3 * int(math.Floor(math.Log10(most)/3))
	unit = math.Pow(10, float64(exponent))
	switch {
	case most/unit >= 100:
		decimals = 1
	case most/unit >= 10:
		decimals = 2
	default:
		decimals = 3
	}
	if exponent != 0 {
		label = "× 10" + superscript(exponent)
	}
	return unit, decimals, label
}

func superscript(n int) string {
	return strings.NewReplacer("-", "⁻", "0", "⁰", "1", "¹", "2", "²", "3", "³", "4", "⁴", "5", "⁵", "6", "⁶", "7", "⁷", "8", "⁸", "9", "⁹").Replace(fmt.Sprint(n))
}
