package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"afmq/pkg/progress"
)

const (
	// redrawInterval is the time between two drawings of the bar on a terminal.
	redrawInterval = 200 * time.Millisecond
	// plainInterval is the time between two lines elsewhere.
	plainInterval = 10 * time.Second
)

// reporter shows progress on stderr: on a terminal a bar of one line, elsewhere a line every
// plainInterval. A ticker draws both, so that they show the time left also while a long step
// reports nothing.
type reporter struct {
	w        io.Writer
	terminal bool
	quiet    bool
	width    func() int // columns of the terminal
	now      func() time.Time

	mu     sync.Mutex
	active bool // a stage runs
	stage  progress.Stage
	meter  meter
	state  string    // the text of the last Status
	saved  string    // the text of the last Saved
	drawn  bool      // the bar is on the screen
	line   time.Time // of the last plain line
	ticker *time.Ticker
	ended  chan struct{}
}

// newReporter returns a reporter that writes to w. close ends it.
func newReporter(w io.Writer, quiet bool) *reporter {
	r := &reporter{w: w, quiet: quiet, now: time.Now, width: func() int { return 80 }}
	r.line = r.now()
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" || !obeysEscapes(f) {
		return r
	}
	r.terminal = true
	r.width = func() int { // at each drawing: the window may have another size
		columns, _, err := term.GetSize(int(f.Fd()))
		if err != nil || columns < 1 {
			return 80
		}
		return columns
	}
	return r
}

// start starts the ticker.
func (r *reporter) start() {
	if r.ticker != nil || r.quiet {
		return
	}
	ticker, ended := time.NewTicker(redrawInterval), make(chan struct{})
	r.ticker, r.ended = ticker, ended
	go func() {
		for {
			select {
			case <-ticker.C:
				r.tick()
			case <-ended:
				return
			}
		}
	}()
}

// close ends the last stage and the ticker.
func (r *reporter) close() {
	r.Done()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ticker != nil {
		r.ticker.Stop()
		close(r.ended)
		r.ticker = nil
	}
}

func (r *reporter) Stage(s progress.Stage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear()
	r.stage, r.state, r.active = s, "", true
	r.meter = newMeter(s, r.now())
	r.start()
}

func (r *reporter) Advance(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.meter.advance(n, r.now())
}

func (r *reporter) Status(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = text
}

func (r *reporter) Notice(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.quiet {
		return
	}
	r.clear()
	fmt.Fprintln(r.w, text)
}

func (r *reporter) Saved(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.saved = text
}

// lastSaved returns the text of the last Saved.
func (r *reporter) lastSaved() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.saved
}

func (r *reporter) Done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear()
	r.active = false
}

// clear removes the bar from the screen.
func (r *reporter) clear() {
	if r.drawn {
		fmt.Fprint(r.w, eraseBelow)
		r.drawn = false
	}
}

// eraseBelow moves the cursor to the first column and erases from there on. The cursor is left in
// the first column after each drawing. If a narrower window wraps the line, the terminal keeps the
// cursor at its start, and the wrapped rest is erased with it.
const eraseBelow = "\r\x1b[J"

// tick draws the bar, or prints a line if one is due.
func (r *reporter) tick() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	switch {
	case !r.active || r.quiet:
	case r.terminal:
		// Should the terminal fail, the job goes on.
		fmt.Fprint(r.w, eraseBelow+barLine(r.stage, &r.meter, r.state, now, r.width())+"\r")
		r.drawn = true
	case now.Sub(r.line) >= plainInterval:
		fmt.Fprintln(r.w, plainLine(r.stage, &r.meter, r.state, now))
		r.line = now
	}
}
