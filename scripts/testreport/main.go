// Command testreport opens pages of `afmq report` in headless Chromium. It fails on a network
// request, a console message, a page wider than its window, a missing heading, and text that
// is too small or has too little contrast. It writes screenshots and a PDF of each page.
//
//	go run . -out DIR PAGE.html=PAGE.json...
//
// PAGE.json is the output of `afmq report --json` for PAGE.html. It first opens a page with
// all of these faults and checks that each is detected.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"afmq/scripts/testreport/internal/browser"
)

func main() {
	log.SetFlags(0)
	out := flag.String("out", "", "directory for screenshots")
	chromium := flag.String("chromium", "chromium", "the browser")
	flag.Parse()
	if *out == "" || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*out, *chromium, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

// wanted has the sections that a page must have.
type wanted struct {
	Sections []struct {
		ID    string `json:"id"`
		Title string `json:"title"`
	} `json:"sections"`
}

func run(out, chromium string, pages []string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	ctx, stop, err := browser.Start(ctx, chromium)
	if err != nil {
		return err
	}
	defer stop()
	if err := checkTheChecks(ctx); err != nil {
		return err
	}
	var failed []error
	for _, arg := range pages {
		page, object, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%s is not PAGE.html=PAGE.json", arg)
		}
		text, err := os.ReadFile(object)
		if err != nil {
			return err
		}
		var w wanted
		if err := json.Unmarshal(text, &w); err != nil {
			return fmt.Errorf("%s: %w", object, err)
		}
		if len(w.Sections) < 10 {
			return fmt.Errorf("%s lists %d sections", object, len(w.Sections))
		}
		for _, v := range browser.Views {
			complaints, err := inspect(ctx, page, v, &w, out)
			if err != nil {
				return fmt.Errorf("%s at %s: %w", page, v, err)
			}
			for _, c := range complaints {
				failed = append(failed, fmt.Errorf("%s at %s: %s", filepath.Base(page), v, c))
			}
		}
		if err := printPage(ctx, page, out); err != nil {
			return err
		}
		log.Printf("%s: %d sections in %d views", filepath.Base(page), len(w.Sections), len(browser.Views))
	}
	return errors.Join(failed...)
}

// checkTheChecks opens a page with every fault and checks that each is reported.
func checkTheChecks(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "testreport-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	page := filepath.Join(dir, "wrong.html")
	if err := os.WriteFile(page, []byte(`<!doctype html><meta name="viewport" content="width=device-width"><body style="color:#999">
<section id="size"><h2 style="display:none">Size</h2></section><div style="width:3000px">wide</div><p>pale</p>
<svg class="plot" viewBox="0 0 1000 100" style="width:200px"><text x="990" y="50" font-size="12">outside</text></svg>
<img src="http://example.invalid/a.png"><script>console.error("oops"); missing()</script>`), 0o644); err != nil {
		return err
	}
	var w wanted
	if err := json.Unmarshal([]byte(`{"sections":[{"id":"size","title":"Size"},{"id":"curve","title":"Curve"}]}`), &w); err != nil {
		return err
	}
	complaints, err := inspect(ctx, page, browser.Views[0], &w, "")
	if err != nil {
		return err
	}
	all := strings.Join(complaints, "\n")
	for _, must := range []string{"requests http://example.invalid/a.png", "console: oops", "missing is not defined", "is 3", "heading of size", "heading of curve", "contrast", "pixels tall", "beyond its drawing"} {
		if !strings.Contains(all, must) {
			return fmt.Errorf("the checks did not detect a fault (%q); they reported:\n%s", must, all)
		}
	}
	return nil
}
