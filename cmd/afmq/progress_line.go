package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"afmq/pkg/progress"
)

const (
	narrowestBar = 10
	widestBar    = 60
)

// title returns the number and the name of a stage: "2 of 4: score modules".
func title(s progress.Stage) string {
	if s.Of > 1 && s.Number > 0 {
		return fmt.Sprintf("%d of %d: %s", s.Number, s.Of, s.Name)
	}
	return s.Name
}

// timeLeft returns "1m12s left".
func timeLeft(m *meter, now time.Time) string {
	left, ok := m.left(now)
	if !ok {
		return "estimating"
	}
	if left >= time.Hour {
		return strings.TrimSuffix(left.Round(time.Minute).String(), "0s") + " left"
	}
	return left.Round(time.Second).String() + " left"
}

// plainLine returns a line of a log.
func plainLine(s progress.Stage, m *meter, state string, now time.Time) string {
	line := fmt.Sprintf("%s: %.0f %%, %s", title(s), 100*m.share(), timeLeft(m, now))
	if state != "" {
		line += ", " + state
	}
	return line
}

// barLine returns a line that is shorter than the terminal's columns, so that it never wraps. If
// the window is narrow it leaves out the end of the state, then the bar, then the end of the name.
func barLine(s progress.Stage, m *meter, state string, now time.Time, columns int) string {
	const fixed = len(" 100% || ")
	tail := timeLeft(m, now)
	free := columns - 1 - len([]rune(title(s))) - fixed - len(tail)
	if free < narrowestBar {
		return shorten(fmt.Sprintf("%s %.0f%% %s", title(s), 100*m.share(), tail), columns-1)
	}
	if state != "" {
		for part := range strings.SplitSeq(state, ", ") {
			n := len([]rune(part)) + len(", ")
			if free-n < narrowestBar {
				break
			}
			tail += ", " + part
			free -= n
		}
	}
	bar := progressbar.NewOptions64(1000,
		progressbar.OptionSetWriter(io.Discard),
		progressbar.OptionSetDescription(title(s)),
		progressbar.OptionSetWidth(min(free, widestBar)),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
	)
	// Only a writer can fail, and this one does not.
	_ = bar.RenderBlank()
	_ = bar.Set64(int64(1000 * min(m.share(), 0.999))) // a full bar is not drawn
	return shorten(strings.Trim(bar.String(), "\r ")+" "+tail, columns-1)
}

// shorten shortens s to n columns.
func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:max(n, 0)])
	}
	return s
}
