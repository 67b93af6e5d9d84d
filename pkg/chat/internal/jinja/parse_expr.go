package jinja

import (
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

func (p *parser) sum() (expr, error) { return p.chain(p.concat, "+", "-") }

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
