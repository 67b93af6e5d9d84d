package serve

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"afmq/pkg/batch"
)

// listen serves on a free port, and returns its URL and the function that ends the server, which
// returns the error of Serve.
func listen(t testing.TB, s *Server, grace time.Duration) (url string, end func() error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(bg)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, listener, grace) }()
	end = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { end() })
	return "http://" + listener.Addr().String(), end
}

// quiet waits until the engine has nothing to do.
func quiet(t testing.TB, s *Server) {
	t.Helper()
	for range 2000 {
		if st := s.engine.Stats(); st.Running+st.Waiting == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("still busy: %+v", s.engine.Stats())
}

func request(ctx context.Context, url, body string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	return http.DefaultClient.Do(r)
}

const endless = `{"prompt": "The old man", "max_tokens": 1000, "ignore_eos": true, "stream": true, "n": 4}`

// A client that closes its connection, in the middle of an answer or before, ends its requests.
func TestClientGone(t *testing.T) {
	s := newServer(t, Options{Engine: batch.Options{Parallel: 2}})
	url, _ := listen(t, s, time.Second)
	for range 3 {
		ctx, cancel := context.WithCancel(bg)
		r, err := request(ctx, url+"/v1/completions", endless)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(r.Body).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		cancel()
		r.Body.Close()
		quiet(t, s)
	}
	// One that has closed its side of the connection, and one that closes while it waits.
	// Neither gets an answer: an empty one would look like a success.
	for _, closeIt := range []func(c *net.TCPConn){func(c *net.TCPConn) {
		c.CloseWrite()
		if data, _ := io.ReadAll(c); len(data) > 0 {
			t.Errorf("a client that has closed its side got %q", data)
		}
	}, func(c *net.TCPConn) { c.Close() }} {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		body := strings.Replace(endless, `"stream": true, `, "", 1)
		fmt.Fprintf(c, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		time.Sleep(20 * time.Millisecond)
		closeIt(c.(*net.TCPConn))
		quiet(t, s)
	}
	if st := s.engine.Stats(); st.Cancelled != 5*4 {
		t.Errorf("%+v", st)
	}
}

// A client that does not read holds up nobody.
func TestSlowReader(t *testing.T) {
	s := newServer(t, Options{})
	url, _ := listen(t, s, time.Second)
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(endless), endless)
	for range 3 {
		r, err := request(bg, url+"/v1/completions", `{"prompt": "It was", "max_tokens": 20, "temperature": 0}`)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != 200 || !strings.Contains(string(data), "text_completion") {
			t.Errorf("%d %s", r.StatusCode, data)
		}
	}
	quiet(t, s) // the answer of the slow reader is complete, though nobody has read it

	// One that lets the connection fill up is cut off.
	s = newServer(t, Options{})
	s.writeTime = 100 * time.Millisecond
	url, _ = listen(t, s, time.Second)
	if c, err = net.Dial("tcp", strings.TrimPrefix(url, "http://")); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	body := `{"messages": [{"role": "user", "content": "x"}], "logprobs": true, "top_logprobs": 20, "n": 5, "ignore_eos": true, "stream": true}`
	fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	for s.engine.Stats().Passes == 0 {
		time.Sleep(time.Millisecond)
	}
	quiet(t, s)
	if st := s.engine.Stats(); st.Cancelled == 0 {
		t.Errorf("the answer was written to a client that does not read: %+v", st)
	}
}

// Headers that are too long or do not end, and bodies that do not, get an answer or are cut off.
func TestHeaders(t *testing.T) {
	s := newServer(t, Options{})
	url, _ := listen(t, s, time.Second)
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		fmt.Fprint(c, "GET /health HTTP/1.1\r\nHost: x\r\n")
		for i := range 20000 {
			if _, err := fmt.Fprintf(c, "X-%d: %s\r\n", i, strings.Repeat("y", 100)); err != nil {
				return
			}
		}
	}()
	if line, err := bufio.NewReader(c).ReadString('\n'); err == nil && !strings.Contains(line, "431") {
		t.Errorf("%q", line)
	}

	// A body that does not come holds no connection, whether the request would be refused or not.
	s = newServer(t, Options{Keys: []string{"key"}})
	s.bodyTime = 200 * time.Millisecond
	url, _ = listen(t, s, time.Second)
	for path, authorization := range map[string]string{"/v1/completions": "key", "/v1/models": "none", "/nothing": "none", "/tokenize": "none", "/health": "none"} {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n", path, authorization)
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("%s: the connection is still open: %v", path, err)
		}
	}
}

// Serve ends after the requests that run, or ends them after the grace.
func TestShutdown(t *testing.T) {
	s := newServer(t, Options{})
	url, end := listen(t, s, 20*time.Second)
	r, err := request(bg, url+"/v1/completions", `{"prompt": "The old man", "max_tokens": 300, "ignore_eos": true, "stream": true}`)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- end() }()
	data, err := io.ReadAll(r.Body)
	if err != nil || !strings.HasSuffix(string(data), "data: [DONE]\n\n") {
		t.Errorf("%v, the stream ends with %q", err, data[max(0, len(data)-100):])
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if w := send(s, "GET", "/health", ""); w.Code != 503 {
		t.Errorf("health after the end: %d", w.Code)
	}
	if w := send(s, "POST", "/v1/completions", `{"prompt": "x"}`); w.Code != 503 {
		t.Errorf("a request after the end: %d", w.Code)
	}

	s = newServer(t, Options{Engine: batch.Options{Parallel: 1}})
	url, end = listen(t, s, 50*time.Millisecond)
	if r, err = request(bg, url+"/v1/completions", strings.Replace(endless, `"n": 4`, `"n": 100`, 1)); err != nil {
		t.Fatal(err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	data, _ = io.ReadAll(r.Body)
	if !strings.Contains(string(data), "shutting down") || strings.Contains(string(data), "[DONE]") {
		t.Errorf("the stream ends with %q", data[max(0, len(data)-300):])
	}
}

// Many clients, among them wrong, hostile and impatient ones, leave nothing behind, and the right
// ones get the right bytes. AFMQ_SOAK is the number of requests.
func TestManyClients(t *testing.T) {
	n := 400
	if given, err := strconv.Atoi(os.Getenv("AFMQ_SOAK")); err == nil {
		n = given
	}
	s := newServer(t, Options{Engine: batch.Options{Parallel: 6, Queue: 64}})
	url, end := listen(t, s, time.Second)
	bodies := []string{
		`{"prompt": "The old man", "max_tokens": 12, "seed": 3}`,
		`{"prompt": "The old man looked at the sea", "max_tokens": 1, "echo": true, "logprobs": 2}`,
		`{"prompt": ["It was", "It was a cold"], "max_tokens": 6, "temperature": 0, "model": "changed"}`,
		`{"prompt": "The old man", "max_tokens": 9, "n": 3, "stop": ["he", "xyz"]}`,
	}
	answer := func(ctx context.Context, body string) (int, string, error) {
		r, err := request(ctx, url+"/v1/completions", body)
		if err != nil {
			return 0, "", err
		}
		defer r.Body.Close()
		var out struct {
			Choices json.RawMessage `json:"choices"`
		}
		data, err := io.ReadAll(r.Body)
		if err == nil && r.StatusCode == 200 && !strings.Contains(body, "stream") {
			err = json.Unmarshal(data, &out)
		}
		return r.StatusCode, string(out.Choices), err
	}
	want := make([]string, len(bodies))
	for i, b := range bodies {
		var err error
		if _, want[i], err = answer(bg, b); err != nil {
			t.Fatal(err)
		}
	}
	quiet(t, s)
	http.DefaultClient.CloseIdleConnections()
	time.Sleep(20 * time.Millisecond)
	goroutines, before := runtime.NumGoroutine(), heap()
	var wg sync.WaitGroup
	work := make(chan int)
	var mu sync.Mutex
	statuses := map[int]int{}
	for range 24 {
		wg.Go(func() {
			for i := range work {
				rng := rand.New(rand.NewPCG(uint64(i), 0))
				ctx, cancel := context.WithCancel(bg)
				code := 0
				switch kind := rng.IntN(8); kind {
				case 0, 1, 2, 3:
					var got string
					var err error
					code, got, err = answer(ctx, bodies[kind])
					if err != nil || code != 429 && (code != 200 || got != want[kind]) {
						t.Errorf("request %d: status %d, %v: %s, want %s", i, code, err, got, want[kind])
					}
				case 4: // leaves after a while
					time.AfterFunc(time.Duration(rng.IntN(30))*time.Millisecond, cancel)
					_, _, _ = answer(ctx, endless)
				case 5: // sends nonsense
					junk := make([]byte, rng.IntN(200))
					for k := range junk {
						junk[k] = `{}[]":,promt1234nul\`[rng.IntN(20)]
					}
					if code, _, _ = answer(ctx, string(junk)); code/100 != 4 {
						t.Errorf("%q: status %d", junk, code)
					}
				case 6: // sends half a request
					if c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://")); err == nil {
						fmt.Fprintf(c, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"prompt\"")
						c.Close()
					}
				case 7: // does not read
					if c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://")); err == nil {
						fmt.Fprintf(c, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(endless), endless)
						time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
						c.Close()
					}
				}
				cancel()
				mu.Lock()
				statuses[code]++
				mu.Unlock()
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
	quiet(t, s)
	for i, b := range bodies { // the answers are still the same
		if _, got, err := answer(bg, b); err != nil || got != want[i] {
			t.Errorf("%s: %v, %s, want %s", b, err, got, want[i])
		}
	}
	http.DefaultClient.CloseIdleConnections()
	left := 0
	for range 400 {
		left = runtime.NumGoroutine()
		if left <= goroutines+2 && s.engine.Stats().CacheBytes == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if left > goroutines+2 {
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after:\n%s", goroutines, left, buf[:runtime.Stack(buf, true)])
	}
	st := s.engine.Stats()
	// What is kept of finished sequences is bounded. Nothing else may be left of the requests.
	after := heap() - st.PrefixBytes
	t.Logf("%v, %+v, heap %d and %d bytes", statuses, st, before, after)
	if after > before+16<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", before, after)
	}
	if statuses[200] < n/8 || st.CacheBytes != 0 || st.PrefixBytes > batch.DefaultPrefixBytes {
		t.Errorf("statuses %v, %+v", statuses, st)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// heap returns the bytes of the heap that are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers have released
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
