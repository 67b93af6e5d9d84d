package units

import (
	"math"
	"testing"
)

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 5512088: "5.26 MiB", 3 << 30: "3.00 GiB", 1 << 52: "4096.00 TiB"} {
		if got := Size(n); got != want {
			t.Errorf("%d bytes are %s, expected %s", n, got, want)
		}
	}
}

func TestSpanAndRate(t *testing.T) {
	for n, want := range map[float64]string{5e-6: "5 µs", 0.01256: "12.6 ms", 0.9: "900 ms", 1: "1 s", 75.24: "75.2 s"} {
		if got := Span(n); got != want {
			t.Errorf("%v s are %s, expected %s", n, got, want)
		}
	}
	for n, want := range map[float64]string{0.517: "0.52", 31.44: "31.4", 99.96: "100.0", 24700.4: "24,700"} {
		if got := Rate(n); got != want {
			t.Errorf("%v a second are %s, expected %s", n, got, want)
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1000: "-1,000", -999: "-999", 5512088: "5,512,088", math.MinInt64: "-9,223,372,036,854,775,808"} {
		if got := Thousands(n); got != want {
			t.Errorf("%d is %s, expected %s", n, got, want)
		}
	}
}

func TestRanges(t *testing.T) {
	for got, want := range map[string]string{
		SpanRange(143e-6, 417e-6): "140–420 µs", SpanRange(0.51, 1.53): "0.51–1.5 s", SpanRange(0.0006, 0.002): "0.60–2.0 ms", SpanRange(12, 36): "12–36 s", SpanRange(123, 369): "120–370 s",
		RateRange(20.22, 23.77): "20.2–23.8", RateRange(6296, 7402): "6.30–7.40k", RateRange(962, 1123): "0.962–1.12k", RateRange(0.3834, 0.45): "0.383–0.450", RateRange(99.96, 117): "100–117",
	} {
		if got != want {
			t.Errorf("got %s, expected %s", got, want)
		}
	}
}
