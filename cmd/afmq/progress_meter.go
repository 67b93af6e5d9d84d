package main

import (
	"time"

	"afmq/pkg/progress"
)

// meter measures the work of a stage and predicts when it ends.
type meter struct {
	total, before, done int64
	begun, last         time.Time // of the stage, of the last advance
}

func newMeter(s progress.Stage, now time.Time) meter {
	return meter{total: s.Work, before: s.Done, done: s.Done, begun: now, last: now}
}

func (m *meter) advance(n int64, now time.Time) {
	m.done += n
	m.last = now
}

// share returns the part of the work that is done, 0 to 1. What an earlier run did counts.
func (m *meter) share() float64 {
	if m.total <= 0 {
		return 0
	}
	return min(float64(m.done)/float64(m.total), 1)
}

// left predicts the time that the rest of the stage takes, from the mean rate of this run up to
// the last advance. ok is false before the first.
func (m *meter) left(now time.Time) (left time.Duration, ok bool) {
	if m.done <= m.before {
		return 0, false
	}
	perUnit := float64(m.last.Sub(m.begun)) / float64(m.done-m.before)
	left = time.Duration(perUnit*float64(m.total-m.done)) - now.Sub(m.last)
	return max(left, 0), true
}
