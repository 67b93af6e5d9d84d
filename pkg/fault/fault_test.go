package fault

import (
	"errors"
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
