package fault

import (
	"errors"
	"io/fs"
	"testing"
)

// An error is one line, whatever it quotes.
func TestOneLine(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{Inputf("a\nb", "holds %s", "x\r\ty"), `a\nb: holds x\r\ty`},
		{Usagef("no\x1b[31m colour \u0085 é"), `no\x1b[31m colour \u0085 é`},
		{Writing("f", errors.New("two\nlines")), `f: cannot be written: two\nlines`},
		{Infeasiblef("plain"), "plain"},
	} {
		if got := tc.err.Error(); got != tc.want {
			t.Errorf("%q, expected %q", got, tc.want)
		}
	}
}

// A file that the user may not read or write has a hint.
func TestPermissionHint(t *testing.T) {
	denied := &fs.PathError{Op: "open", Path: "f", Err: fs.ErrPermission}
	for _, err := range []error{Reading("f", denied), Writing("f", denied)} {
		var fe *Error
		if !errors.As(err, &fe) || fe.Hint == "" {
			t.Errorf("%v has no hint", err)
		}
	}
	if err := Reading("f", &fs.PathError{Op: "open", Path: "f", Err: fs.ErrNotExist}); err.(*Error).Hint != "" {
		t.Errorf("%v has the hint %q", err, err.(*Error).Hint)
	}
}
