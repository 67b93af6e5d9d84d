package jinja

func (p *parser) call(fn expr) (expr, error) {
	c := &callE{pos: pos(p.cur().line), fn: fn}
	var err error
	c.argsE, err = p.args()
	return c, err
}

func (p *parser) args() (a argsE, err error) {
	line := p.take().line // "("
	bad := func(ok bool) bool {
		if !ok && err == nil {
			err = syntaxf(line, "invalid syntax for function call expression")
		}
		return err != nil
	}
	for first := true; !p.isOp(")"); first = false {
		if !first {
			if err = p.op(","); err != nil || p.isOp(")") {
				break
			}
		}
		var x expr
		switch {
		case p.skipOp("*"):
			if x, err = p.expression(); bad(a.spread == nil && a.dict == nil) {
				return a, err
			}
			a.spread = x
		case p.skipOp("**"):
			if x, err = p.expression(); bad(a.dict == nil) {
				return a, err
			}
			a.dict = x
		case p.cur().kind == tName && p.look().kind == tOp && p.look().text == "=":
			name := p.take().text
			p.next++
			if x, err = p.expression(); bad(a.dict == nil) {
				return a, err
			}
			a.names, a.values = append(a.names, name), append(a.values, x)
		default:
			if x, err = p.expression(); bad(a.spread == nil && a.dict == nil && a.names == nil) {
				return a, err
			}
			a.list = append(a.list, x)
		}
	}
	if err == nil {
		err = p.op(")")
	}
	return a, err
}

// filterExpr parses filters, tests and calls after an expression.
func (p *parser) filterExpr(x expr) (expr, error) {
	for {
		var err error
		switch {
		case p.isOp("|"):
			x, err = p.filters(x)
		case p.isName("is"):
			x, err = p.test(x)
		case p.isOp("("):
			x, err = p.call(x)
		default:
			return x, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) filters(x expr) (expr, error) {
	var err error
	for err == nil && p.skipOp("|") {
		x, err = p.filter(x)
	}
	return x, err
}

// dotted parses the name of a filter or a test.
func (p *parser) dotted() (string, error) {
	name, err := p.name()
	for err == nil && p.skipOp(".") {
		var part string
		part, err = p.name()
		name += "." + part
	}
	return name, err
}

func (p *parser) filter(x expr) (expr, error) {
	f := &filterE{pos: pos(p.cur().line), x: x}
	var err error
	if f.name, err = p.dotted(); err == nil && p.isOp("(") {
		f.argsE, err = p.args()
	}
	return f, err
}

func (p *parser) test(x expr) (expr, error) {
	line := pos(p.take().line) // "is"
	negated := p.skipName("not")
	t := &testE{pos: line, x: x}
	var err error
	if t.name, err = p.dotted(); err != nil {
		return nil, err
	}
	c := p.cur()
	switch {
	case p.isOp("("):
		t.argsE, err = p.args()
	case p.isName("is"):
		return nil, syntaxf(c.line, "you cannot chain multiple tests with is")
	case p.isName("else"), p.isName("or"), p.isName("and"):
	case c.kind == tName, c.kind == tString, c.kind == tInt, c.kind == tFloat, p.isOp("["), p.isOp("{"):
		var arg expr
		if arg, err = p.primary(false); err == nil {
			arg, err = p.postfix(arg)
		}
		t.list = []expr{arg}
	}
	if err != nil {
		return nil, err
	}
	if negated {
		return &unaryE{line, "not", t}, nil
	}
	return t, nil
}
