package jinja

import (
	"errors"
	"time"
)

// Template is a parsed template. It does not change; any number of goroutines may render it.
type Template struct{ body []stmt }

// Parse reads a template.
func Parse(source string) (*Template, error) {
	body, err := parse(source)
	if err != nil {
		return nil, err
	}
	return &Template{body}, nil
}

// Render returns the text of the template for variables, which it does not change. The time is
// what strftime_now formats; size is that of the variables in bytes, by which budgets grow.
func (t *Template) Render(vars *Dict, now time.Time, size int) (string, error) {
	r := &run{now: now}
	r.steps = min(minSteps+times(size, moreSteps), maxSteps) + times(size, stepsPerByte)
	r.bytes = maxBytes + times(size, bytesPerByte)
	r.out = &writer{r: r}
	s := newScope(nil)
	for name, f := range globals {
		s.vars[name] = f
	}
	vars.Each(func(k, v Value) { s.vars[k.(string)] = v })
	err := r.exec(t.body, newScope(s))
	if errors.Is(err, errBreak) || errors.Is(err, errContinue) {
		err = failf("%v outside loop", err)
	}
	if err != nil {
		return "", err
	}
	return r.out.String(), nil
}

// run is one rendering.
type run struct {
	budget
	now time.Time
	out *writer // where statements write
}

// capture returns what f writes.
func (r *run) capture(f func() error) (string, error) {
	out := r.out
	r.out = &writer{r: r}
	err := f()
	s := r.out.String()
	r.out = out
	return s, err
}

// scope holds variables; a name that it lacks is looked up in its parent.
type scope struct {
	vars   map[string]Value
	parent *scope
}

func newScope(parent *scope) *scope { return &scope{map[string]Value{}, parent} }

func (s *scope) get(name string) Value {
	for at := s; at != nil; at = at.parent {
		if v, ok := at.vars[name]; ok {
			return v
		}
	}
	return &Undefined{quote(name) + " is undefined"}
}
