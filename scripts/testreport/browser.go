package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	cdplog "github.com/chromedp/cdproto/log"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// view is a window width and a color scheme.
type view struct {
	width  int64
	scheme string
}

func (v view) String() string { return fmt.Sprintf("%d-%s", v.width, v.scheme) }

var views = []view{{360, "light"}, {360, "dark"}, {1280, "light"}, {1280, "dark"}}

// probe is a script that returns the faults of the page that it runs in.
//
//go:embed probe.js
var probe string

// inspect opens a page in a new tab and returns its faults. If out is not empty, it writes a
// screenshot to that directory.
func inspect(ctx context.Context, file string, v view, w *wanted, out string) ([]string, error) {
	ctx, cancel := chromedp.NewContext(ctx)
	defer cancel()
	url, err := fileURL(file)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var complaints []string
	complain := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		complaints = append(complaints, fmt.Sprintf(format, args...))
	}
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if e.Request.URL != url && !strings.HasPrefix(e.Request.URL, "data:") {
				complain("requests %s", e.Request.URL)
			}
		case *runtime.EventConsoleAPICalled:
			for _, a := range e.Args {
				complain("console: %s", strings.Trim(string(a.Value), `"`))
			}
		case *runtime.EventExceptionThrown:
			complain("exception: %v", e.ExceptionDetails)
		case *cdplog.EventEntryAdded:
			complain("log: %s %s", e.Entry.Text, e.Entry.URL)
		}
	})
	sections, err := json.Marshal(w.Sections)
	if err != nil {
		return nil, err
	}
	var found []string
	var shot []byte
	actions := []chromedp.Action{
		network.Enable(), runtime.Enable(), cdplog.Enable(),
		chromedp.EmulateViewport(v.width, 800),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: v.scheme}}),
		chromedp.Navigate(url),
		chromedp.Evaluate(fmt.Sprintf("(%s)(%s)", probe, sections), &found),
	}
	if out != "" {
		actions = append(actions, chromedp.FullScreenshot(&shot, 100))
	}
	if err := chromedp.Run(ctx, actions...); err != nil {
		return nil, err
	}
	mu.Lock()
	defer mu.Unlock()
	complaints = append(complaints, found...)
	if out == "" {
		return complaints, nil
	}
	name := strings.TrimSuffix(filepath.Base(file), ".html") + "-" + v.String() + ".png"
	return complaints, os.WriteFile(filepath.Join(out, name), shot, 0o644)
}

// printPage writes the page as a PDF in A4.
func printPage(ctx context.Context, file, out string) error {
	ctx, cancel := chromedp.NewContext(ctx)
	defer cancel()
	url, err := fileURL(file)
	if err != nil {
		return err
	}
	var pdf []byte
	err = chromedp.Run(ctx, chromedp.Navigate(url), chromedp.ActionFunc(func(ctx context.Context) (err error) {
		pdf, _, err = page.PrintToPDF().WithPaperWidth(8.27).WithPaperHeight(11.69).WithPrintBackground(false).Do(ctx)
		return err
	}))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, strings.TrimSuffix(filepath.Base(file), ".html")+".pdf"), pdf, 0o644)
}

func fileURL(file string) (string, error) {
	path, err := filepath.Abs(file)
	return "file://" + path, err
}
