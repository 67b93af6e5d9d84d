package jinja

import (
	"math/big"
)

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
