package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The packages under pkg/ are a library: no type of an internal package appears in what they
// export, where a caller in another module could not name it.
func TestNothingExportedIsInternal(t *testing.T) {
	fset := token.NewFileSet()
	files := 0
	err := filepath.WalkDir(filepath.Join("..", "..", "pkg"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		files++
		for _, at := range internalInExported(f) {
			t.Errorf("%s: an exported declaration has the type of an internal package", fset.Position(at))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 100 {
		t.Errorf("the walk saw %d files", files)
	}
}

// The check itself finds every place where a type can stand.
func TestInternalInExported(t *testing.T) {
	const head = "package p\nimport \"afmq/internal/kernel\"\n"
	for src, want := range map[string]int{
		"func F(p *kernel.Pool) []kernel.Matrix { return nil }":   2,
		"func f(p *kernel.Pool) {}":                               0,
		"func F() { var p kernel.Pool; _ = p }":                   0,
		"type T struct { P *kernel.Pool; q *kernel.Pool }":        1,
		"type t struct { P *kernel.Pool }":                        0,
		"type T struct { *kernel.Pool }":                          1,
		"type T = kernel.Pool":                                    1,
		"type T kernel.Pool":                                      0, // a type of its own, opaque
		"type T []kernel.Pool":                                    1,
		"type T interface { M(kernel.Pool); m(kernel.Pool) }":     1,
		"type T func(kernel.Pool)":                                1,
		"var V kernel.Pool":                                       1,
		"var V = kernel.NewPool(1)":                               1,
		"type T struct{}; func (T) M(map[string]kernel.Pool) {}":  1,
		"type t struct{}; func (t) M(kernel.Pool) {}":             0,
		"func F[P interface{ *kernel.Pool }](p P) {}":             1,
		"type T struct { F func(struct { P kernel.Pool }) }":      1,
		"type T struct { f func(struct { P kernel.Pool }) }":      0,
		"const C = kernel.PanelRows":                              0, // a constant is a value
		"const C = T(kernel.PanelRows); type T int; var V = T(C)": 0,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "p.go", head+src, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := internalInExported(f); len(got) != want {
			t.Errorf("%s: %d places, want %d", src, len(got), want)
		}
	}
}

// internalInExported returns where a file's exported declarations name something of an
// internal package.
func internalInExported(f *ast.File) (at []token.Pos) {
	internal := map[string]bool{}
	for _, spec := range f.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil || !strings.HasPrefix(path, "afmq/internal/") {
			continue
		}
		name := filepath.Base(path)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		internal[name] = true
	}
	// The names of parameters say nothing of their visibility, those of members do.
	parameters := map[*ast.Field]bool{}
	find := func(n ast.Node) {
		ast.Inspect(n, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if id, ok := n.X.(*ast.Ident); ok && internal[id.Name] {
					at = append(at, n.Pos())
				}
			case *ast.FuncType:
				for _, list := range []*ast.FieldList{n.TypeParams, n.Params, n.Results} {
					if list != nil {
						for _, p := range list.List {
							parameters[p] = true
						}
					}
				}
			case *ast.Field:
				if len(n.Names) > 0 && !anyExported(n.Names) && !parameters[n] {
					return false
				}
			}
			return true
		})
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && (d.Recv == nil || exportedReceiver(d.Recv.List[0].Type)) {
				find(d.Type)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					_, opaque := s.Type.(*ast.SelectorExpr)
					if s.Name.IsExported() && (s.Assign.IsValid() || !opaque) {
						find(s.Type)
					}
				case *ast.ValueSpec:
					if d.Tok != token.VAR || !anyExported(s.Names) {
						continue
					}
					if s.Type != nil {
						find(s.Type)
						continue
					}
					for _, v := range s.Values {
						find(v)
					}
				}
			}
		}
	}
	return at
}

func anyExported(names []*ast.Ident) bool {
	for _, n := range names {
		if n.IsExported() {
			return true
		}
	}
	return false
}

func exportedReceiver(t ast.Expr) bool {
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}
