package jinja

import (
	"fmt"
	"slices"
)

// maxNesting bounds how deep expressions and blocks may be nested in a template's source.
const maxNesting = 200

type parser struct {
	tokens  []token
	next    int
	nesting int
	loops   int         // loops around the statement that are in the same function
	open    []*macroDef // the macros and call blocks around it
}

func parse(src string) ([]stmt, error) {
	tokens, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	return p.body(nil)
}

func (p *parser) cur() token { return p.tokens[p.next] }

func (p *parser) look() token { return p.tokens[min(p.next+1, len(p.tokens)-1)] }

func (p *parser) take() token {
	t := p.cur()
	if t.kind != tEOF {
		p.next++
	}
	return t
}

func (p *parser) isOp(op string) bool {
	t := p.cur()
	return t.kind == tOp && t.text == op
}

func (p *parser) isName(name string) bool {
	t := p.cur()
	return t.kind == tName && t.text == name
}

func (p *parser) skipOp(op string) bool {
	if p.isOp(op) {
		p.next++
		return true
	}
	return false
}

func (p *parser) skipName(name string) bool {
	if p.isName(name) {
		p.next++
		return true
	}
	return false
}

func (p *parser) unexpected(want string) error {
	return syntaxf(p.cur().line, "expected %s, got %q", want, p.cur().String())
}

func (p *parser) op(op string) error {
	if !p.skipOp(op) {
		return p.unexpected(fmt.Sprintf("%q", op))
	}
	return nil
}

func (p *parser) name() (string, error) {
	if p.cur().kind != tName {
		return "", p.unexpected("a name")
	}
	return p.take().text, nil
}

func (p *parser) expect(k kind, what string) error {
	if p.cur().kind != k {
		return p.unexpected(what)
	}
	p.next++
	return nil
}

// enter counts a level of nesting; the caller leaves it by p.nesting--.
func (p *parser) enter() error {
	p.nesting++
	if p.nesting > maxNesting {
		return &Error{Limit, p.cur().line, fmt.Sprintf("expressions and blocks are nested deeper than %d", maxNesting)}
	}
	return nil
}

// body parses statements up to a tag in ends, whose name is the current token afterwards; nil
// is the end of the template.
func (p *parser) body(ends []string) ([]stmt, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.nesting-- }()
	var out []stmt
	for {
		t := p.take()
		switch t.kind {
		case tEOF:
			if ends != nil {
				return nil, syntaxf(t.line, "unexpected end of template, expected %q", ends[len(ends)-1])
			}
			return out, nil
		case tData:
			out = append(out, &dataS{pos(t.line), t.text})
		case tVarBegin:
			x, err := p.tuple(tupleMode{})
			if err != nil {
				return nil, err
			}
			if err := p.expect(tVarEnd, "end of print statement"); err != nil {
				return nil, err
			}
			out = append(out, &printS{pos(t.line), x})
		case tBlockBegin:
			if c := p.cur(); c.kind == tName && slices.Contains(ends, c.text) {
				return out, nil
			}
			s, err := p.statement()
			if err != nil {
				return nil, err
			}
			if err := p.expect(tBlockEnd, "end of statement block"); err != nil {
				return nil, err
			}
			out = append(out, s...)
		default:
			return nil, syntaxf(t.line, "unexpected %q", t.text)
		}
	}
}

// block parses the rest of a tag and the statements after it, up to a tag in ends, which it
// returns and takes.
func (p *parser) block(ends ...string) ([]stmt, string, error) {
	p.skipOp(":")
	if err := p.expect(tBlockEnd, "end of statement block"); err != nil {
		return nil, "", err
	}
	body, err := p.body(ends)
	if err != nil {
		return nil, "", err
	}
	return body, p.take().text, nil
}
