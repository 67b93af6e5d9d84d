package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"afmq/scripts/testreport/internal/browser"
)

// probe is a script that returns the faults of the page that it runs in.
//
//go:embed probe.js
var probe string

// inspect opens a page in a new tab and returns its faults. If out is not empty, it writes a
// screenshot to that directory.
func inspect(ctx context.Context, file string, v browser.View, w *wanted, out string) ([]string, error) {
	ctx, cancel := chromedp.NewContext(ctx)
	defer cancel()
	url, err := fileURL(file)
	if err != nil {
		return nil, err
	}
	complaints := browser.Watch(ctx, func(requested string) bool { return requested == url })
	sections, err := json.Marshal(w.Sections)
	if err != nil {
		return nil, err
	}
	var found []string
	var shot []byte
	actions := []chromedp.Action{
		browser.Enable(), v.Emulate(),
		chromedp.Navigate(url),
		chromedp.Evaluate(fmt.Sprintf("(%s)(%s, %s)", probe, sections, browser.Contrast), &found),
	}
	if out != "" {
		actions = append(actions, chromedp.FullScreenshot(&shot, 100))
	}
	if err := chromedp.Run(ctx, actions...); err != nil {
		return nil, err
	}
	found = append(complaints.Take(), found...)
	if out == "" {
		return found, nil
	}
	name := strings.TrimSuffix(filepath.Base(file), ".html") + "-" + v.String() + ".png"
	return found, os.WriteFile(filepath.Join(out, name), shot, 0o644)
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
