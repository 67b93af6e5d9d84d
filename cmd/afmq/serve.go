package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/internal/infile"
	"afmq/pkg/batch"
	"afmq/pkg/chat"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/serve"
)

type serveOptions struct {
	host        string
	port        int
	keyFile     string
	noAuth      bool
	name        string
	ctx         string // a count
	parallel    int
	queue       int
	prefixCache string // a size
	timeout     time.Duration
	grace       time.Duration
	template    string
	adapters    adapterFlags
	verify      bool
	compute     computeFlag
}

// serveObject is printed when the server takes requests.
type serveObject struct {
	Schema   string   `json:"schema"`
	URL      string   `json:"url"`
	Models   []string `json:"models"` // the base and then the adapters
	Chat     bool     `json:"chat"`   // there is a chat template
	Auth     bool     `json:"auth"`   // clients send an API key
	Ctx      int      `json:"ctx"`
	Parallel int      `json:"parallel"`
	// KVBytes is the memory of the keys and values of Parallel full sequences; PrefixCacheBytes that
	// of what is kept of finished ones. Both are limits, and are taken when they are needed.
	KVBytes          int64  `json:"kv_bytes"`
	PrefixCacheBytes int64  `json:"prefix_cache_bytes"`
	PromptCompute    string `json:"prompt_compute"`
	Compute          string `json:"compute"`
}

func newServeCommand(a *app) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve PATH",
		Short: "Serve a model over HTTP with the API of OpenAI",
		Long: `Serves the model at PATH, a directory or a GGUF file, with the API of OpenAI:
/v1/completions, /v1/chat/completions and /v1/models, streamed or whole, with
log-probabilities of prompts and answers. /tokenize, /detokenize and /tokenizer_info are
those of vLLM, so that lm-evaluation-harness runs without a change (docs/evaluation.md).
/health is for load balancers, /metrics for Prometheus. The page at / chats with the model.

Each --adapter NAME=DIR is a further model of the API. All share the weights in memory and
run in the same passes.

Requests run at the same time, up to --parallel; up to --queue more wait, and others get
status 429. A prompt that begins as an earlier one did is not computed again from the start.
The same request gives the same answer, to the last digit, whatever else runs: without a
"seed", the seed is 0.

The server listens on the loopback interface. For another --host it needs --api-key-file,
with one key a line, or --no-auth. SIGTERM and SIGINT end it after the requests that run.`,
		Example: `  afmq serve my-4bit
  afmq serve my-4bit --adapter recovered=recovered/rank-16 --parallel 16
  afmq serve my-4bit --host 0.0.0.0 --api-key-file keys.txt`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runServe(cmd, a, args[0], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.host, "host", "127.0.0.1", "listen on `ADDRESS`, an IP address or a name of this machine")
	f.IntVar(&o.port, "port", 8080, "listen on port `N`; 0 takes a free one and prints it")
	f.StringVar(&o.keyFile, "api-key-file", "", "answer only clients that send one of the API keys in `FILE`, one a line")
	f.BoolVar(&o.noAuth, "no-auth", false, "listen on another address than the loopback interface without API keys")
	f.StringVar(&o.name, "name", "", "`NAME` of the model in the API (default: that of the directory or file)")
	f.StringVar(&o.ctx, "ctx", "", "`N` tokens of a prompt and its answer together at most (default: the model's max_position_embeddings)")
	f.IntVar(&o.parallel, "parallel", batch.DefaultParallel, "`N` answers that are generated at the same time at most")
	f.IntVar(&o.queue, "queue", batch.DefaultQueue, "`N` answers that may wait")
	f.StringVar(&o.prefixCache, "prefix-cache", "256MiB", "keep keys and values of up to `SIZE` for prompts that begin alike; 0 for none")
	f.DurationVar(&o.timeout, "timeout", 10*time.Minute, "end a request after `DURATION`")
	f.DurationVar(&o.grace, "grace", 30*time.Second, "wait `DURATION` at most for running requests when the server is to end")
	registerTemplate(f, &o.template)
	f.BoolVar(&o.verify, "verify", true, verifyUsage)
	o.adapters.register(f)
	f.Lookup("adapter").Usage = "serve the model with an adapter too, under a name of its own: `[NAME=]DIR`; repeatable. NAME, without path separators, is the directory's by default"
	o.compute.register(f, "auto")
	return cmd
}

// listenAddress checks the host and the port, and returns the address to listen on and whether it
// is reached from this machine only.
func (o *serveOptions) listenAddress() (address string, loopback bool, err error) {
	if o.port < 0 || o.port > 65535 {
		return "", false, fault.Usagef("--port %d is not between 0 and 65535", o.port)
	}
	o.host = strings.ToLower(o.host)
	loopback = o.host == "localhost"
	if ip := net.ParseIP(o.host); ip != nil {
		loopback = ip.IsLoopback()
	}
	switch {
	case o.host == "":
		return "", false, fault.Usagef("--host is empty").WithHint("0.0.0.0 listens on all addresses of this machine")
	case o.noAuth && o.keyFile != "":
		return "", false, fault.Usagef("--no-auth and --api-key-file exclude each other")
	case !loopback && o.keyFile == "" && !o.noAuth:
		return "", false, fault.Usagef("--host %s can be reached from other machines", o.host).
			WithHint("give --api-key-file, so that clients need a key, or --no-auth if anyone may use the server")
	}
	return net.JoinHostPort(o.host, strconv.Itoa(o.port)), loopback, nil
}

// keys reads the API keys.
func (o *serveOptions) keys() ([]string, error) {
	if o.keyFile == "" {
		return nil, nil
	}
	data, err := infile.Read(o.keyFile, 1<<20)
	if err != nil {
		return nil, err
	}
	var keys []string
	for line := range strings.Lines(strings.TrimPrefix(string(data), "\ufeff")) {
		if key := strings.TrimSpace(line); key != "" && !strings.HasPrefix(key, "#") {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, fault.Inputf(o.keyFile, "has no API key").WithHint("write one key a line; lines that begin with # are comments")
	}
	return keys, nil
}

// limits returns the options of the engine, and checks them.
func (o *serveOptions) limits(f *pflag.FlagSet, a *app) (batch.Options, error) {
	opts, err := o.compute.engine(a)
	if err != nil {
		return opts, err
	}
	opts.Parallel, opts.Queue = o.parallel, o.queue
	if o.parallel < 1 || o.queue < 1 {
		return opts, fault.Usagef("--parallel %d and --queue %d: expected 1 or more", o.parallel, o.queue)
	}
	if f.Changed("ctx") {
		n, err := parseCount("ctx", o.ctx)
		if err != nil {
			return opts, err
		}
		if n < 2 || n > 1<<30 {
			return opts, fault.Usagef("--ctx %d is not between 2 and the model's context", n)
		}
		opts.Ctx = int(n)
	}
	if opts.PrefixBytes = -1; o.prefixCache != "0" { // 0 needs no unit
		if opts.PrefixBytes, err = parseSize("prefix-cache", o.prefixCache); err != nil {
			return opts, err
		}
	}
	if o.timeout <= 0 || o.grace < 0 {
		return opts, fault.Usagef("--timeout %v and --grace %v: expected a positive time", o.timeout, o.grace)
	}
	return opts, nil
}

func runServe(cmd *cobra.Command, a *app, path string, o serveOptions) error {
	ctx := cmd.Context()
	address, loopback, err := o.listenAddress()
	if err != nil {
		return err
	}
	engine, err := o.limits(cmd.Flags(), a)
	if err != nil {
		return err
	}
	opts := serve.Options{Name: o.name, Engine: engine, Timeout: o.timeout, Log: slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if opts.Keys, err = o.keys(); err != nil {
		return err
	}
	if loopback && len(opts.Keys) == 0 {
		opts.Hosts = []string{"localhost", "127.0.0.1", "::1"}
		if !slices.Contains(opts.Hosts, o.host) {
			opts.Hosts = append(opts.Hosts, o.host)
		}
	}
	adapters, err := o.adapters.adapters()
	if err != nil {
		return err
	}
	// Listening comes first: a port that is taken is known before a large model is read.
	listener, err := net.Listen("tcp", address)
	if err != nil {
		failure := fault.Usagef("--host %s --port %d: %v", o.host, o.port, errors.Unwrap(err))
		if errors.Is(err, syscall.EADDRINUSE) {
			failure = failure.WithHint("choose another --port; 0 takes a free one")
		}
		return failure
	}
	defer listener.Close()
	model, err := infer.Open(ctx, path, infer.OpenOptions{SkipVerify: !o.verify, Pool: a.workers(), Progress: a.progress()})
	if err != nil {
		return err
	}
	variants, err := eval.OpenAdapters(model, adapters, o.adapters.allowUnbound)
	if err != nil {
		return err
	}
	a.warn(eval.AdapterWarnings(model, variants))
	for _, v := range variants {
		opts.Adapters = append(opts.Adapters, serve.Adapter{Name: v.Name, Model: v.Model})
	}
	if opts.Template, err = openTemplate(path, o.template); err != nil {
		if o.template != "" {
			return err
		}
		if !errors.Is(err, chat.ErrNoTemplate) {
			opts.NoTemplate = err
			a.warn([]string{fmt.Sprintf("conversations are refused: %v", err)})
		}
	}
	debug.FreeOSMemory() // what was read is packed now; a server runs for long
	server, err := serve.New(model, opts)
	if err != nil {
		return err
	}
	out := describeServer(server, model, engine, listener.Addr(), opts)
	if err := a.print(out, func(w io.Writer) error { return printServer(w, out) }); err != nil {
		return err
	}
	return server.Serve(ctx, listener, o.grace)
}

func describeServer(s *serve.Server, m *infer.Model, engine batch.Options, at net.Addr, opts serve.Options) serveObject {
	out := serveObject{
		Schema: "afmq.serve/v1", URL: "http://" + at.String(), Models: s.Models(), Chat: opts.Template != nil, Auth: len(opts.Keys) > 0,
		Ctx: s.Engine().Ctx(), Parallel: engine.Parallel, PrefixCacheBytes: max(engine.PrefixBytes, 0),
		PromptCompute: engine.Prefill.String(), Compute: engine.Decode.String(),
	}
	out.KVBytes = int64(out.Parallel) * m.CacheBytes(out.Ctx)
	return out
}

func printServer(w io.Writer, o serveObject) error {
	return table(w, func(w io.Writer) {
		fmt.Fprintf(w, "serving\t%s\n", o.URL)
		fmt.Fprintf(w, "models\t%s\n", escapeControls(strings.Join(o.Models, ", ")))
		fmt.Fprintf(w, "context\t%s tokens, %d answers at the same time\n", thousands(int64(o.Ctx)), o.Parallel)
		fmt.Fprintf(w, "keys and values\tup to %s, and %s of finished answers\n", size(o.KVBytes), size(o.PrefixCacheBytes))
		fmt.Fprintf(w, "arithmetic\t%s for prompts, %s for answers\n", o.PromptCompute, o.Compute)
		if !o.Chat {
			fmt.Fprintln(w, "chat\tno: the model has no chat template; --chat-template names one")
		}
		if !o.Auth {
			fmt.Fprintln(w, "API keys\tnone: whoever reaches this address may use it")
		}
	})
}
