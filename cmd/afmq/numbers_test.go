package main

import (
	"math"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestParseRise(t *testing.T) {
	for s, want := range map[string]float64{"5%": 0.05, "1.05x": 0.05, "0.1 %": 0.001, "500%": 5, "6x": 5, "1.5×": 0.5, "1e-3%": 1e-5} {
		if got, err := parseRise("f", s); err != nil || math.Abs(got-want) > 1e-15 {
			t.Errorf("%s is %v, %v; expected %v", s, got, err, want)
		}
	}
	for s, want := range map[string]string{
		"5":     "--f 5 has no unit: write 5% (a factor of 1.05x) or 500% (a factor of 6x)",
		"0.05":  "--f 0.05 has no unit: write 0.05% (a factor of 1.0005x) or 5% (a factor of 1.05x)",
		"1.05":  "--f 1.05 has no unit: write 1.05% (a factor of 1.0105x) or 5% (a factor of 1.05x)",
		"1":     "--f 1 has no unit: write 1% (a factor of 1.01x) or 100% (a factor of 2x)",
		"0":     "--f 0 is not above 0% (a factor of 1x)",
		"0%":    "is not above 0%",
		"-3%":   "is not above 0%",
		"1x":    "is not above 0%",
		"0.98x": "is not above 0%",
		"many":  `--f "many" is neither a percentage such as 2% nor a factor such as 1.02x`,
		"5x%":   "is neither",
		"5%%":   "is neither",
		"%":     "is neither",
		"NaN%":  "is neither",
		"Infx":  "is neither",
		"5 dB":  "is neither",
		"2e9%":  "is neither",
	} {
		if got, err := parseRise("f", s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %v, %v; expected the error %s", s, got, err, want)
		}
	}
}

// A limit so large that it was probably meant in another unit gives a warning.
func TestLargeRiseWarns(t *testing.T) {
	for given, want := range map[string]string{
		"100x": "--max-ppl-increase 100x allows a perplexity of 100 times the reference's; 2% and 1.02x are the same limit",
		"200%": "--max-ppl-increase 200% allows a perplexity of 3 times the reference's; 2% and 1.02x are the same limit",
		"5%":   "", "1.5x": "", "": "",
	} {
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		f.String("max-ppl-increase", given, "")
		if got := strings.Join(limitWarnings(f), "\n"); got != want {
			t.Errorf("%s: %q, want %q", given, got, want)
		}
	}
}

func TestParseCountAndSize(t *testing.T) {
	for s, want := range map[string]int64{"4096": 4096, "16k": 16000, "4.35k": 4350, "0.1M": 100000, "2B": 2e9} {
		if got, err := parseCount("f", s); err != nil || got != want {
			t.Errorf("%s is %d, %v; expected %d", s, got, err, want)
		}
	}
	for _, s := range []string{"2.5", "0.0001k", "1.0005k", "0", "k", "2 KB"} {
		if got, err := parseCount("f", s); err == nil {
			t.Errorf("%q is %d", s, got)
		}
	}
	for s, want := range map[string]int64{"400MB": 4e8, "400B": 400, "1.1GiB": 1181116006, "0.3 KiB": 307, "65536": 65536, "700000": 700000} {
		if got, err := parseSize("f", s); err != nil || got != want {
			t.Errorf("%s is %d, %v; expected %d", s, got, err, want)
		}
	}
	for s, want := range map[string]string{
		"400":   "--f 400 has no unit: write 400MB, or 400B for bytes",
		"1.5":   "--f 1.5 has no unit: write 1.5MB",
		"65535": "has no unit",
		"400M":  "is not a size such as 400MB",
	} {
		if got, err := parseSize("f", s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %d, %v; expected the error %s", s, got, err, want)
		}
	}
}
