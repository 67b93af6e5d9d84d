package jinja

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
