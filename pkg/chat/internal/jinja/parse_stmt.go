package jinja

import "errors"

var (
	errBreak    = errors.New("break")
	errContinue = errors.New("continue")
)

func (p *parser) statement() ([]stmt, error) {
	t := p.cur()
	if t.kind != tName {
		return nil, syntaxf(t.line, "tag name expected")
	}
	p.next++
	line := pos(t.line)
	var s stmt
	var err error
	switch t.text {
	case "if":
		s, err = p.ifStmt(line)
	case "for":
		s, err = p.forStmt(line)
	case "set":
		s, err = p.setStmt(line)
	case "macro":
		s, err = p.macroStmt(line)
	case "call":
		s, err = p.callStmt(line)
	case "filter":
		s, err = p.filterStmt(line)
	case "with":
		s, err = p.withStmt(line)
	case "generation":
		g := &generationS{pos: line}
		g.body, err = p.function("endgeneration")
		s = g
	case "print":
		return p.printStmt(line)
	case "break", "continue":
		if p.loops == 0 {
			return nil, syntaxf(t.line, "%q outside loop", t.text)
		}
		s = &jumpS{line, map[string]error{"break": errBreak, "continue": errContinue}[t.text]}
	case "block", "extends", "include", "import", "from", "autoescape":
		return nil, at(t.line, refusef("the tag %q", t.text))
	default:
		return nil, syntaxf(t.line, "encountered unknown tag %q", t.text)
	}
	if err != nil {
		return nil, err
	}
	return []stmt{s}, nil
}

func (p *parser) ifStmt(line pos) (stmt, error) {
	s := &ifS{pos: line}
	for {
		test, err := p.tuple(tupleMode{noCond: true})
		if err != nil {
			return nil, err
		}
		body, end, err := p.block("elif", "else", "endif")
		if err != nil {
			return nil, err
		}
		s.tests, s.bodies = append(s.tests, test), append(s.bodies, body)
		if end == "else" {
			s.otherwise, _, err = p.block("endif")
			return s, err
		}
		if end == "endif" {
			return s, nil
		}
	}
}

func (p *parser) forStmt(line pos) (stmt, error) {
	s := &forS{pos: line}
	var err error
	if s.target, err = p.target("in", false); err != nil {
		return nil, err
	}
	if binds(s.target, "loop") {
		return nil, syntaxf(int(line), "cannot assign to the special variable loop")
	}
	if !p.skipName("in") {
		return nil, p.unexpected(`"in"`)
	}
	if s.iter, err = p.tuple(tupleMode{noCond: true, end: "recursive"}); err != nil {
		return nil, err
	}
	if p.skipName("if") {
		if s.test, err = p.expression(); err != nil {
			return nil, err
		}
	}
	s.recursive = p.skipName("recursive")
	p.loops++
	body, end, err := p.block("endfor", "else")
	p.loops--
	if err != nil {
		return nil, err
	}
	s.body = body
	if end == "else" {
		s.otherwise, _, err = p.block("endfor")
	}
	return s, err
}

func (p *parser) setStmt(line pos) (stmt, error) {
	target, err := p.target("", true)
	if err != nil {
		return nil, err
	}
	if p.skipOp("=") {
		value, err := p.tuple(tupleMode{})
		return &setS{line, target, value}, err
	}
	s := &setBlockS{pos: line, target: target}
	if p.isOp("|") {
		x, err := p.filters(nil)
		if err != nil {
			return nil, err
		}
		s.filter = x.(*filterE)
	}
	s.body, _, err = p.block("endset")
	return s, err
}
