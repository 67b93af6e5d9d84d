package main

import (
	"fmt"
	"regexp"
	"strings"
)

// values are the values of expressions, such as inputs.model or steps.gate.outputs.verdict.
type values map[string]string

var (
	githubExpression = regexp.MustCompile(`\$\{\{\s*(.*?)\s*\}\}`)
	gitlabExpression = regexp.MustCompile(`\$\[\[\s*(.*?)\s*\]\]`)
	comparison       = regexp.MustCompile(`^([a-z][\w.-]*) (==|!=) '([^']*)'$`)
)

// lookup returns the value of a name. An output that a step did not set is empty, as on
// GitHub; anything else that is unknown is an error.
func (v values) lookup(name string) (string, error) {
	if value, ok := v[name]; ok {
		return value, nil
	}
	if step, _, ok := strings.Cut(name, ".outputs."); ok {
		if _, known := v[step]; known {
			return "", nil
		}
	}
	return "", fmt.Errorf("no value of %q", name)
}

// expand replaces the expressions of a text.
func (v values) expand(text string, expression *regexp.Regexp) (string, error) {
	var failed error
	out := expression.ReplaceAllStringFunc(text, func(s string) string {
		value, err := v.lookup(expression.FindStringSubmatch(s)[1])
		if err != nil {
			failed = err
		}
		return value
	})
	return out, failed
}

// expandAll replaces the expressions in the values of a map.
func (v values) expandAll(m map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for key, text := range m {
		var err error
		if out[key], err = v.expand(text, githubExpression); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return out, nil
}

// condition evaluates the condition of a step: always(), or a comparison of a value with a
// string. A step without a condition, or with a comparison, runs if no step has failed.
func (v values) condition(text string, failed bool) (bool, error) {
	switch {
	case text == "always()":
		return true, nil
	case failed:
		return false, nil
	case text == "":
		return true, nil
	}
	m := comparison.FindStringSubmatch(text)
	if m == nil {
		return false, fmt.Errorf("the condition %q is of an unknown form", text)
	}
	value, err := v.lookup(m[1])
	return (value == m[3]) == (m[2] == "=="), err
}
