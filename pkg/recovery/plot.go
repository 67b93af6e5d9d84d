package recovery

import (
	"bytes"
	"fmt"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// palette has colours that colour-blind readers can distinguish (Okabe and Ito 2008).
var palette = []color.RGBA{{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {230, 159, 0, 255}, {86, 180, 233, 255}}

// lossPlot draws the smoothed loss of every adapter against the tokens trained on and, with a
// teacher, its divergence on the validation text. It returns SVG.
func lossPlot(metrics []Metric) ([]byte, error) {
	p := plot.New()
	p.X.Label.Text = "tokens trained on"
	p.Y.Label.Text = "nats per token"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	var ranks []int
	loss, held := map[int]plotter.XYs{}, map[int]plotter.XYs{}
	mean := map[int]float64{}
	for _, m := range metrics {
		if _, seen := loss[m.Rank]; !seen {
			ranks = append(ranks, m.Rank)
			loss[m.Rank] = nil
		}
		x := float64(m.Tokens)
		if m.Loss != nil && *m.Loss > 0 {
			if _, begun := mean[m.Rank]; !begun {
				mean[m.Rank] = *m.Loss
			}
			mean[m.Rank] += 0.1 * (*m.Loss - mean[m.Rank])
			loss[m.Rank] = append(loss[m.Rank], plotter.XY{X: x, Y: mean[m.Rank]})
		}
		if m.KL != nil && *m.KL > 0 {
			held[m.Rank] = append(held[m.Rank], plotter.XY{X: x, Y: *m.KL})
		}
	}
	for i, r := range ranks {
		c := palette[i%len(palette)]
		if err := addLine(p, loss[r], c, 0.7, nil, fmt.Sprintf("rank %d, training loss", r)); err != nil {
			return nil, err
		}
		if err := addLine(p, held[r], c, 1.6, []vg.Length{vg.Points(4), vg.Points(2)}, fmt.Sprintf("rank %d, divergence on validation text", r)); err != nil {
			return nil, err
		}
	}
	return svg(p)
}

// curvePlot draws the divergence on the test text against the adapter's size. It returns SVG.
func curvePlot(adapters []AdapterResult) ([]byte, error) {
	p := plot.New()
	p.X.Label.Text = "adapter, MiB"
	p.Y.Label.Text = "KL to the teacher on test text, nats per token"
	p.Add(plotter.NewGrid())
	after := plotter.XYs{}
	var labels []string
	for _, a := range adapters {
		if a.Test == nil || a.Test.KLAfter == nil {
			continue
		}
		after = append(after, plotter.XY{X: float64(a.Bytes) / (1 << 20), Y: *a.Test.KLAfter})
		labels = append(labels, fmt.Sprintf(" rank %d", a.Rank))
	}
	line, points, err := plotter.NewLinePoints(after)
	if err != nil {
		return nil, err
	}
	line.Color, points.Color = palette[0], palette[0]
	names, err := plotter.NewLabels(plotter.XYLabels{XYs: after, Labels: labels})
	if err != nil {
		return nil, err
	}
	p.Add(line, points, names)
	p.Y.Min = 0
	return svg(p)
}

func addLine(p *plot.Plot, xy plotter.XYs, c color.Color, width float64, dashes []vg.Length, name string) error {
	if len(xy) == 0 {
		return nil
	}
	line, err := plotter.NewLine(xy)
	if err != nil {
		return err
	}
	line.Color, line.Width, line.Dashes = c, vg.Points(width), dashes
	p.Add(line)
	p.Legend.Add(name, line)
	return nil
}

func svg(p *plot.Plot) ([]byte, error) {
	w, err := p.WriterTo(18*vg.Centimeter, 11*vg.Centimeter, "svg")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = w.WriteTo(&b)
	return b.Bytes(), err
}
