package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/pkg/fault"
)

// plainNumber is the value of a numeric flag. It states what the flag expects, in place of the
// error of strconv.
type plainNumber struct {
	pflag.Value
	flag string
}

// explainNumbers makes the numeric flags of a command and of those below it plainNumbers.
func explainNumbers(cmd *cobra.Command) {
	explain := func(f *pflag.Flag) {
		switch f.Value.Type() {
		case "int", "int64", "uint64", "float64":
			f.Value = plainNumber{f.Value, f.Name}
		}
	}
	cmd.Flags().VisitAll(explain)
	cmd.PersistentFlags().VisitAll(explain)
	for _, c := range cmd.Commands() {
		explainNumbers(c)
	}
}

// percentMeans says, of the flags whose unit is not a share, what to write in place of a
// percentage.
var percentMeans = map[string]string{
	"max-kl":      "a divergence is in nats per token, not in per cent; write a number such as 0.02",
	"max-kl-rise": "a divergence is in nats per token, not in per cent; write a number such as 0.002",
	"max-nats":    "a loss is in nats per token, not in per cent; 0.01 is about 1 % of perplexity",
}

// Set parses the value. pflag puts the flag and the value before the error.
func (n plainNumber) Set(s string) error {
	err := n.Value.Set(s)
	if err == nil {
		return nil
	}
	digits, percent := strings.CutSuffix(s, "%")
	share, parseErr := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return errors.New("the number is out of range")
	case percent && percentMeans[n.flag] != "":
		return errors.New(percentMeans[n.flag])
	case n.Type() != "float64":
		return errors.New("expected a whole number without a unit")
	case percent && parseErr == nil:
		return fmt.Errorf("expected a number without a unit; %s %% is %.6g", strings.TrimSpace(digits), share/100)
	}
	return errors.New("expected a number without a unit, with a decimal point")
}

// largeNats is the limit of a mean, in nats per token, from which on a percentage was probably
// meant. A rise of 0.5 is one of perplexity by 65 %; at 2 bits, afm-mini has a divergence of 0.18.
const largeNats = 0.5

// limitWarnings returns a line for each limit that is so large that another unit was probably
// meant: a percentage for one in nats per token, a smaller rise for a factor.
func limitWarnings(f *pflag.FlagSet) []string {
	var out []string
	if given, err := f.GetString("max-ppl-increase"); err == nil && given != "" {
		if share, err := parseRise("max-ppl-increase", given); err == nil && math.Log1p(share) >= largeNats {
			out = append(out, fmt.Sprintf("--max-ppl-increase %s allows a perplexity of %.3g times the reference's; 2%% and 1.02x are the same limit", given, 1+share))
		}
	}
	for _, name := range []string{"max-nats", "max-kl-rise", "max-kl"} {
		v, err := f.GetFloat64(name)
		switch {
		case err != nil || !f.Changed(name) || v < largeNats: // err: the command has no such flag
		case name == "max-nats":
			out = append(out, fmt.Sprintf("--%s %g allows perplexity to rise by %.3g %%: it is in nats per token, and 0.01 is about 1 %%", name, v, 100*math.Expm1(v)))
		default:
			out = append(out, fmt.Sprintf("--%s %g is in nats per token, not in per cent; a model of 2 bits has about 0.2", name, v))
		}
	}
	return out
}

// parseRise reads a rise: a percentage such as "2%" or a factor such as "1.02x". It returns
// the share, 0.02 for both. A number without a unit is refused, because it can mean either.
func parseRise(flag, s string) (float64, error) {
	t := strings.TrimSpace(s)
	digits := strings.TrimRight(t, "%x×")
	n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	unit := t[len(digits):]
	if err != nil || !(math.Abs(n) <= 1e9) || unit != "" && unit != "%" && unit != "x" && unit != "×" {
		return 0, fault.Usagef("--%s %q is neither a percentage such as 2%% nor a factor such as 1.02x", flag, s)
	}
	share := n - 1
	switch {
	case unit == "%":
		share = n / 100
	case unit == "" && n > 0:
		return 0, ambiguousRise(flag, t, n)
	}
	if !(share > 0) {
		return 0, fault.Usagef("--%s %s is not above 0%% (a factor of 1x)", flag, t).
			WithHint("a sample cannot show that a mean rise is at most 0; 1%% is the usual margin")
	}
	return share, nil
}

// ambiguousRise returns the error for a number without a unit, with the two rises that it can
// mean: n per cent, and the factor n or, where that is improbable, the share n.
func ambiguousRise(flag, s string, n float64) error {
	other := n
	if n > 1 && n < 2 {
		other = n - 1
	}
	both := func(share float64) string {
		return fmt.Sprintf("%.6g%% (a factor of %.6gx)", 100*share, 1+share)
	}
	return fault.Usagef("--%s %s has no unit: write %s or %s", flag, s, both(n/100), both(other))
}
