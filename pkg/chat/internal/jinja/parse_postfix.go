package jinja

import (
	"math/big"
	"slices"
)

// tupleMode says how jinja2's parse_tuple reads a tuple or a single expression.
type tupleMode struct {
	noCond bool   // "if" ends the expression
	parens bool   // in parentheses: it may be empty
	end    string // a name that ends it
	target bool   // names only
	ns     bool   // with namespace.attribute among them
}

func (p *parser) tuple(m tupleMode) (expr, error) {
	line := pos(p.cur().line)
	var items []expr
	isTuple := false
	for {
		if len(items) > 0 {
			if err := p.op(","); err != nil {
				return nil, err
			}
		}
		if t := p.cur(); t.kind == tVarEnd || t.kind == tBlockEnd || p.isOp(")") || m.end != "" && p.isName(m.end) {
			break
		}
		var x expr
		var err error
		switch {
		case m.target:
			x, err = p.primary(m.ns)
		case m.noCond:
			x, err = p.or()
		default:
			x, err = p.expression()
		}
		if err != nil {
			return nil, err
		}
		items = append(items, x)
		if !p.isOp(",") {
			break
		}
		isTuple = true
	}
	if !isTuple && len(items) == 1 {
		return items[0], nil
	}
	if len(items) == 0 && !m.parens {
		return nil, p.unexpected("an expression")
	}
	return &tupleE{line, items}, nil
}

// target parses what an assignment or a loop binds, up to the name end.
func (p *parser) target(end string, ns bool) (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.nesting-- }()
	x, err := p.tuple(tupleMode{end: end, target: true, ns: ns})
	if err != nil {
		return nil, err
	}
	return x, assignable(x)
}

func assignable(x expr) error {
	switch x := x.(type) {
	case *nameE, *nsE:
		return nil
	case *tupleE:
		for _, item := range x.items {
			if err := assignable(item); err != nil {
				return err
			}
		}
		return nil
	}
	return syntaxf(x.at(), "cannot assign to this expression")
}

// binds reports whether a target binds a name.
func binds(target expr, name string) bool {
	switch t := target.(type) {
	case *nameE:
		return t.name == name
	case *tupleE:
		return slices.ContainsFunc(t.items, func(x expr) bool { return binds(x, name) })
	}
	return false
}

func (p *parser) postfix(x expr) (expr, error) {
	for {
		var err error
		switch {
		case p.isOp("."), p.isOp("["):
			x, err = p.subscript(x)
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

func (p *parser) subscript(x expr) (expr, error) {
	t := p.take()
	line := pos(t.line)
	if t.text == "." {
		a := p.take()
		switch a.kind {
		case tName:
			return &attrE{line, x, a.text}, nil
		case tInt:
			n, _ := new(big.Int).SetString(a.text, 0)
			return &itemE{line, x, &constE{line, integer(n)}}, nil
		}
		return nil, syntaxf(a.line, "expected name or number")
	}
	var args []expr
	for !p.isOp("]") {
		if len(args) > 0 {
			if err := p.op(","); err != nil {
				return nil, err
			}
		}
		arg, err := p.subscribed()
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
	}
	p.next++
	if len(args) == 1 {
		return &itemE{line, x, args[0]}, nil
	}
	return &itemE{line, x, &tupleE{line, args}}, nil
}

// subscribed parses an index or a slice.
func (p *parser) subscribed() (expr, error) {
	s := &sliceE{pos: pos(p.cur().line)}
	for i, part := range []*expr{&s.start, &s.stop, &s.step} {
		if !p.isOp(":") && !p.isOp("]") && !p.isOp(",") {
			x, err := p.expression()
			if err != nil {
				return nil, err
			}
			*part = x
		}
		if i == 0 && !p.isOp(":") {
			if s.start == nil {
				return nil, p.unexpected("an expression")
			}
			return s.start, nil
		}
		if !p.isOp(":") || i == 2 {
			break
		}
		p.next++
	}
	return s, nil
}

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
