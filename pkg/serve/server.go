package serve

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"afmq/pkg/batch"
	"afmq/pkg/chat"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
)

// Adapter is a model of the API: the base with a LoRA adapter.
type Adapter struct {
	Name  string
	Model *infer.Model // that [infer.Model.WithAdapter] returned
}

// Options are the options of [New]. The zero value works.
type Options struct {
	Name     string         // of the model in the API; empty for the name of its directory or file
	Adapters []Adapter      // further models, by names of their own
	Template *chat.Template // nil for a model without chat completions
	// NoTemplate is why Template is nil; nil if the model has none.
	NoTemplate error
	Engine     batch.Options
	// Keys are the API keys, one of which a client must send; empty for a server that anyone who
	// reaches it may use.
	Keys []string
	// Hosts are the names by which clients may address the server: the value of the Host header
	// without its port. Empty allows all. A server on the loopback interface sets it, lest a page
	// of another site reaches the server under a name of its own that resolves to the loopback
	// address (DNS rebinding).
	Hosts   []string
	MaxBody int64         // bytes of a request at most; 0 for 4 MiB
	Timeout time.Duration // of a request; 0 for 10 minutes
	Log     *slog.Logger  // of internal errors; nil for none
}

// Server is an HTTP server of a model.
type Server struct {
	opts        Options
	engine      *batch.Engine
	models      map[string]*infer.Model
	fingerprint string // of the weights
	started     time.Time
	turns       chan struct{} // has an element for each prompt that is being encoded
	keys        [][sha256.Size]byte
	metrics     *metrics
	handler     http.Handler
	now         func() time.Time

	bodyTime, writeTime time.Duration // as the constants; shorter in tests
}

// New makes a server and starts the engine of the model, which must have a tokenizer. Errors are of
// kind [fault.Usage].
func New(m *infer.Model, opts Options) (*Server, error) {
	if m.Tokenizer == nil {
		return nil, fault.Usagef("%s was opened without its tokenizer", m.Dir)
	}
	if opts.Name == "" {
		opts.Name = defaultName(m.Dir)
	}
	if opts.MaxBody == 0 {
		opts.MaxBody = 4 << 20
	}
	if opts.Timeout == 0 {
		opts.Timeout = 10 * time.Minute
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{opts: opts, models: map[string]*infer.Model{opts.Name: m}, started: time.Now(), now: time.Now, bodyTime: bodyTime, writeTime: writeTime}
	s.turns = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)))
	for _, a := range opts.Adapters {
		switch {
		case a.Name == "":
			return nil, fault.Usagef("an adapter has no name")
		case a.Model == nil || a.Model.Config != m.Config:
			return nil, fault.Usagef("adapter %q is not one of the model %s", a.Name, m.Dir)
		case s.models[a.Name] != nil:
			return nil, fault.Usagef("two models have the name %q", a.Name).WithHint("give an adapter another name: --adapter NAME=DIR")
		}
		s.models[a.Name] = a.Model
	}
	for _, k := range opts.Keys {
		if k == "" {
			return nil, fault.Usagef("an API key is empty")
		}
		s.keys = append(s.keys, sha256.Sum256([]byte(k)))
	}
	var err error
	if s.engine, err = batch.New(m, opts.Engine); err != nil {
		return nil, err
	}
	s.fingerprint = fingerprint(m, opts.Engine)
	s.metrics = newMetrics(s.engine)
	s.handler = s.routes()
	return s, nil
}

// defaultName returns the name of a directory or of a file without its ending.
func defaultName(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return strings.TrimSuffix(filepath.Base(path), ".gguf")
}

// fingerprint identifies what determines an answer: the weights and the arithmetics.
func fingerprint(m *infer.Model, o batch.Options) string {
	weights := m.Dir
	if m.Manifest != nil {
		weights = m.Manifest.ContentHash
	}
	h := sha256.Sum256([]byte(fmt.Sprintf("%s\n%s\n%s", weights, o.Prefill, o.Decode)))
	return "fp_" + hex.EncodeToString(h[:5])
}

// Models returns the names of the models of the API: the base and then the adapters.
func (s *Server) Models() []string { return append([]string{s.opts.Name}, s.adapterNames()...) }

// Engine returns the engine that runs the requests.
func (s *Server) Engine() *batch.Engine { return s.engine }

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Close ends the engine of a server that is used as a handler; [Server.Serve] does so itself. It
// waits for requests until ctx is done.
func (s *Server) Close(ctx context.Context) { s.engine.Close(ctx) }

// Limits of connections: how many there are, and how long one may take to send its headers, and
// stay open without a request.
const (
	maxConnections = 1024
	headerTime     = 10 * time.Second
	idleTime       = 2 * time.Minute
	maxHeader      = 32 << 10
)

// Serve serves the connections of a listener until ctx is done. Then it takes no more, waits for
// the requests that run, for at most grace, and ends those that are left. It returns nil after such
// a shutdown, and an error if the listener or the engine fails.
func (s *Server) Serve(ctx context.Context, listener net.Listener, grace time.Duration) error {
	h := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTime, ReadTimeout: s.bodyTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.opts.Log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(netutil.LimitListener(listener, maxConnections)) }()
	var err error
	select {
	case err = <-failed:
	case <-s.engine.Failed():
		err = s.engine.Err()
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	go s.engine.Close(ending) // requests that run end after grace, and with them the connections
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), grace+5*time.Second)
	defer stop()
	if h.Shutdown(last) != nil {
		_ = h.Close()
	}
	s.engine.Close(ending)
	return err
}

// routes returns the handler of all paths.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, route := range []struct {
		method, path string
		open         bool // without a key
		f            func(http.ResponseWriter, *http.Request) error
	}{
		{"POST", "/v1/completions", false, s.completions},
		{"POST", "/v1/chat/completions", false, s.chatCompletions},
		{"GET", "/v1/models", false, s.listModels},
		{"GET", "/v1/models/{name...}", false, s.oneModel},
		{"POST", "/tokenize", false, s.tokenize},
		{"POST", "/detokenize", false, s.detokenize},
		{"GET", "/tokenizer_info", false, s.tokenizerInfo},
		{"GET", "/metrics", false, s.metrics.serve},
		{"GET", "/health", true, s.health},
		{"GET", "/{$}", true, s.page},
	} {
		mux.Handle(route.path, s.handle(route.path, route.method, route.open, route.f))
	}
	mux.Handle("/", s.handle("other", "", true, func(_ http.ResponseWriter, r *http.Request) error {
		return newError(http.StatusNotFound, "invalid_request_error", "", "unknown_url", "there is no %s %s", r.Method, r.URL.Path)
	}))
	return mux
}

// handle makes a handler of a function that returns an error: it checks the method, the host and
// the key, and turns errors and panics into answers.
func (s *Server) handle(path, method string, open bool, f func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := &observation{path: path, begun: time.Now()}
		r = r.WithContext(context.WithValue(r.Context(), observationKey{}, o))
		record := &recorder{ResponseWriter: w}
		defer func() {
			p := recover()
			defer func() { s.metrics.observe(o, record.status) }()
			if p == http.ErrAbortHandler {
				panic(p)
			}
			if p != nil {
				s.opts.Log.Error("panic", "path", path, "value", p, "stack", string(debug.Stack()))
				s.fail(record, batch.ErrInternal)
			}
		}()
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // that of an earlier answer
		err := s.allow(r, method, open)
		if err == nil {
			err = f(record, r)
		}
		if err != nil {
			s.fail(record, err)
		}
	})
}

// refusedTime is how long a client that is refused may take to send the rest of its request.
const refusedTime = time.Second

// fail answers with an error, if nothing has been answered.
func (s *Server) fail(w *recorder, err error) {
	e := asAPIError(err)
	if e.status == http.StatusInternalServerError {
		s.opts.Log.Error("request failed", "error", err)
	}
	switch {
	case w.status != 0: // what was begun cannot be an error any more
		panic(http.ErrAbortHandler)
	case e.status == statusClientClosed:
		w.status = e.status
		panic(http.ErrAbortHandler)
	default:
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(refusedTime))
		writeError(w, e)
	}
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (w *recorder) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(data []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(data)
}

// Unwrap is for [http.ResponseController].
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// randomID returns 24 random hexadecimal digits.
func randomID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
