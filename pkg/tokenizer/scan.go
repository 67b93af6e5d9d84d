package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// A scanner returns the end of the match that begins at i, i < len(s). Scanners match at
// every position, like the expressions that they implement, so that their matches cover
// the whole text.
type scanner func(t *tables, s string, i int) int

// The supported expressions, each implemented by a hand-written scanner. Go's regexp has
// no look-ahead and is too slow here.
const (
	gpt2Pattern   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	cl100kPattern = `'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`
	tekkenPattern = casedStart + `|` + casedUpper + `|\p{N}` + casedRest
	o200kPattern  = casedStart + foldedEnd + `|` + casedUpper + foldedEnd + `|\p{N}{1,3}` + casedRest
	qwen2Pattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// Parts of the expressions that depend on case (GPT-4o and Mistral's Tekken).
const (
	casedStart = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`
	casedUpper = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*`
	foldedEnd  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)?`
	casedRest  = `| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// scanners maps the exact text of an expression to its scanner.
var scanners = map[string]scanner{
	gpt2Pattern:   scanGPT2,
	llama3Pattern: func(t *tables, s string, i int) int { return scanLlama3(t, s, i, 3) },
	cl100kPattern: func(t *tables, s string, i int) int { return scanLlama3(t, s, i, 3) },
	tekkenPattern: scanTekken,
	o200kPattern:  scanO200k,
	qwen2Pattern:  func(t *tables, s string, i int) int { return scanLlama3(t, s, i, 1) },
}

// expressionNames names the supported expressions after the tokenizers that introduced them. Two
// of them have the same matches and the same name.
var expressionNames = map[string]string{
	gpt2Pattern: "gpt-2", llama3Pattern: "llama-3", cl100kPattern: "llama-3", tekkenPattern: "tekken",
	o200kPattern: "gpt-4o", qwen2Pattern: "qwen2",
}

// Expression returns the regular expression of a Split step by its name in
// [Description].PreTokenizer, or false if there is none of that name.
func Expression(name string) (string, bool) {
	for _, pattern := range []string{gpt2Pattern, llama3Pattern, tekkenPattern, o200kPattern, qwen2Pattern} {
		if expressionNames[pattern] == name {
			return pattern, true
		}
	}
	return "", false
}

// scanGPT2 implements gpt2Pattern.
func scanGPT2(t *tables, s string, i int) int {
	if s[i] == '\'' {
		if n := contraction(s[i+1:], false); n > 0 {
			return i + 1 + n
		}
	}
	j := i
	if s[i] == ' ' && i+1 < len(s) {
		j++
	}
	switch k, n := t.at(s, j); {
	case k&letter != 0:
		return t.run(s, j+n, letter, true)
	case k&number != 0:
		return t.run(s, j+n, number, true)
	case k&space == 0:
		return t.run(s, j+n, letter|number|space, false)
	}
	return scanSpace(t, s, i, t.run(s, i, space, true))
}

// scanLlama3 implements llama3Pattern with at most digits digits per match.
func scanLlama3(t *tables, s string, i, digits int) int {
	if s[i] == '\'' {
		if n := contraction(s[i+1:], true); n > 0 {
			return i + 1 + n
		}
	}
	k, n := t.at(s, i)
	if k&letter != 0 {
		return t.run(s, i+n, letter, true)
	}
	if i+n < len(s) && k&number == 0 && !newline(s[i]) {
		if next, size := t.at(s, i+n); next&letter != 0 {
			return t.run(s, i+n+size, letter, true)
		}
	}
	return scanRest(t, s, i, digits, "\r\n")
}

// scanTekken implements tekkenPattern.
func scanTekken(t *tables, s string, i int) int {
	if end := scanCased(t, s, i); end > i {
		return end
	}
	return scanRest(t, s, i, 1, "\r\n/")
}

// scanO200k implements o200kPattern.
func scanO200k(t *tables, s string, i int) int {
	end := scanCased(t, s, i)
	if end == i {
		return scanRest(t, s, i, 3, "\r\n/")
	}
	if end < len(s) && s[end] == '\'' {
		if n := contraction(s[end+1:], true); n > 0 {
			end += 1 + n
		}
	}
	return end
}

// scanCased implements casedStart|casedUpper; it returns i if neither matches. A mark may
// be the optional first character or a letter, so both readings are tried.
func scanCased(t *tables, s string, i int) int {
	k, n := t.at(s, i)
	first := k&(letter|number) == 0 && !newline(s[i])
	if first {
		if end, ok := scanWord(t, s, i+n); ok {
			return end
		}
	}
	end, ok := scanWord(t, s, i)
	if ok {
		return end
	}
	if first {
		if after := t.run(s, i+n, upper, true); after > i+n {
			return after
		}
	}
	return end
}

// scanWord implements [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+ from i on.
// If it does not match, end is the end of the upper-case run.
func scanWord(t *tables, s string, i int) (end int, ok bool) {
	last := i // end of the last character of the run that is in both classes
	for end = i; end < len(s); {
		k, n := t.at(s, end)
		if k&upper == 0 {
			break
		}
		end += n
		if k&lower != 0 {
			last = end
		}
	}
	if after := t.run(s, end, lower, true); after > end {
		return after, true
	}
	if last > i {
		return last, true
	}
	return end, false
}

// scanRest implements \p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[tail]*|\s*[\r\n]+|\s+(?!\S)|\s+ for
// text that does not begin a word.
func scanRest(t *tables, s string, i, digits int, tail string) int {
	k, n := t.at(s, i)
	if k&number != 0 {
		end := i + n
		for d := 1; d < digits && end < len(s); d++ {
			k, n := t.at(s, end)
			if k&number == 0 {
				break
			}
			end += n
		}
		return end
	}
	j := i
	if s[i] == ' ' && i+n < len(s) {
		j = i + n
		k, n = t.at(s, j)
	}
	if k&(letter|number|space) == 0 {
		j = t.run(s, j+n, letter|number|space, false)
		for j < len(s) && strings.IndexByte(tail, s[j]) >= 0 {
			j++
		}
		return j
	}
	// White space up to its last line break, if there is one.
	end := t.run(s, i, space, true)
	for j := end; j > i; j-- {
		if newline(s[j-1]) {
			return j
		}
	}
	return scanSpace(t, s, i, end)
}

// scanSpace implements \s+(?!\S)|\s+ for white space from i to end: all of it at the end of
// the text, all but the last character before a word, if there is more than one.
func scanSpace(t *tables, s string, i, end int) int {
	if end == len(s) {
		return end
	}
	_, last := utf8.DecodeLastRuneInString(s[i:end])
	if end-last == i {
		return end
	}
	return end - last
}

func newline(b byte) bool { return b == '\r' || b == '\n' }

// contraction returns the length of s, t, re, ve, m, ll or d at the start of s,
// 0 if there is none. With fold it also accepts capitals, and ſ, which folds to s.
func contraction(s string, fold bool) int {
	if s == "" {
		return 0
	}
	lower := func(b byte) byte {
		if fold && 'A' <= b && b <= 'Z' {
			return b + 'a' - 'A'
		}
		return b
	}
	switch lower(s[0]) {
	case 's', 't', 'm', 'd':
		return 1
	case 'r', 'v':
		if len(s) > 1 && lower(s[1]) == 'e' {
			return 2
		}
	case 'l':
		if len(s) > 1 && lower(s[1]) == 'l' {
			return 2
		}
	}
	if fold && len(s) > 1 && s[:2] == "ſ" {
		return 2
	}
	return 0
}
