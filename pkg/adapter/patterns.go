package adapter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
)

// patterns applies rank_pattern and alpha_pattern: regular expressions for the end of a module's
// name, of which the first that matches counts.
func (c *Config) patterns(f *adapterFields) error {
	err := eachPattern("rank_pattern", f.RankPattern, c.Modules, func(module string, v float64) error {
		if v < 1 || v > maxRank || v != math.Trunc(v) {
			return fmt.Errorf("%v is not a rank", v)
		}
		c.Ranks[module] = int(v)
		return nil
	})
	if err != nil {
		return err
	}
	return eachPattern("alpha_pattern", f.AlphaPattern, c.Modules, func(module string, v float64) error {
		if !usableAlpha(v) {
			return fmt.Errorf("%v is not a number of at most 1e6 in magnitude", v)
		}
		c.Alphas[module] = v
		return nil
	})
}

// maxPatterns bounds rank_pattern and alpha_pattern, which may list every module by name.
const maxPatterns = 4096

func eachPattern(key string, v json.RawMessage, modules []string, set func(module string, v float64) error) error {
	if len(v) == 0 || idle(v) {
		return nil
	}
	// The order of the members counts, so they are read one by one.
	d := json.NewDecoder(bytes.NewReader(v))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("%s is %s; expected an object", key, brief(v))
	}
	count, done := 0, map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return fmt.Errorf("%s: %v", key, err)
		}
		var value float64
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("%s: %v", key, err)
		}
		if count++; count > maxPatterns {
			return fmt.Errorf("%s has more than %d patterns", key, maxPatterns)
		}
		// A compiled expression takes some hundred times the memory of its text, so none is kept.
		re, err := regexp.Compile(fmt.Sprintf(`^(?:.*\.)?(?:%v)$`, name))
		if err != nil {
			return fmt.Errorf("%s: %v", key, err)
		}
		for _, m := range modules {
			if done[m] || !re.MatchString(m) {
				continue
			}
			done[m] = true
			if err := set(m, value); err != nil {
				return fmt.Errorf("%s: %s: %v", key, m, err)
			}
		}
	}
	return nil
}
