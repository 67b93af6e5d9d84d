package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"slices"
	"strings"
)

// allow checks whether a request may be answered.
func (s *Server) allow(r *http.Request, method string, open bool) error {
	if len(s.opts.Hosts) > 0 && !slices.Contains(s.opts.Hosts, hostOf(r.Host)) {
		return newError(http.StatusForbidden, "invalid_request_error", "", "unknown_host",
			"the request is for the host %q; this server answers for %q", hostOf(r.Host), s.opts.Hosts)
	}
	if !open && len(s.keys) > 0 && !s.hasKey(r) {
		return newError(http.StatusUnauthorized, "authentication_error", "", "invalid_api_key",
			"the API key is missing or wrong; send Authorization: Bearer KEY")
	}
	if method != "" && r.Method != method && !(method == http.MethodGet && r.Method == http.MethodHead) {
		e := newError(http.StatusMethodNotAllowed, "invalid_request_error", "", "method_not_allowed", "%s %s is not possible; use %s", r.Method, r.URL.Path, method)
		e.allow = method
		return e
	}
	return nil
}

// hasKey reports whether the request has one of the keys. It compares hashes, all of them, in a
// time that does not depend on the keys.
func (s *Server) hasKey(r *http.Request) bool {
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	h := sha256.Sum256([]byte(strings.TrimSpace(key)))
	found := 0
	for _, k := range s.keys {
		found |= subtle.ConstantTimeCompare(h[:], k[:])
	}
	return found == 1
}

// hostOf returns the name of a Host header, without the port.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}
