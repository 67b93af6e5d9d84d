package adapter

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"afmq/pkg/model"
)

// choose finds the modules that target_modules and related keys select.
func (c *Config) choose(f *adapterFields, cfg *model.Config) error {
	target, err := matcher("target_modules", f.Targets)
	if err != nil {
		return err
	}
	if target == nil {
		return fmt.Errorf("target_modules names no module")
	}
	exclude, err := matcher("exclude_modules", f.Exclude)
	if err != nil {
		return err
	}
	layers, err := layerSet(f)
	if err != nil {
		return err
	}
	allLinear := string(f.Targets) == `"all-linear"`
	for _, spec := range cfg.Tensors() {
		name := spec.Module()
		hit := target(name) || allLinear && spec.Role == model.Projection
		if !hit || exclude != nil && exclude(name) {
			continue
		}
		switch {
		case spec.Role == model.Bias:
		case spec.Role != model.Projection:
			return fmt.Errorf("target_modules selects %s; only the projections of attention and feed-forward are supported", name)
		case layers == nil || slices.Contains(layers, spec.Layer):
			c.Modules = append(c.Modules, name)
		}
	}
	if len(c.Modules) == 0 {
		return fmt.Errorf("target_modules %s matches no projection of the model", brief(f.Targets))
	}
	return nil
}

// matcher reads a list of names, each that of a module or the end of one, or one regular
// expression for whole names. It returns nil if the option is unset.
func matcher(key string, v json.RawMessage) (func(module string) bool, error) {
	if len(v) == 0 || idle(v) {
		return nil, nil
	}
	var names []string
	if json.Unmarshal(v, &names) == nil {
		return func(module string) bool {
			return slices.ContainsFunc(names, func(n string) bool { return module == n || strings.HasSuffix(module, "."+n) })
		}, nil
	}
	var pattern string
	if err := json.Unmarshal(v, &pattern); err != nil {
		return nil, fmt.Errorf("%s is neither a list of names nor a regular expression", key)
	}
	re, err := regexp.Compile(`^(?:` + pattern + `)$`)
	if err != nil {
		return nil, fmt.Errorf("%s: %v", key, err)
	}
	return re.MatchString, nil
}

// layerSet returns the layers that layers_to_transform selects; nil for all.
func layerSet(f *adapterFields) ([]int, error) {
	if v := f.LayersPattern; len(v) > 0 && !idle(v) && string(v) != `"layers"` && string(v) != `["layers"]` {
		return nil, fmt.Errorf("layers_pattern is %s; the only supported value is layers", brief(v))
	}
	if len(f.LayersToTransform) == 0 || string(f.LayersToTransform) == "null" {
		return nil, nil
	}
	var one int
	if json.Unmarshal(f.LayersToTransform, &one) == nil {
		return []int{one}, nil
	}
	layers := []int{}
	if err := json.Unmarshal(f.LayersToTransform, &layers); err != nil {
		return nil, fmt.Errorf("layers_to_transform is %s; expected a list of layers", brief(f.LayersToTransform))
	}
	return layers, nil
}
