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

// function parses a body that is a function of its own: a loop around it cannot be left.
func (p *parser) function(end string) ([]stmt, error) {
	loops := p.loops
	p.loops = 0
	body, _, err := p.block(end)
	p.loops = loops
	return body, err
}

func (p *parser) macroBody(m *macroDef, end string) ([]stmt, error) {
	p.open = append(p.open, m)
	defer func() { p.open = p.open[:len(p.open)-1] }()
	return p.function(end)
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

func (p *parser) macroStmt(line pos) (stmt, error) {
	s := &macroS{pos: line}
	var err error
	if s.name, err = p.name(); err != nil {
		return nil, err
	}
	if err = p.signature(&s.macroDef); err != nil {
		return nil, err
	}
	s.body, err = p.macroBody(&s.macroDef, "endmacro")
	return s, err
}

func (p *parser) signature(m *macroDef) error {
	if err := p.op("("); err != nil {
		return err
	}
	for !p.isOp(")") {
		if len(m.params) > 0 {
			if err := p.op(","); err != nil {
				return err
			}
		}
		name, err := p.name()
		if err != nil {
			return err
		}
		m.params = append(m.params, name)
		if p.skipOp("=") {
			x, err := p.expression()
			if err != nil {
				return err
			}
			m.defaults = append(m.defaults, x)
		} else if len(m.defaults) > 0 {
			return syntaxf(p.cur().line, "non-default argument follows default argument")
		}
	}
	return p.op(")")
}

func (p *parser) callStmt(line pos) (stmt, error) {
	s := &callS{pos: line}
	s.caller.name = "caller"
	if p.isOp("(") {
		if err := p.signature(&s.caller); err != nil {
			return nil, err
		}
	}
	x, err := p.expression()
	if err != nil {
		return nil, err
	}
	call, ok := x.(*callE)
	if !ok {
		return nil, syntaxf(int(line), "expected call")
	}
	s.call = call
	s.caller.body, err = p.macroBody(&s.caller, "endcall")
	return s, err
}

func (p *parser) filterStmt(line pos) (stmt, error) {
	x, err := p.filter(nil)
	if err != nil {
		return nil, err
	}
	if x, err = p.filters(x); err != nil {
		return nil, err
	}
	s := &filterS{pos: line, filter: x.(*filterE)}
	s.body, _, err = p.block("endfilter")
	return s, err
}

func (p *parser) withStmt(line pos) (stmt, error) {
	s := &withS{pos: line}
	for p.cur().kind != tBlockEnd {
		if len(s.targets) > 0 {
			if err := p.op(","); err != nil {
				return nil, err
			}
		}
		target, err := p.target("", false)
		if err != nil {
			return nil, err
		}
		if err := p.op("="); err != nil {
			return nil, err
		}
		value, err := p.expression()
		if err != nil {
			return nil, err
		}
		s.targets, s.values = append(s.targets, target), append(s.values, value)
	}
	var err error
	s.body, _, err = p.block("endwith")
	return s, err
}

func (p *parser) printStmt(line pos) ([]stmt, error) {
	var out []stmt
	for p.cur().kind != tBlockEnd {
		if len(out) > 0 {
			if err := p.op(","); err != nil {
				return nil, err
			}
		}
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		out = append(out, &printS{line, x})
	}
	return out, nil
}
