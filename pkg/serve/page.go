package serve

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strings"
)

// pageHTML is a page to chat with the model: one file with its style and its script.
//
//go:embed page.html
var pageHTML string

// pagePolicy is the content security policy of the page. It allows the page's own style and script,
// by their hashes, requests to this server, and nothing else: a text of the model cannot run as a
// script, nor load anything, even if the page inserted it as HTML, which trusted types refuse.
var pagePolicy = strings.Join([]string{
	"default-src 'none'",
	"connect-src 'self'",
	"img-src data:", // the empty icon, lest browsers ask for /favicon.ico
	"script-src " + hashOf(pageHTML, "script"),
	"style-src " + hashOf(pageHTML, "style"),
	"base-uri 'none'",
	"form-action 'none'",
	"frame-ancestors 'none'",
	"require-trusted-types-for 'script'",
	"trusted-types 'none'",
}, "; ")

// hashOf returns the source expression for the text of the one element of that name.
func hashOf(html, element string) string {
	_, rest, _ := strings.Cut(html, "<"+element+">")
	text, _, _ := strings.Cut(rest, "</"+element+">")
	h := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(h[:]) + "'"
}

// page answers GET /. The page holds no secret, and needs no key.
func (s *Server) page(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache") // the page is that of the server that runs
	_, _ = w.Write([]byte(pageHTML))
	return nil
}
