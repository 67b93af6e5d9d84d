package jinja

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

type stringMethod func(r *run, s string, a args) (Value, error)

// stringMethods are the methods of Python's str. Filled by init: the methods refer to functions
// that refer to it.
var stringMethods map[string]stringMethod

func init() {
	stringMethods = map[string]stringMethod{
		"strip":        strip("strip", true, true),
		"lstrip":       strip("lstrip", true, false),
		"rstrip":       strip("rstrip", false, true),
		"split":        splitMethod(false),
		"rsplit":       splitMethod(true),
		"splitlines":   splitlines,
		"partition":    partition("partition", strings.Index),
		"rpartition":   partition("rpartition", strings.LastIndex),
		"startswith":   affix("startswith", strings.HasPrefix),
		"endswith":     affix("endswith", strings.HasSuffix),
		"removeprefix": remove("removeprefix", strings.CutPrefix),
		"removesuffix": remove("removesuffix", strings.CutSuffix),
		"replace":      replaceMethod,
		"join":         joinMethod,
		"format":       formatMethod,
		"find":         find("find", strings.Index, false),
		"rfind":        find("rfind", strings.LastIndex, false),
		"index":        find("index", strings.Index, true),
		"rindex":       find("rindex", strings.LastIndex, true),
		"count":        countMethod,
		"zfill":        zfill,
		"ljust":        justify("ljust", 1, 0),
		"rjust":        justify("rjust", 0, 1),
		"center":       justify("center", 1, 1),
		"upper":        convert("upper", upper),
		"lower":        convert("lower", lower),
		"title":        convert("title", title),
		"capitalize":   convert("capitalize", capitalize),
		"swapcase":     convert("swapcase", swapcase),
		"isdigit":      every("isdigit", unicode.IsDigit),
		"isdecimal":    every("isdecimal", unicode.IsDigit),
		"isnumeric":    every("isnumeric", unicode.IsNumber),
		"isalpha":      every("isalpha", unicode.IsLetter),
		"isalnum":      every("isalnum", func(c rune) bool { return unicode.IsLetter(c) || unicode.IsNumber(c) }),
		"isspace":      every("isspace", isSpace),
		"islower":      cased("islower", unicode.IsLower),
		"isupper":      cased("isupper", unicode.IsUpper),
		"istitle": func(r *run, s string, a args) (Value, error) {
			return nil, refusef("the method %q of a str", "istitle")
		},
	}
}

func strip(name string, left, right bool) stringMethod {
	return func(r *run, s string, a args) (Value, error) {
		p, err := a.bind(name, "chars")
		if err != nil {
			return nil, err
		}
		cut := isSpace
		if p[0] != missing && p[0] != nil {
			chars, ok := text(p[0])
			if !ok {
				return nil, failf("%s arg must be None or str", name)
			}
			cut = func(c rune) bool { return strings.ContainsRune(chars, c) }
			if err := r.alloc(times(len(s)/64, len(chars))); err != nil {
				return nil, err
			}
		}
		if left {
			s = strings.TrimLeftFunc(s, cut)
		}
		if right {
			s = strings.TrimRightFunc(s, cut)
		}
		return s, r.alloc(len(s))
	}
}

func affix(name string, test func(s, affix string) bool) stringMethod {
	return func(r *run, s string, a args) (Value, error) {
		if len(a.list) > 1 {
			return nil, refusef("%s with a range", name)
		}
		p, err := a.bind(name, "prefix")
		if err != nil {
			return nil, err
		}
		options := p
		if t, ok := p[0].(*Tuple); ok {
			options = t.Items
		}
		for _, o := range options {
			affix, ok := text(o)
			if !ok {
				return nil, failf("%s first arg must be str or a tuple of str, not %s", name, typeName(o))
			}
			if test(s, affix) {
				return true, nil
			}
		}
		return false, nil
	}
}

func remove(name string, cut func(s, affix string) (string, bool)) stringMethod {
	return func(r *run, s string, a args) (Value, error) {
		p, err := a.bindText(name, "affix")
		if err != nil {
			return nil, err
		}
		s, _ = cut(s, p[0])
		return s, nil
	}
}

func find(name string, search func(s, sub string) int, must bool) stringMethod {
	return func(r *run, s string, a args) (Value, error) {
		if len(a.list) > 1 {
			return nil, refusef("%s with a range", name)
		}
		p, err := a.bindText(name, "sub")
		if err != nil {
			return nil, err
		}
		if err := r.scan(s); err != nil {
			return nil, err
		}
		i := search(s, p[0])
		if i < 0 && must {
			return nil, failf("substring not found")
		}
		if i < 0 {
			return int64(-1), nil
		}
		return int64(utf8.RuneCountInString(s[:i])), nil
	}
}

func countMethod(r *run, s string, a args) (Value, error) {
	if len(a.list) > 1 {
		return nil, refusef("count with a range")
	}
	p, err := a.bindText("count", "sub")
	if err != nil {
		return nil, err
	}
	return int64(strings.Count(s, p[0])), r.scan(s)
}

func convert(name string, f func(s string) (string, error)) stringMethod {
	return func(r *run, s string, a args) (Value, error) {
		if _, err := a.bind(name); err != nil {
			return nil, err
		}
		if err := r.alloc(len(s)); err != nil {
			return nil, err
		}
		return f(s)
	}
}
