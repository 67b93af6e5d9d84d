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
	"afmq/pkg/export/target"
	"afmq/pkg/fault"
)

// Schema is the version of a profile that this package reads.
const Schema = "afmq.device/v1"

// Profile is the peak figures of a device, with their sources.
type Profile struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`  // lower-case letters, digits and hyphens
	Title  string `json:"title"` // for people
	// System is the operating system, in lower case; it decides which export targets the device
	// has. Empty if the profile does not say.
	System     target.System `json:"system,omitempty"`
	Bandwidth  Figure        `json:"bandwidth"`
	Compute    Figure        `json:"compute"`    // a multiply-add is two operations
	Arithmetic string        `json:"arithmetic"` // the data type of Compute
	Memory     Figure        `json:"memory"`     // available to a model, keys and values included
	KVBits     int           `json:"kv_bits"`    // bits of a stored key or value: 8, 16 or 32
}

// Figure is a number with its unit and its source.
type Figure struct {
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"` // "B/s", "FLOP/s" or "B"
	Source string  `json:"source"`
}

//go:embed profiles/*.json
var profiles embed.FS

// Names returns the names of the embedded profiles, sorted.
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

// Text returns the JSON of an embedded profile. An unknown name is an error of kind
// fault.Usage.
func Text(name string) ([]byte, error) {
	data, err := profiles.ReadFile(path.Join("profiles", name+".json"))
	if err != nil {
		return nil, fault.Usagef("device %.200q is unknown; the devices are %s", name, strings.Join(Names(), ", ")).
			WithHint("`afmq devices NAME` prints a profile that you can save and edit; pass a file by its path")
	}
	return data, nil
}

const maxProfileBytes = 1 << 16

// Load returns an embedded profile by its name, or a profile from a file. Errors are
// fault.Usage for an unknown name, and fault.Input for a file.
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

// LoadAll loads several profiles. Their names must differ.
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

// Parse parses a profile; file is the name in errors, which are fault.Input.
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
		return bad("name %.80q must consist of lower-case letters, digits and hyphens", p.Name)
	}
	if p.Title == "" || p.Arithmetic == "" || len(p.Title)+len(p.Arithmetic) > 400 {
		return bad("title and arithmetic must have 1 to 400 characters in total, neither empty")
	}
	if len(p.System) > 40 || strings.Trim(string(p.System), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return bad("system %.80q must consist of lower-case letters, digits and hyphens, such as ios or macos", p.System)
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
			return bad("%s: unit is %.40q; it must be %s", f.key, f.Unit, f.unit)
		case !(f.Value >= 1e3 && f.Value <= f.most) || math.IsInf(f.Value, 0):
			return bad("%s: %v %s is out of range", f.key, f.Value, f.unit)
		case strings.TrimSpace(f.Source) == "":
			return bad("%s: source is empty; say where the figure comes from", f.key)
		}
	}
	if p.KVBits != 8 && p.KVBits != 16 && p.KVBits != 32 {
		return bad("kv_bits is %d; it must be 8, 16 or 32", p.KVBits)
	}
	return p, nil
}

// String returns the figures of a profile in one line.
func (p *Profile) String() string {
	return fmt.Sprintf("%s: %.3g GB/s, %.3g T op/s (%s), %.3g GiB for the model", p.Title, p.Bandwidth.Value/1e9, p.Compute.Value/1e12, p.Arithmetic, p.Memory.Value/(1<<30))
}
