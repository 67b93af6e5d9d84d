package device

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
	"unicode/utf8"

	"afmq/internal/infile"
	"afmq/pkg/fault"
)

// Schema is the version of a profile that this package reads.
const Schema = "afmq.device/v1"

// Profile is what a device can do, and who says so.
type Profile struct {
	Schema     string `json:"schema"`
	Name       string `json:"name"`  // short: lower-case letters, digits and hyphens
	Title      string `json:"title"` // for people
	Bandwidth  Figure `json:"bandwidth"`
	Compute    Figure `json:"compute"`    // a multiply-add is two operations
	Arithmetic string `json:"arithmetic"` // that Compute is of
	Memory     Figure `json:"memory"`     // that a model may take, keys and values included
	KVBits     int    `json:"kv_bits"`    // of a stored key or value: 8, 16 or 32
}

// Figure is a number with its unit and its source.
type Figure struct {
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"` // "B/s", "FLOP/s" or "B"
	Source string  `json:"source"`
}

//go:embed profiles/*.json
var profiles embed.FS

// Names returns the names of the profiles that the program carries, sorted.
func Names() []string {
	entries, err := profiles.ReadDir("profiles")
	if err != nil {
		panic(err) // the embed directive guarantees it
	}
	var out []string
	for _, e := range entries {
		out = append(out, strings.TrimSuffix(e.Name(), ".json"))
	}
	return out
}

// Text returns the file of a profile that the program carries, for people to edit.
func Text(name string) ([]byte, error) {
	data, err := profiles.ReadFile(path.Join("profiles", name+".json"))
	if err != nil {
		return nil, fault.Usagef("there is no device %.200q; there are %s", name, strings.Join(Names(), ", ")).
			WithHint("`afmq devices NAME` prints one, to save and edit; a file is given by its path")
	}
	return data, nil
}

const maxProfileBytes = 1 << 16

// Load returns a profile by its name, if the program carries it, or from a file. Errors
// are fault.Usage for a name that there is not, and fault.Input for a file.
func Load(nameOrFile string) (*Profile, error) {
	data, unknown := Text(nameOrFile)
	if unknown == nil {
		return Parse(nameOrFile, data)
	}
	if _, err := os.Stat(nameOrFile); errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(nameOrFile, `/\.`) {
		return nil, unknown
	}
	data, err := infile.ReadBounded(nameOrFile, maxProfileBytes)
	if err != nil {
		return nil, err
	}
	return Parse(nameOrFile, data)
}

// LoadAll is Load of several, no two of which may have one name.
func LoadAll(namesOrFiles []string) ([]*Profile, error) {
	var out []*Profile
	seen := map[string]bool{}
	for _, s := range namesOrFiles {
		p, err := Load(s)
		if err != nil {
			return nil, err
		}
		if seen[p.Name] {
			return nil, fault.Usagef("device %q is given twice", p.Name)
		}
		seen[p.Name] = true
		out = append(out, p)
	}
	return out, nil
}

// Parse reads a profile; file is what errors name, which are fault.Input.
func Parse(file string, data []byte) (*Profile, error) {
	bad := func(format string, args ...any) (*Profile, error) {
		return nil, fault.Inputf(file, "is not a device profile: "+format, args...)
	}
	if !utf8.Valid(data) {
		return bad("not valid UTF-8")
	}
	if err := infile.CheckJSON(data); err != nil {
		return bad("%v", err)
	}
	p := &Profile{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		return bad("%v", err)
	}
	if p.Schema != Schema {
		return bad("schema is %.80q; this version reads %q", p.Schema, Schema)
	}
	if p.Name == "" || len(p.Name) > 64 || strings.Trim(p.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return bad("name %.80q is not made of lower-case letters, digits and hyphens", p.Name)
	}
	if p.Title == "" || p.Arithmetic == "" || len(p.Title)+len(p.Arithmetic) > 400 {
		return bad("title or arithmetic is missing or too long")
	}
	for _, f := range []struct {
		key, unit string
		Figure
		most float64
	}{
		{"bandwidth", "B/s", p.Bandwidth, 1e16}, {"compute", "FLOP/s", p.Compute, 1e19}, {"memory", "B", p.Memory, 1e16},
	} {
		switch {
		case f.Unit != f.unit:
			return bad("%s: unit is %.40q; it is given in %s", f.key, f.Unit, f.unit)
		case !(f.Value >= 1e3 && f.Value <= f.most) || math.IsInf(f.Value, 0):
			return bad("%s: %v %s is no device's", f.key, f.Value, f.unit)
		case strings.TrimSpace(f.Source) == "":
			return bad("%s: has no source; say where the figure comes from", f.key)
		}
	}
	if p.KVBits != 8 && p.KVBits != 16 && p.KVBits != 32 {
		return bad("kv_bits is %d; it is 8, 16 or 32", p.KVBits)
	}
	return p, nil
}

// String is the figures of a profile in one line.
func (p *Profile) String() string {
	return fmt.Sprintf("%s: %.3g GB/s, %.3g T op/s (%s), %.3g GiB for the model", p.Title, p.Bandwidth.Value/1e9, p.Compute.Value/1e12, p.Arithmetic, p.Memory.Value/(1<<30))
}
