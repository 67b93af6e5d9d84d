package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
)

// server is a running `afmq serve`.
type server struct {
	url string // without a slash at the end
	key string
	cmd *exec.Cmd
}

// start starts a server on a free port and waits until it takes requests.
func start(ctx context.Context, key, afmq string, args ...string) (*server, error) {
	s := &server{key: key, cmd: exec.CommandContext(ctx, afmq, append(args, "--port", "0", "--json", "--quiet")...)}
	s.cmd.Stderr = os.Stderr
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	var object struct {
		URL string `json:"url"`
	}
	if err := json.NewDecoder(stdout).Decode(&object); err != nil {
		s.stop()
		return nil, fmt.Errorf("%s: %w", s.cmd, err)
	}
	s.url = object.URL
	return s, nil
}

// stop ends the server. It may be called again.
func (s *server) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// scored is a token with its log-probability.
type scored struct {
	Token   string  `json:"token"`
	LogProb float64 `json:"logprob"`
}

// answer is what the API answers.
type answer struct {
	Choices []struct {
		Text    string `json:"text"`
		Message struct {
			Content string `json:"content"`
		} `json:"message"`
		LogProbs struct {
			Content []struct {
				scored
				Top []scored `json:"top_logprobs"`
			} `json:"content"`
		} `json:"logprobs"`
	} `json:"choices"`
}

// text returns the text of a chat or of a completion.
func (a *answer) text() string { return a.Choices[0].Message.Content + a.Choices[0].Text }

// post sends a request to the API, as another client than the page.
func (s *server) post(ctx context.Context, path string, body any) (*answer, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, "POST", s.url+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+s.key)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil || len(a.Choices) == 0 {
		return nil, fmt.Errorf("%s: %s", path, text)
	}
	return &a, nil
}

// idle reports whether no answer is being generated.
func (s *server) idle(ctx context.Context) (bool, error) { return s.answers(ctx, 0, 0) }

// answers reports whether so many answers are being generated, and so many wait.
func (s *server) answers(ctx context.Context, running, waiting int) (bool, error) {
	r, err := http.NewRequestWithContext(ctx, "GET", s.url+"/metrics", nil)
	if err != nil {
		return false, err
	}
	r.Header.Set("Authorization", "Bearer "+s.key)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	has := func(state string, n int) bool {
		return strings.Contains(string(text), fmt.Sprintf("afmq_sequences{state=%q} %d\n", state, n))
	}
	return has("running", running) && has("waiting", waiting), err
}
