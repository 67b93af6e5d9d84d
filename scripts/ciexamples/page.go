package main

import (
	"fmt"
	"strings"
)

// examples are the examples of the page, each of one kind.
type examples struct {
	baseline string // shell block that records the baseline, the first
	workflow string // GitHub
	pipeline string // GitLab
	custom   string // shell block that runs the gate, the second
}

// extract finds the examples among the fenced blocks of the page.
func extract(page string) (examples, error) {
	var e examples
	var shell []string
	for i, block := range strings.Split("\n"+page, "\n```") {
		if i%2 == 0 {
			continue // between the fences
		}
		language, body, _ := strings.Cut(block, "\n")
		switch {
		case language == "sh":
			shell = append(shell, body)
		case language == "yaml" && strings.HasPrefix(body, "# .github/workflows/"):
			e.workflow = body
		case language == "yaml" && strings.HasPrefix(body, "# .gitlab-ci.yml"):
			e.pipeline = body
		default:
			return e, fmt.Errorf("block %d, %s: unknown kind of example", i/2+1, language)
		}
	}
	if len(shell) != 2 || e.workflow == "" || e.pipeline == "" {
		return e, fmt.Errorf("%d sh blocks, a workflow of %d bytes and a pipeline of %d; 2 sh blocks and one of each are expected",
			len(shell), len(e.workflow), len(e.pipeline))
	}
	e.baseline, e.custom = shell[0], shell[1]
	return e, nil
}
