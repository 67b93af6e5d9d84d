package main

import (
	"strings"
	"testing"
)

func TestExpand(t *testing.T) {
	v := values{"inputs.model": "dir", "steps.key": "known", "steps.key.outputs.value": "abc"}
	for text, want := range map[string]string{
		"${{ inputs.model }}/x":               "dir/x",
		"${{steps.key.outputs.value}}":        "abc",
		"a${{ steps.key.outputs.other }}b":    "ab", // a step that ran need not set it
		"$MODEL":                              "$MODEL",
		"${{ inputs.modl }}":                  "error",
		"${{ steps.later.outputs.value }}":    "error",
		"${{ format('{0}', inputs.model) }}x": "error",
	} {
		got, err := v.expand(text, githubExpression)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestCondition(t *testing.T) {
	v := values{"steps.restore": "known", "steps.restore.outputs.cache-hit": "true", "inputs.program": ""}
	for _, c := range []struct {
		text         string
		failed, want bool
	}{
		{"", false, true},
		{"", true, false},
		{"always()", true, true},
		{"steps.restore.outputs.cache-hit != 'true'", false, false},
		{"steps.restore.outputs.cache-hit == 'true'", false, true},
		{"steps.restore.outputs.cache-hit == 'true'", true, false},
		{"inputs.program == ''", false, true},
	} {
		if got, err := v.condition(c.text, c.failed); err != nil || got != c.want {
			t.Errorf("%q after a failure %v: %v, %v", c.text, c.failed, got, err)
		}
	}
	for _, text := range []string{"success() || failure()", "inputs.unknown == ''"} {
		if _, err := v.condition(text, false); err == nil {
			t.Errorf("%q is no error", text)
		}
	}
}

func TestComponent(t *testing.T) {
	const template = "spec:\n  inputs:\n    model:\n    limit: {default: \"\"}\n---\njob:\n  variables: {M: \"$[[ inputs.model ]]\", L: \"$[[ inputs.limit ]]\"}\n  script: [\"true\"]\n"
	job, err := component(template, map[string]string{"model": "dir"})
	if err != nil || job.Variables["M"] != "dir" || job.Variables["L"] != "" {
		t.Errorf("%+v, %v", job, err)
	}
	for want, inputs := range map[string]map[string]string{
		"required":    {"limit": "1"},
		"no input":    {"model": "dir", "limt": "1"},
		"no value of": nil,
	} {
		text := template
		if inputs == nil {
			text = strings.ReplaceAll(template, "inputs.limit ]]", "inputs.other ]]")
			inputs = map[string]string{"model": "dir"}
		}
		if _, err := component(text, inputs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", inputs, err, want)
		}
	}
}
