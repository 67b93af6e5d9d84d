package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// plainInterval is the least time between two lines of plain progress.
const plainInterval = 10 * time.Second

// reporter shows progress on stderr: a bar with rate and time left on a terminal, else a
// plain line at most every plainInterval.
type reporter struct {
	w        io.Writer
	terminal bool
	quiet    bool

	mu    sync.Mutex
	bar   *progressbar.ProgressBar // on a terminal
	name  string
	state string // the text of the last Status
	unit  string
	total int64
	done  int64
	begun time.Time
	last  time.Time
}

func newReporter(w io.Writer, quiet bool) *reporter {
	f, ok := w.(*os.File)
	return &reporter{w: w, quiet: quiet, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

func (r *reporter) Stage(name string, total int64, unit string) {
	r.Done()
	if r.quiet {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.name, r.state, r.unit, r.total, r.done = name, "", unit, total, 0
	r.begun = time.Now()
	r.last = r.begun
	if r.terminal {
		options := []progressbar.Option{
			progressbar.OptionSetWriter(r.w),
			progressbar.OptionSetDescription(name),
			progressbar.OptionSetWidth(30),
			progressbar.OptionThrottle(100 * time.Millisecond),
			progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionClearOnFinish(),
		}
		if unit == "B" {
			options = append(options, progressbar.OptionShowBytes(true))
		} else {
			options = append(options, progressbar.OptionShowIts(), progressbar.OptionSetItsString(unit))
		}
		r.bar = progressbar.NewOptions64(total, options...)
	}
}

func (r *reporter) Advance(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.name == "" {
		return
	}
	r.done += n
	if r.bar != nil {
		// The only possible error is that the bar cannot be drawn; the job continues.
		_ = r.bar.Add64(n)
		return
	}
	if now := time.Now(); now.Sub(r.last) >= plainInterval {
		r.last = now
		r.line(now)
	}
}

func (r *reporter) Status(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.name == "" {
		return
	}
	r.state = ", " + text
	if r.bar != nil {
		r.bar.Describe(r.name + r.state)
	}
}

// line prints one plain line: share done, rate, time left.
func (r *reporter) line(now time.Time) {
	perSecond := rate(float64(r.done), now.Sub(r.begun))
	left := "?"
	if perSecond > 0 {
		left = (time.Duration(float64(r.total-r.done)/perSecond) * time.Second).Round(time.Second).String()
	}
	fmt.Fprintf(r.w, "%s: %.0f %% (%s of %s, %s/s, %s left%s)\n", r.name,
		100*float64(r.done)/float64(max(r.total, 1)),
		amount(r.done, r.unit), amount(r.total, r.unit), amount(int64(perSecond), r.unit), left, r.state)
}

func (r *reporter) Done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bar != nil {
		_ = r.bar.Clear() // as above
		r.bar = nil
	}
	r.name = ""
}
