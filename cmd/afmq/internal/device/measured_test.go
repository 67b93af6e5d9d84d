package device

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The ranges are those of the tables of docs/devices.md, without decoding in float32.
func TestMeasuredIsThatOfTheDocumentation(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "docs", "devices.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text2, ok := strings.Cut(string(text), "## Comparison with measurements")
	if !ok {
		t.Fatal("the page has no measurements")
	}
	var got Measured
	rows := 0
	for _, line := range strings.Split(text2, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || strings.Contains(line, "tokens/s, `--compute f32`") {
			continue
		}
		low, high := &got.DecodeLow, &got.DecodeHigh
		if strings.Contains(cells[1], "first token") {
			low, high = &got.FirstTokenLow, &got.FirstTokenHigh
		} else if !strings.Contains(cells[1], "tokens/s") {
			continue
		}
		rows++
		for _, n := range regexp.MustCompile(`[0-9.]+`).FindAllString(cells[4], -1) {
			v, err := strconv.ParseFloat(n, 64)
			if err != nil {
				t.Fatal(err)
			}
			if *low == 0 || v < *low {
				*low = v
			}
			*high = max(*high, v)
		}
	}
	if rows != 8 {
		t.Fatalf("the tables have %d rows", rows)
	}
	got.FirstTokenLow = float64(int(10*got.FirstTokenLow)) / 10 // 1.34
	if got != measured {
		t.Errorf("the documentation has %+v; the program prints %+v", got, measured)
	}
}

func TestMeasuredRanges(t *testing.T) {
	if got := measured.Rate(50); got != "37.0–43.5" {
		t.Errorf("the rate is %s", got)
	}
	if got := measured.FirstToken(0.01); got != "13–39 ms" {
		t.Errorf("the time is %s", got)
	}
}
