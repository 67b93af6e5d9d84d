package serve

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// The page is there without a key, at / only, and for the hosts of the server only.
func TestPage(t *testing.T) {
	s := newServer(t, Options{Keys: []string{"first"}, Hosts: []string{"localhost"}})
	for _, tt := range []struct {
		method, path, host string
		status             int
	}{
		{"GET", "/", "localhost:8080", 200},
		{"HEAD", "/", "localhost:8080", 200},
		{"GET", "/", "evil.example", 403},
		{"POST", "/", "localhost", 405},
		{"GET", "/index.html", "localhost", 404},
		{"GET", "/favicon.ico", "localhost", 404},
		{"POST", "/v2", "localhost", 404},
	} {
		r := httptest.NewRequest(tt.method, tt.path, nil)
		r.Host = tt.host
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != tt.status {
			t.Errorf("%s %s for %s: %d, want %d", tt.method, tt.path, tt.host, w.Code, tt.status)
		}
		if w.Code != 200 {
			continue
		}
		for name, want := range map[string]string{
			"Content-Type": "text/html; charset=utf-8", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if w.Body.String() != pageHTML {
			t.Errorf("%d bytes, want the %d of the page", w.Body.Len(), len(pageHTML))
		}
	}
}

// The policy allows the style and the script of the page by their hashes, requests to the server,
// and nothing else.
func TestPagePolicy(t *testing.T) {
	policy := map[string]string{}
	w := send(newServer(t, Options{}), "GET", "/", "")
	for d := range strings.SplitSeq(w.Header().Get("Content-Security-Policy"), "; ") {
		name, value, _ := strings.Cut(d, " ")
		policy[name] = value
	}
	for name, want := range map[string]string{
		"default-src": "'none'", "connect-src": "'self'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
	} {
		if policy[name] != want {
			t.Errorf("%s %q, want %q", name, policy[name], want)
		}
	}
	for _, element := range []string{"script", "style"} {
		found := regexp.MustCompile(`(?s)<`+element+`\b([^>]*)>(.*?)</`+element+`>`).FindAllStringSubmatch(pageHTML, -1)
		if len(found) != 1 || found[0][1] != "" {
			t.Fatalf("%d elements %s", len(found), element)
		}
		h := sha256.Sum256([]byte(found[0][2]))
		if want := "'sha256-" + base64.StdEncoding.EncodeToString(h[:]) + "'"; policy[element+"-src"] != want {
			t.Errorf("%s-src %q, want %q", element, policy[element+"-src"], want)
		}
	}
}

// The page loads nothing, and has neither styles nor handlers in attributes, which the policy
// forbids, nor a place that parses a text as HTML.
func TestPageIsAlone(t *testing.T) {
	for _, pattern := range []string{
		`(?i)(https?:)?//[a-z0-9-]+\.[a-z]`, `\ssrc=`, `url\(`, `@import`, `<[^>]*\sstyle=`, `<[^>]*\son[a-z]+=`,
		`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|DOMParser|localStorage`,
	} {
		if found := regexp.MustCompile(pattern).FindString(pageHTML); found != "" {
			t.Errorf("%s: %q", pattern, found)
		}
	}
}
