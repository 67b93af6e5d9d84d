package manual

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
)

// An Asker runs the program with arguments and returns its output.
type Asker func(args ...string) ([]byte, error)

// Program returns an Asker that runs the program at path.
func Program(path string) Asker {
	return func(args ...string) ([]byte, error) {
		var stderr bytes.Buffer
		cmd := exec.Command(path, args...)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w: %s", path, args, err, bytes.TrimSpace(stderr.Bytes()))
		}
		return out, nil
	}
}

// Read returns the help of the program: its own page first, then those of commands and
// topics in the order of its list.
func Read(ask Asker) ([]Page, error) {
	root, _, err := page(ask)
	if err != nil {
		return nil, err
	}
	pages := []Page{root}
	for _, e := range root.Commands {
		p, isHelp, err := page(ask, e.Name)
		if err != nil {
			return nil, err
		}
		if !isHelp { // a topic has another object; use its text output
			text, err := ask("help", e.Name)
			if err != nil {
				return nil, err
			}
			p = Page{Command: root.Command + " " + e.Name, Short: e.Short, Long: string(bytes.TrimSpace(text))}
		}
		pages = append(pages, p)
	}
	return pages, nil
}

// page returns the help of a command, and whether it is an afmq.help/v1 object.
func page(ask Asker, name ...string) (Page, bool, error) {
	var p struct {
		Schema string `json:"schema"`
		Page
	}
	err := object(ask, &p, append(append([]string{"help"}, name...), "--json")...)
	return p.Page, p.Schema == "afmq.help/v1", err
}

// Version returns the version of the program.
func Version(ask Asker) (string, error) {
	var v struct {
		Version string `json:"version"`
	}
	err := object(ask, &v, "version", "--json")
	return v.Version, err
}

func object(ask Asker, v any, args ...string) error {
	out, err := ask(args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, v); err != nil {
		return fmt.Errorf("output of %q: %w", args, err)
	}
	return nil
}
