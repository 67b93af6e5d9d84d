package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"afmq/pkg/progress"
)

// screen is the row of a terminal on which the cursor is. It knows what the bar uses: carriage
// return, line feed, erasing to the end of the screen, and characters of one column.
type screen struct {
	t       *testing.T
	columns int
	row     []rune
	at      int
	feeds   int // line feeds
	wrapped int // characters written past the last column
}

func (s *screen) Write(p []byte) (int, error) {
	text := string(p)
	for len(text) > 0 {
		if rest, ok := strings.CutPrefix(text, "\x1b[J"); ok {
			s.row, text = s.row[:min(s.at, len(s.row))], rest
			continue
		}
		r, n := utf8.DecodeRuneInString(text)
		text = text[n:]
		switch {
		case r == '\r':
			s.at = 0
		case r == '\n':
			s.feeds, s.row, s.at = s.feeds+1, nil, 0
		case r < ' ':
			s.t.Errorf("control character %q", r)
		case s.at >= s.columns:
			s.wrapped++
		default:
			s.row = append(s.row[:s.at], append([]rune{r}, s.row[min(s.at+1, len(s.row)):]...)...)
			s.at++
		}
	}
	return len(p), nil
}

// clock is a time that a test sets.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func (c *clock) sleep(d time.Duration) { c.Time = c.Add(d) }

// drawn returns a reporter that draws on s and whose ticker is the test.
func drawn(s *screen, c *clock) *reporter {
	return &reporter{w: s, terminal: true, width: func() int { return s.columns }, now: c.now, ticker: time.NewTicker(time.Hour), ended: make(chan struct{})}
}

// longest is the stage with the longest name that there is, with a long state.
var longest = progress.Stage{Name: "evaluate on test text", Number: 10, Of: 10, Work: 1000}

const longState = "step 12,345 of 67,890, loss 0.12345, validation 0.12345"

// The bar never wraps or scrolls: it stays on its line on terminals of 20 to 300 columns, also if
// the window changes, and leaves nothing on it.
func TestBarFits(t *testing.T) {
	s := &screen{t: t}
	c := &clock{time.Unix(0, 0)}
	r := drawn(s, c)
	for _, columns := range []int{60, 80, 120, 200, 300, 79, 60, 40, 20} {
		s.columns = columns
		r.Stage(longest)
		r.Status(longState)
		for range 110 {
			c.sleep(time.Second)
			r.tick()
			if columns >= 60 && !strings.Contains(string(s.row), "10 of 10: evaluate on test text") {
				t.Fatalf("%d columns: drew %q", columns, string(s.row))
			}
			if n := len(s.row); n >= columns {
				t.Fatalf("%d columns: the line has %d: %q", columns, n, string(s.row))
			}
			r.Advance(10)
		}
		r.Done()
		if len(s.row) != 0 {
			t.Errorf("%d columns: the line holds %q at the end", columns, string(s.row))
		}
	}
	if s.feeds != 0 || s.wrapped != 0 {
		t.Errorf("%d line feeds, %d characters beyond the last column", s.feeds, s.wrapped)
	}
}

// The bar uses the width that there is: first for the share and the time left, then for a bar of at
// least 10 columns, then for the parts of the state that fit.
func TestBarContent(t *testing.T) {
	for _, test := range []struct {
		columns int
		want    string
	}{
		{30, "10 of 10: evaluate on test te"},
		{60, "10 of 10: evaluate on test text  25% |██        | 3m0s left"},
		{80, "10 of 10: evaluate on test text  25% |███████                       | 3m0s left"},
		{120, "10 of 10: evaluate on test text  25% |███          | 3m0s left, " + longState},
		{200, "10 of 10: evaluate on test text  25% |███████████████                                             | 3m0s left, " + longState},
	} {
		c := &clock{time.Unix(0, 0)}
		s := &screen{t: t, columns: test.columns}
		r := drawn(s, c)
		r.Stage(longest)
		r.Status(longState)
		c.sleep(time.Minute)
		r.Advance(250)
		r.tick()
		if line := string(s.row); line != test.want {
			t.Errorf("%d columns:\ndrew %q\nwant %q", test.columns, line, test.want)
		}
	}
}

// written returns a reporter that writes to a file or a pipe, and whose ticker is the test.
func written(w *strings.Builder, c *clock) *reporter {
	r := &reporter{w: w, now: c.now, ticker: time.NewTicker(time.Hour), ended: make(chan struct{})}
	r.line = c.now()
	return r
}

// Off a terminal there is a line every ten seconds, no more and no fewer, also while nothing
// advances and across stages; each names the stage and has the share and the time left.
func TestPlainLines(t *testing.T) {
	var b strings.Builder
	c := &clock{time.Unix(0, 0)}
	r := written(&b, c)
	for stage := range 3 {
		r.Stage(progress.Stage{Name: "work", Number: stage + 1, Of: 3, Work: 100})
		for second := range 16 {
			c.sleep(time.Second)
			r.tick()
			if second == 4 {
				r.Advance(25)
				r.Status("5 of 20 modules")
			}
		}
		r.Done()
		r.tick()
	}
	want := `1 of 3: work: 25 %, 10s left, 5 of 20 modules
2 of 3: work: 0 %, estimating
2 of 3: work: 25 %, 6s left, 5 of 20 modules
3 of 3: work: 25 %, 12s left, 5 of 20 modules
`
	if got := b.String(); got != want {
		t.Errorf("wrote\n%swant\n%s", got, want)
	}
}

// A stage that an earlier run began starts at the share that is done, and the time left follows
// from the rate of this run alone.
func TestResumedStage(t *testing.T) {
	var b strings.Builder
	c := &clock{time.Unix(0, 0)}
	r := written(&b, c)
	r.Notice("resuming from .out.afmq: 60 of 100 modules are done")
	r.Stage(progress.Stage{Name: "quantize", Number: 1, Of: 1, Work: 1000, Done: 600})
	c.sleep(10 * time.Second)
	r.tick()
	r.Advance(100)
	c.sleep(10 * time.Second)
	r.tick()
	want := "resuming from .out.afmq: 60 of 100 modules are done\nquantize: 60 %, estimating\nquantize: 70 %, 20s left\n"
	if got := b.String(); got != want {
		t.Errorf("wrote\n%swant\n%s", got, want)
	}
}

// A notice is a line of its own above the bar.
func TestNoticeAboveBar(t *testing.T) {
	s := &screen{t: t, columns: 80}
	c := &clock{time.Unix(0, 0)}
	r := drawn(s, c)
	r.Stage(longest)
	r.tick()
	r.Notice("a notice")
	if s.feeds != 1 || len(s.row) != 0 {
		t.Errorf("%d line feeds, %q on the line of the bar", s.feeds, string(s.row))
	}
	r.tick()
	if !strings.HasPrefix(string(s.row), "10 of 10") {
		t.Errorf("the bar is %q", string(s.row))
	}
}

// With --quiet nothing is written, and what was saved is known all the same.
func TestQuiet(t *testing.T) {
	var b strings.Builder
	c := &clock{time.Unix(0, 0)}
	r := written(&b, c)
	r.quiet = true
	r.Stage(longest)
	r.Notice("a notice")
	r.Saved("all of it")
	c.sleep(time.Minute)
	r.tick()
	r.close()
	if b.Len() > 0 || r.lastSaved() != "all of it" {
		t.Errorf("wrote %q, saved %q", b.String(), r.lastSaved())
	}
}

// The ticker draws without reports.
func TestTicker(t *testing.T) {
	s := &screen{t: t, columns: 80}
	drawings := make(chan struct{}, 100)
	r := newReporter(writerFunc(func(p []byte) (int, error) {
		drawings <- struct{}{}
		return s.Write(p)
	}), false)
	r.terminal = true
	r.Stage(longest)
	for range 3 {
		<-drawings
	}
	r.close()
	if len(s.row) != 0 {
		t.Errorf("%q is left", string(s.row))
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
