package batch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"afmq/pkg/adapter"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
)

const tinyModel = "../../internal/demo/model"

var bg = context.Background()

var openTiny = sync.OnceValues(func() (*infer.Model, error) {
	return infer.Open(bg, tinyModel, infer.OpenOptions{Threads: 2})
})

func tiny(t testing.TB) *infer.Model {
	t.Helper()
	m, err := openTiny()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func start(t testing.TB, m *infer.Model, opts Options) *Engine {
	t.Helper()
	if opts.Pool == nil && opts.Threads == 0 {
		opts.Threads = 2
	}
	e, err := New(m, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(bg) })
	return e
}

// randomAdapter returns the model with an adapter of random weights.
func randomAdapter(m *infer.Model, rank int, seed uint64) *infer.Model {
	rng := rand.New(rand.NewPCG(seed, 0))
	normal := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64() / 8)
		}
		return x
	}
	a := &adapter.Adapter{Config: adapter.Config{Rank: rank, Alpha: float64(2 * rank)}, Modules: map[string]adapter.Weights{}}
	for _, spec := range m.Config.Tensors() {
		if strings.HasSuffix(spec.Name, "_proj.weight") {
			a.Modules[spec.Module()] = adapter.Weights{A: normal(rank * spec.Shape[1]), B: normal(rank * spec.Shape[0]), DType: safetensors.F16}
		}
	}
	return m.WithAdapter(a)
}

func encode(m *infer.Model, text string) []int32 { return m.Tokenizer.Encode(text, true).IDs }

func ids(tokens []Token) []int32 {
	list := make([]int32, len(tokens))
	for i, t := range tokens {
		list[i] = t.ID
	}
	return list
}

func do(t *testing.T, e *Engine, requests ...*Request) []*Result {
	t.Helper()
	results, err := e.Do(bg, requests...)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// A request alone generates what Model.Generate does, greedily and sampled, and says why it ended.
func TestSameAsGenerate(t *testing.T) {
	m := tiny(t)
	e := start(t, m, Options{})
	for i, text := range []string{"The old man looked at the sea", "It was", "Chapter"} {
		for _, temperature := range []float64{0, 1} {
			sampler := func() (s infer.Sampler) {
				s = infer.Sampler{Temperature: temperature, TopK: 50, TopP: 0.95}
				s.Seed(uint64(i))
				return s
			}
			want, err := m.Generate(bg, encode(m, text), infer.GenerateOptions{MaxTokens: 30, Sampler: sampler(), Threads: 2})
			if err != nil {
				t.Fatal(err)
			}
			var emitted []int32
			got := do(t, e, &Request{Prompt: encode(m, text), MaxTokens: 30, Sampler: sampler(), Emit: func(t Token) bool {
				emitted = append(emitted, t.ID)
				return false
			}})[0]
			if !slices.Equal(ids(got.Tokens), want.Tokens) || string(got.Reason) != want.StopReason || !slices.Equal(emitted, want.Tokens) {
				t.Errorf("%q at temperature %g: %v (%s), emitted %v; want %v (%s)",
					text, temperature, ids(got.Tokens), got.Reason, emitted, want.Tokens, want.StopReason)
			}
		}
	}
}

// The log-probabilities of a prompt and of a continuation are those of one pass over both.
func TestScores(t *testing.T) {
	m := tiny(t)
	e := start(t, m, Options{})
	prompt := encode(m, "The old man looked at the sea and said nothing for a long time")
	got := do(t, e, &Request{Prompt: prompt, MaxTokens: 8, Score: true, ScorePrompt: true, Top: 3})[0]
	all := append(slices.Clone(prompt), ids(got.Tokens)...)
	r := m.NewRunner(nil)
	hidden := r.Forward([]infer.Segment{{Cache: m.NewCache(len(all)), Tokens: all}})
	vocab := m.Config.VocabSize
	logits := make([]float32, len(all)*vocab)
	r.Logits(logits, hidden, len(all))
	scores := slices.Concat(got.Prompt, got.Tokens)
	if len(got.Prompt) != len(prompt) || len(got.Tokens) != 8 {
		t.Fatalf("%d and %d scores", len(got.Prompt), len(got.Tokens))
	}
	if s := scores[0]; s.LogProb != 0 || s.Top != nil || s.ID != prompt[0] {
		t.Errorf("the first token has the score %+v", s)
	}
	for i := 1; i < len(all); i++ {
		p, top := infer.LogProbs(logits[(i-1)*vocab:i*vocab], all[i], 3)
		if s := scores[i]; s.ID != all[i] || s.LogProb != p || !slices.Equal(s.Top, top) {
			t.Errorf("token %d has the score %+v, want %g and %v", i, s, p, top)
		}
	}
}

// mixedRequests are requests of every kind, of several adapters and with common beginnings.
func mixedRequests(m *infer.Model, variants []*infer.Model, n int) []func() *Request {
	words := strings.Fields("the old man looked at the sea and said nothing for a long time while she was there")
	rng := rand.New(rand.NewPCG(7, 7))
	var list []func() *Request
	contexts := []string{"Once there was a house", strings.Repeat("It was a long and quiet story about the sea. ", 8), "Go"}
	for range n {
		text := contexts[rng.IntN(len(contexts))]
		for range rng.IntN(12) {
			text += " " + words[rng.IntN(len(words))]
		}
		r := Request{
			Model: variants[rng.IntN(len(variants))], Prompt: encode(m, text), MaxTokens: rng.IntN(20),
			Score: rng.IntN(2) == 0, ScorePrompt: rng.IntN(2) == 0, Top: rng.IntN(4), IgnoreEOS: rng.IntN(2) == 0,
		}
		temperature, seed := float64(rng.IntN(3))/2, rng.Uint64()
		list = append(list, func() *Request {
			c := r
			c.Sampler = infer.Sampler{Temperature: temperature, TopP: 0.9}
			c.Sampler.Seed(seed)
			return &c
		})
	}
	return list
}

// same compares the answers of two results, not their times and what was cached.
func same(a, b *Result) bool {
	return reflect.DeepEqual(a.Prompt, b.Prompt) && reflect.DeepEqual(a.Tokens, b.Tokens) && reflect.DeepEqual(a.End, b.End) && a.Reason == b.Reason
}

// A request has the same answer alone and among any others, at any number of sequences in a pass,
// with prefixes kept or not, in one arithmetic and in two.
func TestSameAmongOthers(t *testing.T) {
	m := tiny(t)
	variants := []*infer.Model{nil, m, randomAdapter(m, 4, 1), randomAdapter(m, 4, 2)}
	list := mixedRequests(m, variants, 60)
	arithmetics := []Options{{}}
	if a := compute.Fastest(false); a != compute.F32 {
		arithmetics = append(arithmetics, Options{Prefill: a, Decode: compute.Fastest(true)})
	}
	for _, opts := range arithmetics {
		t.Run(fmt.Sprint(opts.Prefill, "+", opts.Decode), func(t *testing.T) {
			alone := opts
			alone.PrefixBytes, alone.Parallel = -1, 1
			e := start(t, m, alone)
			var want []*Result
			for _, r := range list {
				want = append(want, do(t, e, r())[0])
			}
			if e.Stats().CachedTokens != 0 {
				t.Fatal("an engine without kept prefixes has copied some")
			}
			for _, parallel := range []int{1, 3, 16} {
				opts.Parallel, opts.PrefixBytes = parallel, 1<<20
				e := start(t, m, opts)
				var wg sync.WaitGroup
				for part := range 4 { // together and one by one
					wg.Go(func() {
						var requests []*Request
						for i := part; i < len(list); i += 4 {
							requests = append(requests, list[i]())
						}
						for size := 1; len(requests) > 0; size++ {
							n := min(size, len(requests))
							got, err := e.Do(bg, requests[:n]...)
							if err != nil {
								t.Error(err)
								return
							}
							first := len(list)/4 - len(requests)
							for i, g := range got {
								if w := want[part+4*(first+i)]; !same(g, w) {
									t.Errorf("parallel %d: request %d: %+v, alone %+v", parallel, part+4*(first+i), g, w)
								}
							}
							requests = requests[n:]
						}
					})
				}
				wg.Wait()
				s := e.Stats()
				if s.CachedTokens == 0 || s.Finished != int64(len(list)) || s.Running+s.Waiting != 0 {
					t.Errorf("parallel %d: %+v", parallel, s)
				}
				if s.PrefixBytes > 1<<20 {
					t.Errorf("%d bytes are kept", s.PrefixBytes)
				}
			}
		})
	}
}

// Requests that begin alike compute the beginning once, whether they come together or one after
// the other, scored or not.
func TestPrefixes(t *testing.T) {
	m := tiny(t)
	beginning := encode(m, strings.Repeat("It was a long and quiet story about the sea. ", 6))
	request := func(choice int, scored bool) *Request {
		return &Request{Prompt: append(slices.Clone(beginning), int32(100+choice), int32(200+choice)), MaxTokens: 1, ScorePrompt: scored, Top: 1}
	}
	for _, scored := range []bool{false, true} {
		e := start(t, m, Options{})
		together := do(t, e, request(0, scored), request(1, scored), request(2, scored))
		later := do(t, e, request(3, scored))[0]
		want := len(beginning)
		if scored {
			want-- // the logits of the last common token score the next one
		}
		for i, r := range []*Result{together[1], together[2], later} {
			if r.Cached != want {
				t.Errorf("scored %v: request %d took %d tokens, want %d", scored, i+1, r.Cached, want)
			}
		}
		if s := e.Stats(); s.CachedTokens != int64(3*want) || s.PromptTokens != int64(4*(len(beginning)+2)-3*want) {
			t.Errorf("scored %v: %+v", scored, s)
		}
		// Scores that were not kept are computed anew; another model shares nothing.
		other := request(4, true)
		other.Top = 2
		if r := do(t, e, other)[0]; r.Cached != 0 {
			t.Errorf("a request with more likely tokens took %d positions", r.Cached)
		}
		other = request(5, false)
		other.Model = randomAdapter(m, 4, 1)
		if r := do(t, e, other)[0]; r.Cached != 0 {
			t.Errorf("a request of another adapter took %d positions", r.Cached)
		}
	}
}

// A conversation goes on from what was generated, if prompts have the same arithmetic.
func TestPrefixOfAnswer(t *testing.T) {
	m := tiny(t)
	e := start(t, m, Options{})
	prompt := encode(m, "The old man looked at the sea")
	first := do(t, e, &Request{Prompt: prompt, MaxTokens: 10, IgnoreEOS: true})[0]
	prompt = slices.Concat(prompt, ids(first.Tokens), encode(m, "and said"))
	if r := do(t, e, &Request{Prompt: prompt, MaxTokens: 1})[0]; r.Cached != len(prompt)-len(encode(m, "and said"))-1 {
		t.Errorf("%d of %d tokens were taken", r.Cached, len(prompt))
	}
}

// Emit ends a request; a full context does, and a prompt that fills it has one token more.
func TestEnds(t *testing.T) {
	m := tiny(t)
	e := start(t, m, Options{Ctx: 40})
	prompt := encode(m, "The old man")
	n := 0
	r := do(t, e, &Request{Prompt: prompt, MaxTokens: 30, IgnoreEOS: true, Emit: func(Token) bool { n++; return n == 3 }})[0]
	if r.Reason != Stopped || len(r.Tokens) != 3 {
		t.Errorf("%s after %d tokens", r.Reason, len(r.Tokens))
	}
	r = do(t, e, &Request{Prompt: prompt, MaxTokens: 1000, IgnoreEOS: true})[0]
	if r.Reason != Context || len(r.Tokens) != 41-len(prompt) {
		t.Errorf("%s after %d tokens", r.Reason, len(r.Tokens))
	}
	full := slices.Repeat(prompt[:1], 40)
	if r = do(t, e, &Request{Prompt: full, MaxTokens: 9, IgnoreEOS: true})[0]; r.Reason != Context || len(r.Tokens) != 1 {
		t.Errorf("%s after %d tokens", r.Reason, len(r.Tokens))
	}
	if r = do(t, e, &Request{Prompt: full, ScorePrompt: true})[0]; r.Reason != Length || len(r.Tokens) != 0 || len(r.Prompt) != 40 {
		t.Errorf("%+v", r)
	}
	ended := *m
	config := *m.Config
	config.EOS = []int32{do(t, e, &Request{Prompt: prompt, MaxTokens: 1, IgnoreEOS: true})[0].Tokens[0].ID}
	ended.Config = &config
	e = start(t, &ended, Options{})
	r = do(t, e, &Request{Prompt: prompt, MaxTokens: 5, Score: true, Top: 1})[0]
	if r.Reason != EOS || len(r.Tokens) != 0 || r.End == nil || r.End.ID != config.EOS[0] || r.End.LogProb >= 0 || r.End.Top[0].LogProb != r.End.LogProb {
		t.Errorf("%+v, end %+v", r, r.End)
	}
}

func TestRefusals(t *testing.T) {
	m := tiny(t)
	e := start(t, m, Options{Ctx: 40})
	config := *m.Config
	other := *m
	other.Config = &config
	for _, tt := range []struct {
		r    Request
		kind fault.Kind
	}{
		{Request{}, fault.Usage},
		{Request{Prompt: []int32{-1}}, fault.Usage},
		{Request{Prompt: []int32{int32(m.Config.VocabSize)}}, fault.Usage},
		{Request{Prompt: []int32{1}, MaxTokens: -1}, fault.Usage},
		{Request{Prompt: []int32{1}, Top: -1}, fault.Usage},
		{Request{Prompt: []int32{1}, Model: &other}, fault.Usage},
		{Request{Prompt: make([]int32, 41)}, fault.Infeasible},
	} {
		if _, err := e.Do(bg, &Request{Prompt: []int32{1}, MaxTokens: 1}, &tt.r); fault.KindOf(err) != tt.kind {
			t.Errorf("%+v: %v", tt.r, err)
		}
	}
	for _, opts := range []Options{{Ctx: -1}, {Ctx: m.Config.MaxPositions + 1}, {Parallel: -1}, {Queue: -1}} {
		if _, err := New(m, opts); fault.KindOf(err) != fault.Usage {
			t.Errorf("%+v: %v", opts, err)
		}
	}
}

// blocked runs a request whose Emit waits, and returns when it does.
func blocked(t *testing.T, e *Engine) (release func()) {
	t.Helper()
	started, wait, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(started) })
	go func() {
		defer close(done)
		_, err := e.Do(bg, &Request{Prompt: []int32{1}, MaxTokens: 1, IgnoreEOS: true, Emit: func(Token) bool {
			once()
			<-wait
			return false
		}})
		if err != nil {
			t.Error(err)
		}
	}()
	<-started
	return func() { close(wait); <-done }
}

// Requests beyond the queue are refused, those that are cancelled leave it, and both leave nothing.
func TestQueueAndCancel(t *testing.T) {
	m := tiny(t)
	e := start(t, m, Options{Parallel: 1, Queue: 2})
	release := blocked(t, e)
	ctx, cancel := context.WithCancel(bg)
	errs := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := e.Do(ctx, &Request{Prompt: []int32{1}, MaxTokens: 1})
			errs <- err
		}()
	}
	waiting := func(n int) {
		t.Helper()
		for range 1000 {
			e.mu.Lock()
			got := len(e.waiting)
			e.mu.Unlock()
			if got == n {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Fatalf("not %d sequences are waiting", n)
	}
	waiting(2)
	if _, err := e.Do(bg, &Request{Prompt: []int32{1}}); !errors.Is(err, ErrBusy) {
		t.Errorf("a third waiting request: %v", err)
	}
	one := &Request{Prompt: []int32{1}}
	if _, err := e.Do(bg, one, one, one); fault.KindOf(err) != fault.Usage {
		t.Errorf("more requests than may wait: %v", err)
	}
	cancel()
	release()
	for range 2 {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
	waiting(0)
	// One that runs is cancelled as well.
	ctx, cancel = context.WithCancel(bg)
	_, err := e.Do(ctx, &Request{Prompt: []int32{1}, MaxTokens: 100, IgnoreEOS: true, Emit: func(Token) bool { cancel(); return false }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while it ran: %v", err)
	}
	do(t, e, &Request{Prompt: []int32{1}, MaxTokens: 1, IgnoreEOS: true})
	if s := e.Stats(); s.Refused != 1 || s.Cancelled != 3 || s.Finished != 2 || s.Running+s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
}

// Close waits for what was admitted, or ends it when its context does.
func TestClose(t *testing.T) {
	m := tiny(t)
	e, err := New(m, Options{Threads: 1, Parallel: 1})
	if err != nil {
		t.Fatal(err)
	}
	release := blocked(t, e)
	closed := make(chan struct{})
	go func() { e.Close(bg); close(closed) }()
	for closing := false; !closing; {
		e.mu.Lock()
		closing = e.closing
		e.mu.Unlock()
	}
	if _, err := e.Do(bg, &Request{Prompt: []int32{1}}); !errors.Is(err, ErrClosed) {
		t.Errorf("a request after Close: %v", err)
	}
	select {
	case <-closed:
		t.Error("closed while a request runs")
	default:
	}
	release()
	<-closed
	e.Close(bg)

	if e, err = New(m, Options{Threads: 1}); err != nil {
		t.Fatal(err)
	}
	running := make(chan struct{})
	failed := make(chan error)
	go func() {
		once := sync.OnceFunc(func() { close(running) })
		_, err := e.Do(bg, &Request{Prompt: []int32{1}, MaxTokens: 1 << 20, IgnoreEOS: true, Emit: func(Token) bool {
			once()
			time.Sleep(10 * time.Millisecond) // it must not end by itself
			return false
		}})
		failed <- err
	}()
	<-running
	ctx, cancel := context.WithCancel(bg)
	cancel()
	e.Close(ctx)
	if err := <-failed; !errors.Is(err, ErrClosed) {
		t.Errorf("ended by Close: %v", err)
	}
}

// Logits that are not finite end the request with an error; an internal error ends all.
func TestFailures(t *testing.T) {
	m := tiny(t)
	broken := *m
	broken.FinalNorm = slices.Repeat([]float32{float32(math.Inf(1))}, len(m.FinalNorm))
	e := start(t, &broken, Options{})
	if _, err := e.Do(bg, &Request{Prompt: []int32{1, 2}, MaxTokens: 1}); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "not finite") {
		t.Errorf("infinite logits: %v", err)
	}
	e, err := New(m, Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Do(bg, &Request{Prompt: []int32{1}, MaxTokens: 2, IgnoreEOS: true, Emit: func(Token) bool { panic("a mistake") }})
	if err != ErrInternal {
		t.Errorf("a panic: %v", err)
	}
	<-e.Failed()
	if _, again := e.Do(bg, &Request{Prompt: []int32{1}}); again != ErrInternal || !errors.Is(e.Err(), ErrInternal) || !strings.Contains(e.Err().Error(), "a mistake") {
		t.Errorf("after a panic: %v, %v", again, e.Err())
	}
}

// Prompts around the length at which a scaled rotary embedding changes its frequencies, and those
// of models with windows, have the scores of one pass over the whole, whatever runs beside them.
func TestScaledPositions(t *testing.T) {
	for _, name := range []string{"llama-longrope-long", "llama-dynamic", "mistral-window-long", "qwen2-window", "gemma3-bf16", "phi4-mini-tied"} {
		t.Run(name, func(t *testing.T) {
			m, err := infer.OpenWeights(bg, filepath.Join("../infer/testdata/models", name), infer.OpenOptions{Threads: 2})
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(3, 3))
			shared := make([]int32, m.Config.MaxPositions)
			for i := range shared {
				shared[i] = int32(rng.IntN(m.Config.VocabSize))
			}
			edge := min(m.Config.Rope.OriginalPositions, 300)
			var list []*Request
			for i := range 24 {
				n := max(2, min(edge-8+i, m.Config.MaxPositions-4))
				prompt := slices.Clone(shared[:n])
				prompt[n-1-i%2] = int32(i % m.Config.VocabSize)
				list = append(list, &Request{Prompt: prompt, MaxTokens: 3, IgnoreEOS: true, ScorePrompt: true, Score: true})
			}
			e := start(t, m, Options{Parallel: 24})
			for range 2 { // the second time with what the first has kept
				results := do(t, e, list...)
				r := m.NewRunner(nil)
				vocab := m.Config.VocabSize
				for i, got := range results {
					prompt := list[i].Prompt
					cache := m.NewCache(len(prompt) + 3)
					hidden := r.Forward([]infer.Segment{{Cache: cache, Tokens: prompt}})
					logits := make([]float32, len(prompt)*vocab)
					r.Logits(logits, hidden, len(prompt))
					for k := 1; k < len(prompt); k++ {
						if p, _ := infer.LogProbs(logits[(k-1)*vocab:k*vocab], prompt[k], 0); p != got.Prompt[k].LogProb {
							t.Fatalf("prompt of %d tokens, %d cached: token %d has %g, want %g", len(prompt), got.Cached, k, got.Prompt[k].LogProb, p)
						}
					}
					next := logits[(len(prompt)-1)*vocab:]
					for k, token := range got.Tokens {
						if p, _ := infer.LogProbs(next, token.ID, 0); p != token.LogProb || infer.Argmax(next) != token.ID {
							t.Fatalf("prompt of %d tokens: generated token %d is %d with %g, want %d with %g", len(prompt), k, token.ID, token.LogProb, infer.Argmax(next), p)
						}
						r.Logits(next, r.Forward([]infer.Segment{{Cache: cache, Tokens: []int32{token.ID}}}), 1)
					}
				}
			}
			if e.Stats().CachedTokens == 0 {
				t.Error("nothing was taken from another sequence")
			}
		})
	}
}

// Calls of Do take turns: a short one does not wait for all of a long one.
func TestTurns(t *testing.T) {
	m := tiny(t)
	e := start(t, m, Options{Parallel: 1})
	release := blocked(t, e)
	var mu sync.Mutex
	var order []string
	call := func(name string, n int) <-chan error {
		done := make(chan error, 1)
		var requests []*Request
		for range n {
			requests = append(requests, &Request{Prompt: []int32{1}, MaxTokens: 1, IgnoreEOS: true, Emit: func(Token) bool {
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name)
				return false
			}})
		}
		go func() { _, err := e.Do(bg, requests...); done <- err }()
		for range 1000 { // until they wait
			e.mu.Lock()
			waiting := len(e.waiting)
			e.mu.Unlock()
			if waiting >= n {
				break
			}
			time.Sleep(time.Millisecond)
		}
		return done
	}
	long := call("long", 50)
	short := call("short", 2)
	time.Sleep(20 * time.Millisecond)
	release()
	if err := errors.Join(<-long, <-short); err != nil {
		t.Fatal(err)
	}
	if last := slices.Index(order, "short"); last < 0 || last > 3 {
		t.Errorf("the short call began at place %d of %v", last, order)
	}
}
