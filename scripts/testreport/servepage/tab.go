package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"afmq/scripts/testreport/internal/browser"
)

// tab is a tab with the page of a server.
type tab struct {
	ctx        context.Context
	view       browser.View
	server     *server
	complaints *browser.Complaints
	expected   []string // parts of complaints that are right
}

// open opens the page of a server in a new tab.
func open(ctx context.Context, v browser.View, s *server) (*tab, context.CancelFunc, error) {
	ctx, cancel := chromedp.NewContext(ctx)
	t := &tab{ctx: ctx, view: v, server: s}
	t.complaints = browser.Watch(ctx, func(url string) bool { return strings.HasPrefix(url, s.url+"/") })
	if err := chromedp.Run(ctx, browser.Enable(), v.Emulate(), chromedp.Navigate(s.url)); err != nil {
		cancel()
		return nil, nil, err
	}
	return t, cancel, nil
}

// do runs actions, of which chromedp waits for the element for ever.
func (t *tab) do(actions ...chromedp.Action) error {
	for i, a := range actions {
		ctx, cancel := context.WithTimeout(t.ctx, 15*time.Second)
		err := chromedp.Run(ctx, a)
		cancel()
		if err != nil {
			return fmt.Errorf("action %d: %w", i+1, err)
		}
	}
	return nil
}

// until waits until an expression is true.
func (t *tab) until(expression string) error {
	var last any
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err := t.do(chromedp.Evaluate(expression, &last)); err != nil {
			return fmt.Errorf("%s: %w", expression, err)
		}
		if last == true {
			return nil
		}
	}
	var shown string
	_ = t.do(chromedp.Evaluate("document.body.innerText", &shown))
	return fmt.Errorf("%s is %v; the page shows:\n%s", expression, last, shown)
}

// idle waits until no answer is being generated.
func (t *tab) idle() error { return t.until(`!document.getElementById("send").hidden`) }

// text returns the text of the one element of a selector.
func (t *tab) text(selector string) (string, error) {
	var text []string
	if err := t.do(chromedp.Evaluate(fmt.Sprintf("[...document.querySelectorAll(%q)].map((e) => e.textContent)", selector), &text)); err != nil {
		return "", err
	}
	if len(text) != 1 {
		return "", fmt.Errorf("%d elements %s", len(text), selector)
	}
	return text[0], nil
}

// shows checks that the text of an element contains others.
func (t *tab) shows(selector string, parts ...string) error {
	text, err := t.text(selector)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return fmt.Errorf("%s is %q, without %q", selector, text, p)
		}
	}
	return nil
}

// equals checks the text of an element.
func (t *tab) equals(selector, want string) error {
	text, err := t.text(selector)
	if err == nil && text != want {
		err = fmt.Errorf("%s is %q, want %q", selector, text, want)
	}
	return err
}

// set writes the value of a field of the settings, which it opens.
func (t *tab) set(id, value string) error {
	var hidden bool
	if err := t.do(chromedp.Evaluate(`document.getElementById("settings").hidden`, &hidden)); err != nil {
		return err
	}
	if hidden {
		if err := t.do(chromedp.Click("#open-settings", chromedp.ByQuery)); err != nil {
			return err
		}
	}
	return t.do(chromedp.Evaluate(fmt.Sprintf("{ const e = document.getElementById(%q); e.focus(); e.select() }", id), nil), chromedp.KeyEvent(value), chromedp.Click("#open-settings", chromedp.ByQuery))
}

// enter presses Enter, with or without Shift, as a keyboard does: the text of the key comes with its
// event, so that a page can refuse it. chromedp sends it apart.
func enter(m input.Modifier) chromedp.Action {
	key := input.DispatchKeyEvent(input.KeyDown).WithModifiers(m).WithKey("Enter").WithCode("Enter").WithWindowsVirtualKeyCode(13).WithText("\r")
	up := *key
	up.Type, up.Text = input.KeyUp, ""
	return chromedp.Tasks{key, &up}
}

// send writes a message and presses Enter. The place where it is written is empty afterwards.
func (t *tab) send(message string) error {
	if err := t.do(chromedp.SendKeys("#input", message, chromedp.ByQuery), enter(0)); err != nil {
		return err
	}
	return t.until(`document.getElementById("input").value === ""`)
}

// giveKey writes an API key in the dialog that asks for it.
func (t *tab) giveKey(key string) error {
	return t.do(chromedp.SendKeys("#key", key, chromedp.ByQuery), enter(0))
}

// choose chooses an option.
func (t *tab) choose(id, value string) error {
	return t.do(chromedp.Evaluate(fmt.Sprintf(`{ const e = document.getElementById(%q); e.value = %q; e.dispatchEvent(new Event("change", { bubbles: true })); e.value }`, id, value), nil))
}

// middle returns the middle of the visible part of element i of a selector.
func (t *tab) middle(selector string, i int) (x, y float64, err error) {
	var at []float64
	err = t.do(chromedp.Evaluate(fmt.Sprintf(`{ const e = document.querySelectorAll(%q)[%d]; e.scrollIntoView({ block: "center" });
		const r = e.getClientRects()[0]; [r.left + r.width / 2, r.top + r.height / 2] }`, selector, i), &at))
	if err != nil {
		return 0, 0, err
	}
	return at[0], at[1], nil
}

// point moves the mouse to element i of a selector.
func (t *tab) point(selector string, i int) error {
	x, y, err := t.middle(selector, i)
	if err != nil {
		return err
	}
	return t.do(input.DispatchMouseEvent(input.MouseMoved, x, y))
}

// tap touches element i of a selector.
func (t *tab) tap(selector string, i int) error {
	x, y, err := t.middle(selector, i)
	if err != nil {
		return err
	}
	return t.do(input.DispatchTouchEvent(input.TouchStart, []*input.TouchPoint{{X: x, Y: y}}), input.DispatchTouchEvent(input.TouchEnd, nil))
}

// faults returns what is wrong with the page as it is.
func (t *tab) faults() error {
	var low []string
	var width int64
	if err := t.do(chromedp.Evaluate(fmt.Sprintf("(%s)()", browser.Contrast), &low),
		chromedp.Evaluate("Math.max(document.documentElement.scrollWidth, document.getElementById('main').scrollWidth)", &width)); err != nil {
		return err
	}
	var faults []error
	for _, c := range append(low, t.complaints.Take()...) {
		if !slices.ContainsFunc(t.expected, func(e string) bool { return strings.Contains(c, e) }) {
			faults = append(faults, errors.New(c))
		}
	}
	if width > t.view.Width {
		faults = append(faults, fmt.Errorf("%d pixels wide", width))
	}
	return errors.Join(faults...)
}

func (t *tab) screenshot(file string) error {
	var shot []byte
	if err := t.do(chromedp.CaptureScreenshot(&shot)); err != nil {
		return err
	}
	return os.WriteFile(file, shot, 0o644)
}
