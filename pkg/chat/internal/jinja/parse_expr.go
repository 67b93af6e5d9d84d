package jinja

import (
	"math/big"
	"strconv"
	"strings"
)

func (p *parser) expression() (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.nesting-- }()
	line := pos(p.cur().line)
	x, err := p.or()
	for err == nil && p.skipName("if") {
		c := &condE{pos: line, then: x}
		if c.test, err = p.or(); err != nil {
			return nil, err
		}
		if p.skipName("else") {
			if c.otherwise, err = p.expression(); err != nil {
				return nil, err
			}
		}
		x = c
	}
	return x, err
}

func (p *parser) or() (expr, error) {
	x, err := p.and()
	for err == nil && p.isName("or") {
		line := pos(p.take().line)
		var r expr
		r, err = p.and()
		x = &logicE{line, true, x, r}
	}
	return x, err
}

func (p *parser) and() (expr, error) {
	x, err := p.not()
	for err == nil && p.isName("and") {
		line := pos(p.take().line)
		var r expr
		r, err = p.not()
		x = &logicE{line, false, x, r}
	}
	return x, err
}

func (p *parser) not() (expr, error) {
	if !p.isName("not") {
		return p.compare()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.nesting-- }()
	line := pos(p.take().line)
	x, err := p.not()
	return &unaryE{line, "not", x}, err
}

func (p *parser) compare() (expr, error) {
	line := pos(p.cur().line)
	first, err := p.sum()
	if err != nil {
		return nil, err
	}
	var rest []operand
	for {
		op := ""
		switch t := p.cur(); {
		case t.kind == tOp && strings.Contains(" == != < <= > >= ", " "+t.text+" "):
			op = t.text
		case p.isName("in"):
			op = "in"
		case p.isName("not") && p.look().kind == tName && p.look().text == "in":
			p.next++
			op = "not in"
		}
		if op == "" {
			break
		}
		p.next++
		x, err := p.sum()
		if err != nil {
			return nil, err
		}
		rest = append(rest, operand{op, x})
	}
	if rest == nil {
		return first, nil
	}
	return &compareE{line, first, rest}, nil
}

// chain parses a left-associative chain of the operators ops.
func (p *parser) chain(operand func() (expr, error), ops ...string) (expr, error) {
	x, err := operand()
	for err == nil {
		op := ""
		for _, o := range ops {
			if p.isOp(o) {
				op = o
			}
		}
		if op == "" {
			break
		}
		line := pos(p.take().line)
		var r expr
		r, err = operand()
		x = &binaryE{line, op, x, r}
	}
	return x, err
}

func (p *parser) sum() (expr, error)     { return p.chain(p.concat, "+", "-") }
func (p *parser) product() (expr, error) { return p.chain(p.power, "*", "/", "//", "%") }
func (p *parser) power() (expr, error) {
	return p.chain(func() (expr, error) { return p.unary(true) }, "**")
}

func (p *parser) concat() (expr, error) {
	line := pos(p.cur().line)
	x, err := p.product()
	items := []expr{x}
	for err == nil && p.skipOp("~") {
		x, err = p.product()
		items = append(items, x)
	}
	if err != nil || len(items) == 1 {
		return x, err
	}
	return &concatE{line, items}, nil
}

func (p *parser) unary(filters bool) (x expr, err error) {
	t := p.cur()
	if t.kind == tOp && (t.text == "-" || t.text == "+") {
		if err := p.enter(); err != nil {
			return nil, err
		}
		defer func() { p.nesting-- }()
		p.next++
		if x, err = p.unary(false); err == nil {
			x = &unaryE{pos(t.line), t.text, x}
		}
	} else {
		x, err = p.primary(false)
	}
	if err != nil {
		return nil, err
	}
	if x, err = p.postfix(x); err != nil || !filters {
		return x, err
	}
	return p.filterExpr(x)
}

func (p *parser) primary(namespaces bool) (expr, error) {
	t := p.take()
	line := pos(t.line)
	switch t.kind {
	case tName:
		switch t.text {
		case "true", "True":
			return &constE{line, true}, nil
		case "false", "False":
			return &constE{line, false}, nil
		case "none", "None":
			return &constE{line, nil}, nil
		}
		if namespaces && p.skipOp(".") {
			attr, err := p.name()
			return &nsE{line, t.text, attr}, err
		}
		for _, m := range p.open {
			m.use(t.text)
		}
		return &nameE{line, t.text}, nil
	case tString:
		text := t.text
		for p.cur().kind == tString {
			text += p.take().text
		}
		return &constE{line, text}, nil
	case tInt:
		n, ok := new(big.Int).SetString(t.text, 0)
		if !ok {
			return nil, syntaxf(t.line, "invalid number %q", t.text)
		}
		return &constE{line, integer(n)}, nil
	case tFloat:
		f, err := strconv.ParseFloat(t.text, 64)
		if err != nil && f == 0 {
			return nil, syntaxf(t.line, "invalid number %q", t.text)
		}
		return &constE{line, f}, nil
	case tOp:
		switch t.text {
		case "(":
			x, err := p.tuple(tupleMode{parens: true})
			if err != nil {
				return nil, err
			}
			return x, p.op(")")
		case "[":
			items, err := p.items("]")
			return &listE{line, items}, err
		case "{":
			return p.dict(line)
		}
	}
	return nil, syntaxf(t.line, "unexpected %q", t.String())
}

// items parses expressions separated by commas, and end.
func (p *parser) items(end string) ([]expr, error) {
	var out []expr
	for !p.isOp(end) {
		if len(out) > 0 {
			if err := p.op(","); err != nil {
				return nil, err
			}
			if p.isOp(end) {
				break
			}
		}
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, p.op(end)
}

func (p *parser) dict(line pos) (expr, error) {
	d := &dictE{pos: line}
	for !p.isOp("}") {
		if len(d.keys) > 0 {
			if err := p.op(","); err != nil {
				return nil, err
			}
			if p.isOp("}") {
				break
			}
		}
		key, err := p.expression()
		if err != nil {
			return nil, err
		}
		if err := p.op(":"); err != nil {
			return nil, err
		}
		value, err := p.expression()
		if err != nil {
			return nil, err
		}
		d.keys, d.values = append(d.keys, key), append(d.values, value)
	}
	return d, p.op("}")
}
