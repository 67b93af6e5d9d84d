package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// object is a JSON object.
type object = map[string]any

// record is a script that records which columns receive text, in order.
const record = `window.received = []; window.recorder?.disconnect();
	window.recorder = new MutationObserver((changes) => {
		const columns = [...document.querySelectorAll(".turn:last-child .text")];
		for (const c of changes) if (columns.includes(c.target)) received.push(columns.indexOf(c.target));
	});
	recorder.observe(document.getElementById("turns"), { childList: true, subtree: true });`

// steps runs functions until one fails.
func steps(f ...func() error) error {
	for i, f := range f {
		if err := f(); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}

// checkChat answers a message by one model and by two, and looks at probabilities.
func checkChat(t *tab) error {
	const first, second = "The old man", "looked at the sea"
	var received []int
	var message string
	const third = "And then?"
	base, err := t.ask("model", first+"\n"+second)
	if err != nil {
		return err
	}
	recovered, err := t.ask("recovered", first+"\n"+second)
	if err != nil {
		return err
	}
	return steps(
		func() error { return t.until(`document.getElementById("model").options.length === 2`) },
		func() error { return t.set("seed", "7") },
		func() error { return t.set("max_tokens", "200") },
		func() error {
			return t.do(chromedp.Evaluate(record, nil), chromedp.Click("#input", chromedp.ByQuery), chromedp.KeyEvent(first),
				enter(input.ModifierShift), chromedp.KeyEvent(second),
				chromedp.Value("#input", &message, chromedp.ByQuery), enter(0))
		},
		t.idle,
		func() error {
			if message != first+"\n"+second {
				return fmt.Errorf("the message before it is sent is %q", message)
			}
			return t.equals(".message", first+"\n"+second)
		},
		func() error { return t.equals(".text", base.text()) },
		func() error {
			return t.shows(".stats", "Cut at max_tokens.", "200 tokens", "tokens/s", "first after", "seed 7", "Continue", "Copy")
		},
		func() error {
			if err := t.do(chromedp.Evaluate("received", &received)); err != nil || len(received) < 10 {
				return fmt.Errorf("the answer came in %d parts: %w", len(received), err)
			}
			return nil
		},
		func() error { return t.checkAlternatives(base) },

		func() error { return t.choose("beside", "recovered") },
		func() error { return t.do(chromedp.Evaluate(record, nil), chromedp.Click("#again", chromedp.ByQuery)) },
		t.idle,
		func() error { return t.equals(".answer:nth-child(1) .text", base.text()) },
		func() error { return t.equals(".answer:nth-child(2) .text", recovered.text()) },
		func() error { return t.equals(".answer:nth-child(2) .name", "recovered") },
		func() error {
			if base.text() == recovered.text() {
				return errors.New("the adapter changes nothing")
			}
			// Parts of both come in turns, so neither waits for the other.
			return t.until(`received.lastIndexOf(0) > received.indexOf(1) && received.lastIndexOf(1) > received.indexOf(0)`)
		},
		func() error { return t.point(".answer:nth-child(2) .token", 12) },
		func() error { return t.until(`!document.getElementById("alternatives").hidden`) },

		// Each column goes on with its own answer.
		func() error { return t.send(third) },
		t.idle,
		func() error {
			a, err := t.ask("recovered", first+"\n"+second, recovered.text(), third)
			if err != nil {
				return err
			}
			return t.equals(".turn:nth-child(2) .answer:nth-child(2) .text", a.text())
		},
	)
}

// ask returns what the API answers to a conversation, with the settings of checkChat.
func (t *tab) ask(model string, texts ...string) (*answer, error) {
	var messages []object
	for i, text := range texts {
		messages = append(messages, object{"role": []string{"user", "assistant"}[i%2], "content": text})
	}
	return t.server.post(t.ctx, "/v1/chat/completions", object{
		"model": model, "messages": messages, "temperature": 0.8, "top_p": 0.95, "max_tokens": 200, "seed": 7,
		"logprobs": true, "top_logprobs": 5,
	})
}

// checkAlternatives shows the alternatives of tokens by the mouse, by keys and by a touch, and
// compares them with those of the API.
func (t *tab) checkAlternatives(a *answer) error {
	tokens := a.Choices[0].LogProbs.Content
	const showing = `!document.getElementById("alternatives").hidden`
	shown := func(i int) func() error {
		return func() error {
			var rows [][]string
			if err := t.until(fmt.Sprintf(`%s && document.querySelectorAll(".token")[%d].matches(".shown[aria-describedby=alternatives]")`, showing, i)); err != nil {
				return err
			}
			if err := t.do(chromedp.Evaluate(`[...document.querySelectorAll("#alternatives li")].map((r) => [r.querySelector("code").textContent, r.querySelector(".percent").textContent, r.className])`, &rows)); err != nil {
				return err
			}
			want := tokens[i].Top
			chosen := false
			for _, o := range want {
				chosen = chosen || o.Token == tokens[i].Token
			}
			if !chosen {
				want = append(want[:5:5], tokens[i].scored)
			}
			if len(want) < 5 || len(rows) != len(want) {
				return fmt.Errorf("token %d: %d alternatives %v, want %v", i, len(rows), rows, want)
			}
			for j, o := range want {
				if rows[j][1] != percent(o.LogProb) || !strings.Contains(rows[j][0], strings.TrimSpace(o.Token)) || (rows[j][2] == "chosen") != (o.Token == tokens[i].Token) {
					return fmt.Errorf("token %d: alternative %d is %q, want %v", i, j, rows[j], o)
				}
			}
			return nil
		}
	}
	hidden := func() error { return t.until("!(" + showing + ")") }
	return steps(
		func() error { return t.point(".token", 5) }, shown(5),
		func() error { return t.point("#send", 0) }, hidden,
		func() error { return t.tap(".token", 3) }, shown(3),
		func() error { return t.do(chromedp.KeyEvent(kb.ArrowRight)) }, shown(4),
		func() error { return t.do(chromedp.KeyEvent(kb.End)) }, shown(len(tokens)-1),
		func() error { return t.do(chromedp.KeyEvent(kb.Home)) }, shown(0),
		func() error { return t.do(chromedp.KeyEvent(kb.Escape)) }, hidden,
		func() error { return t.until(`document.querySelectorAll(".text [tabindex='0']").length === 1`) },
	)
}

// percent is how the page writes a probability.
func percent(logProb float64) string {
	p := math.Exp(logProb)
	switch {
	case p < 0.0001:
		return "< 0.01 %"
	case p < 0.1:
		return fmt.Sprintf("%.2f %%", 100*p)
	}
	return fmt.Sprintf("%.1f %%", 100*p)
}

// checkStop stops an answer, continues it, and clears the conversation after one without probabilities.
func checkStop(t *tab) error {
	const stopAt = `new MutationObserver((_, o) => {
		if (document.querySelector(".text").textContent.length > 40) { o.disconnect(); document.getElementById("stop").click(); }
	}).observe(document.getElementById("turns"), { childList: true, subtree: true })`
	var before, after string
	serverIdle := func() error {
		for range 500 {
			if idle, err := t.server.idle(t.ctx); idle || err != nil {
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
		return errors.New("the server generates after the stop")
	}
	return steps(
		func() error { return t.until(`document.getElementById("model").options.length === 2`) },
		func() error {
			return errors.Join(t.do(chromedp.Evaluate(stopAt, nil)), t.send("It was"))
		},
		t.idle,
		serverIdle,
		func() error { return t.shows(".stats", "Stopped.", "Continue") },
		func() (err error) { before, err = t.text(".text"); return err },
		func() error { return t.set("max_tokens", "10") },
		func() error { return t.do(chromedp.Click(".stats button", chromedp.ByQuery)) },
		t.idle,
		func() (err error) { after, err = t.text(".text"); return err },
		func() error {
			if !strings.HasPrefix(after, before) || len(after) == len(before) {
				return fmt.Errorf("%q, continued: %q", before, after)
			}
			return nil
		},
		// Without probabilities the text has no tokens to point at.
		func() error {
			return t.do(chromedp.Click("#open-settings", chromedp.ByQuery), chromedp.Click("#probabilities", chromedp.ByQuery), chromedp.Click("#open-settings", chromedp.ByQuery))
		},
		func() error { return t.send("And then") },
		t.idle,
		func() error {
			return t.until(`document.querySelector(".turn:nth-child(2) .text").textContent !== "" && !document.querySelector(".turn:nth-child(2) .token")`)
		},
		func() error { return t.do(chromedp.Click("#clear", chromedp.ByQuery)) },
		func() error { return t.until(`document.querySelectorAll(".turn").length === 0`) },
	)
}

// checkErrors sends what the server refuses. What was typed is not lost.
func checkErrors(t *tab) error {
	const message = "A long story"
	t.expected = append(t.expected, "status of 400")
	return steps(
		func() error { return t.until(`document.getElementById("model").options.length === 2`) },
		func() error { return t.set("max_tokens", "5000") },
		func() error { return t.send(message) },
		t.idle,
		func() error {
			return t.shows(".error", "The server refused the request: the prompt has", "max_tokens is 5000", "the context of this server has 1024")
		},
		func() error { return t.equals(".message", message) },
		func() error { return t.do(chromedp.Click("#edit", chromedp.ByQuery)) },
		func() error { return t.until(fmt.Sprintf(`document.getElementById("input").value === %q`, message)) },
		func() error { return t.set("max_tokens", "5") },
		func() error { return t.do(chromedp.Click("#send", chromedp.ByQuery)) },
		t.idle,
		func() error { return t.equals(".error", "") },
		func() error { return t.shows(".stats", "5 tokens") },
		// A setting that is no value of its field opens the settings.
		func() error { return t.set("temperature", "3") },
		func() error { return t.do(chromedp.SendKeys("#input", message, chromedp.ByQuery), enter(0)) },
		func() error {
			return t.until(fmt.Sprintf(`!document.getElementById("settings").hidden && document.getElementById("input").value === %q`, message))
		},
	)
}

// replies makes the page receive what a model could write: HTML, parts of characters, characters
// without a shape, and an error in the middle.
//
//go:embed replies.js
var replies string

// checkHostile checks that a text of the model is shown as text.
func checkHostile(t *tab) error {
	const html = `<img src=x onerror="document.title='run'"><script>document.title='run'</script>`
	return steps(
		func() error { return t.until(`document.getElementById("model").options.length === 2`) },
		func() error {
			return errors.Join(t.do(chromedp.Evaluate(replies, nil)), t.send(html))
		},
		t.idle,
		func() error { return t.equals(".message", html) },
		func() error { return t.equals(".text", html+"é\n—") },
		func() error { return t.equals(".error", "The server ended the answer: the server is shutting down") },
		func() error { return t.shows(".stats", "Not complete.", "Continue") },
		func() error { return t.point(".token", 0) },
		func() error { return t.shows("#alternatives", html, "<b>bold</b>", "␣x", "↵", "U+200B") },
		func() error { return t.point(".token", 1) },
		func() error { return t.shows("#alternatives", `bytes:\xc3`, `bytes:\xa9`) },
		func() error {
			return t.until(`!document.querySelector("main img, main script, main b, #alternatives b") && document.title !== "run"`)
		},
	)
}

// checkKeyAndText enters a wrong key and the right one, continues a text, and sends a request to a
// server that is busy.
func checkKeyAndText(t *tab) error {
	const prompt = `<img src=x onerror="document.title='run'"> The old man`
	const dialog = `document.getElementById("key-dialog").open && document.getElementById("key-note").textContent.includes(%q)`
	t.expected = append(t.expected, "status of 401", "status of 429")
	busy, cancel := context.WithCancel(t.ctx)
	defer cancel()
	ask := func() error {
		a, err := t.server.post(t.ctx, "/v1/completions", object{"prompt": prompt, "temperature": 0.8, "top_p": 0.95, "max_tokens": 20, "seed": 3})
		if err != nil {
			return err
		}
		return t.equals(".text", a.text())
	}
	return steps(
		func() error { return t.until(fmt.Sprintf(dialog, "needs an API key")) },
		func() error { return t.giveKey("wrong") },
		func() error { return t.until(fmt.Sprintf(dialog, "refused this key")) },
		func() error { return t.giveKey(apiKey) },
		func() error { return t.until(`document.getElementById("model").options.length === 1`) },
		func() error { return t.shows("#intro", "no chat template") },
		func() error { return t.set("seed", "3") },
		func() error { return t.set("max_tokens", "20") },
		func() error { return t.send(prompt) },
		t.idle,
		func() error { return t.equals(".prompt", prompt) },
		ask,
		func() error { return t.until(`!document.querySelector("main img") && document.title !== "run"`) },

		func() error {
			// One answer runs and one waits, as many as this server has.
			for waiting := range 2 {
				go t.server.post(busy, "/v1/completions", object{"prompt": "It was", "max_tokens": 1000, "ignore_eos": true})
				for there := false; !there; {
					var err error
					if there, err = t.server.answers(t.ctx, 1, waiting); err != nil {
						return err
					}
				}
			}
			return t.do(chromedp.Click("#again", chromedp.ByQuery))
		},
		t.idle,
		func() error { return t.shows(".error", "The server is busy: ", "status 429") },
		func() error { return t.shows(".stats", "Try again") },
		func() error {
			cancel()
			for idle := false; !idle; {
				var err error
				if idle, err = t.server.idle(t.ctx); err != nil {
					return err
				}
			}
			return t.do(chromedp.Click(".stats button", chromedp.ByQuery))
		},
		t.idle,
		ask,
	)
}

// checkGone ends the server.
func checkGone(t *tab) error {
	t.expected = append(t.expected, "status of 401", "ERR_CONNECTION_REFUSED")
	return steps(
		func() error { return t.until(`document.getElementById("key-dialog").open`) },
		func() error { return t.giveKey(apiKey) },
		func() error { return t.until(`document.getElementById("model").options.length === 1`) },
		func() error { t.server.stop(); return nil },
		func() error { return t.send("The old man") },
		t.idle,
		func() error { return t.shows(".error", "The server cannot be reached.") },
		func() error { return t.shows(".prompt", "The old man") },
	)
}
