// Command servepage tests the page at / of `afmq serve` in headless Chromium, as a user works with
// it: keys, the mouse, touches. What the page shows must be what the API answers. It fails on a
// message on the console, a violation of the content security policy, a request to another host,
// a page wider than its window and text with too little contrast. It writes screenshots.
//
//	go run ./servepage -afmq AFMQ -model MODEL -adapter DIR -out DIR
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"afmq/scripts/testreport/internal/browser"
)

// template makes a prompt that the embedded model continues.
const template = `{% for m in messages %}{{ m.content }}
{% endfor %}`

const apiKey = "the-right-key"

func main() {
	log.SetFlags(0)
	afmq := flag.String("afmq", "", "the program")
	model := flag.String("model", "", "the model to serve")
	adapter := flag.String("adapter", "", "an adapter of it")
	out := flag.String("out", "", "directory for screenshots")
	chromium := flag.String("chromium", "chromium", "the browser")
	flag.Parse()
	if *afmq == "" || *model == "" || *adapter == "" || *out == "" {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*afmq, *model, *adapter, *out, *chromium); err != nil {
		log.Fatal(err)
	}
}

func run(afmq, model, adapter, out, chromium string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "servepage-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	templateFile, keyFile := filepath.Join(dir, "template.jinja"), filepath.Join(dir, "keys.txt")
	if err := errors.Join(os.WriteFile(templateFile, []byte(template), 0o644), os.WriteFile(keyFile, []byte(apiKey), 0o600)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// One server has chats and two models. The other has keys, no template, and room for two answers.
	chats, err := start(ctx, "", afmq, "serve", model, "--chat-template", templateFile, "--adapter", "recovered="+adapter)
	if err != nil {
		return err
	}
	defer chats.stop()
	texts, err := start(ctx, apiKey, afmq, "serve", model, "--api-key-file", keyFile, "--parallel", "1", "--queue", "1")
	if err != nil {
		return err
	}
	defer texts.stop()
	ctx, stop, err := browser.Start(ctx, chromium)
	if err != nil {
		return err
	}
	defer stop()

	for _, v := range browser.Views {
		if err := inTab(ctx, v, out, chats, "chat", checkChat); err != nil {
			return err
		}
	}
	for _, c := range []struct {
		name   string
		view   browser.View
		server *server
		check  func(*tab) error
	}{
		{"stop", browser.Views[2], chats, checkStop},
		{"errors", browser.Views[1], chats, checkErrors},
		{"hostile", browser.Views[2], chats, checkHostile},
		{"text", browser.Views[0], texts, checkKeyAndText},
		{"gone", browser.Views[3], texts, checkGone},
	} {
		if err := inTab(ctx, c.view, out, c.server, c.name, c.check); err != nil {
			return err
		}
	}
	return nil
}

// inTab runs a check in a new tab with the page of a server.
func inTab(ctx context.Context, v browser.View, out string, s *server, name string, check func(*tab) error) error {
	t, end, err := open(ctx, v, s)
	if err != nil {
		return err
	}
	defer end()
	begin := time.Now()
	err = errors.Join(check(t), t.faults())
	if shot := t.screenshot(filepath.Join(out, fmt.Sprintf("%s-%s.png", name, v))); err == nil {
		err = shot
	}
	if err != nil {
		return fmt.Errorf("%s at %s: %w", name, v, err)
	}
	log.Printf("%s at %s: %.1f s", name, v, time.Since(begin).Seconds())
	return nil
}
