// Package browser opens pages in headless Chromium and records what is wrong with them.
package browser

import (
	"context"
	_ "embed"
	"fmt"
	"log"
	"strings"
	"sync"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Contrast is a JavaScript function that returns complaints about texts with too little contrast.
//
//go:embed contrast.js
var Contrast string

// View is a window width and a color scheme.
type View struct {
	Width  int64
	Scheme string
}

func (v View) String() string { return fmt.Sprintf("%d-%s", v.Width, v.Scheme) }

// Views are those in which pages are tested.
var Views = []View{{360, "light"}, {360, "dark"}, {1280, "light"}, {1280, "dark"}}

// Emulate makes a tab have the view.
func (v View) Emulate() chromedp.Action {
	return chromedp.Tasks{
		chromedp.EmulateViewport(v.Width, 800),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: v.Scheme}}),
	}
}

// Start starts Chromium. Tabs are made of the context that it returns.
func Start(ctx context.Context, chromium string) (context.Context, context.CancelFunc, error) {
	// Chromium refuses to run its sandbox as root, as in a container; the pages are our own.
	// A resolver without names keeps even a broken page from the network but for servers of this machine.
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox,
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"), chromedp.Flag("hide-scrollbars", true))
	ctx, end := chromedp.NewExecAllocator(ctx, opts...)
	// The browser may have events that this version of chromedp does not know.
	ctx, cancel := chromedp.NewContext(ctx, chromedp.WithErrorf(func(format string, args ...any) {
		if !strings.HasPrefix(format, "unhandled ") {
			log.Printf(format, args...)
		}
	}))
	stop := func() { cancel(); end() }
	if err := chromedp.Run(ctx); err != nil {
		stop()
		return nil, nil, fmt.Errorf("starting %s: %w", chromium, err)
	}
	return ctx, stop, nil
}

// Complaints are what a tab must not do: requests, messages on the console, exceptions, and what
// the browser logs, such as violations of a content security policy.
type Complaints struct {
	mu   sync.Mutex
	list []string
}

// Watch records the complaints about a tab. Requests to the URLs that are allowed are none.
func Watch(ctx context.Context, allowed func(url string) bool) *Complaints {
	c := &Complaints{}
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if !allowed(e.Request.URL) && !strings.HasPrefix(e.Request.URL, "data:") {
				c.add("requests %s", e.Request.URL)
			}
		case *runtime.EventConsoleAPICalled:
			for _, a := range e.Args {
				c.add("console: %s", strings.Trim(string(a.Value), `"`))
			}
		case *runtime.EventExceptionThrown:
			c.add("exception: %v", e.ExceptionDetails)
		case *cdplog.EventEntryAdded:
			c.add("log: %s %s", e.Entry.Text, e.Entry.URL)
		}
	})
	return c
}

// Enable makes a tab report what [Watch] records.
func Enable() chromedp.Action {
	return chromedp.Tasks{network.Enable(), runtime.Enable(), cdplog.Enable()}
}

func (c *Complaints) add(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, fmt.Sprintf(format, args...))
}

// Take returns the complaints since the last call.
func (c *Complaints) Take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.list
	c.list = nil
	return list
}
