package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// param is a parameter of a function.
type param struct{ name, typ string }

// stubs maps the name of each kernel of an architecture to its parameters.
type stubs map[string][]param

// readStubs reads the declarations that the other generators have written to dir.
func readStubs(dir, arch string) (stubs, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*_"+arch+".s"))
	if err != nil {
		return nil, err
	}
	found := stubs{}
	for _, name := range names {
		name = strings.TrimSuffix(name, ".s") + ".go"
		src, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, src, 0)
		if err != nil {
			return nil, err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body == nil {
				found[f.Name.Name] = fields(src, file, f.Type.Params)
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: no kernels for %s: run the generators of assembly first", dir, arch)
	}
	return found, nil
}

// fields lists parameters one by one, with the types as the source has them.
func fields(src []byte, file *ast.File, list *ast.FieldList) []param {
	var params []param
	for _, f := range list.List {
		typ := string(src[f.Type.Pos()-file.FileStart : f.Type.End()-file.FileStart])
		for _, n := range f.Names {
			params = append(params, param{n.Name, typ})
		}
	}
	return params
}

// parse lists the parameters of an entry of the table.
func parse(params string) []param {
	src := []byte("package p\nfunc f(" + params + ")\n")
	file, err := parser.ParseFile(token.NewFileSet(), "", src, 0)
	if err != nil {
		panic(fmt.Sprintf("parameters %q: %v", params, err))
	}
	return fields(src, file, file.Decls[0].(*ast.FuncDecl).Type.Params)
}

var array = regexp.MustCompile(`^\*\[.+\](.+)$`)

// argument returns the expression that fills parameter p of a kernel.
func argument(p param, f *function, v variant) string {
	for _, given := range []map[string]string{v.args, f.args} {
		if a, ok := given[p.name]; ok {
			return a
		}
	}
	for _, have := range parse(f.params) {
		if have.name != p.name {
			continue
		}
		elem := array.FindStringSubmatch(have.typ)
		switch {
		case have.typ == p.typ:
			return p.name
		case strings.HasPrefix(have.typ, "[]"), elem != nil && p.typ == "*"+elem[1]:
			return "&" + p.name + "[0]"
		}
		return fmt.Sprintf("(%s)(%s)", p.typ, p.name)
	}
	return p.name // a local variable; the compiler rejects any other
}
