package artifact

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"afmq/internal/infile"
	"afmq/internal/units"
	"afmq/pkg/model"
)

// CardFile is the model card that is written beside an artifact: Markdown with front matter, as the Hugging
// Face Hub shows it. The manifest does not list it, so that it can be edited.
const CardFile = "README.md"

// accessories are the files and directories that may lie beside those of an artifact, as hubs, git and people
// add them. No program reads a model from them.
var accessories = regexp.MustCompile(`(?i)^(\.git|\.gitattributes|\.gitignore|\.cache|\.ds_store|(readme|license|licence|notice|use_policy|copying)([._-].*)?|.*\.(png|jpe?g|gif|svg|webp|pdf))$`)

// CardSource is what a model card says of the checkpoint that an artifact was made from, where it is known.
type CardSource struct {
	BaseModel   string // its name on the Hugging Face Hub
	License     string // identifier of the Hub, such as apache-2.0
	LicenseName string // where License is "other"
	LicenseLink string
}

// CheckpointCard returns what the directory of a checkpoint says: its name, if it is a snapshot in the cache
// of the Hugging Face Hub, and the license in its model card.
func CheckpointCard(dir string) CardSource {
	c := ArtifactCard(dir)
	c.BaseModel = model.HubRepository(dir)
	return c
}

// maxCard is the size of the largest model card that is read.
const maxCard = 1 << 20

// cardLine is a line of front matter with a plain value.
var cardLine = regexp.MustCompile(`^(base_model|license|license_name|license_link): *["']?([\w./:+~-]{1,200})["']? *$`)

// ArtifactCard returns what the model card of an artifact says of its source. One that cannot be read says
// nothing.
func ArtifactCard(dir string) (c CardSource) {
	path := filepath.Join(dir, CardFile)
	data, err := infile.ReadBounded(path, maxCard)
	if err != nil {
		return c
	}
	lines := strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
	if lines[0] != "---" {
		return c
	}
	for _, line := range lines[1:] {
		if line == "---" {
			break
		}
		m := cardLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		switch m[1] {
		case "base_model":
			c.BaseModel = m[2]
		case "license":
			c.License = m[2]
		case "license_name":
			c.LicenseName = m[2]
		case "license_link":
			c.LicenseLink = m[2]
		}
	}
	return c
}

// Card returns the model card of an artifact: its source, figures and the command that made it.
func (m *Manifest) Card(source CardSource) []byte {
	var b bytes.Buffer
	b.WriteString("---\n")
	for _, line := range [][2]string{
		{"base_model", source.BaseModel}, {"license", source.License}, {"license_name", source.LicenseName}, {"license_link", source.LicenseLink},
	} {
		if line[1] != "" {
			fmt.Fprintf(&b, "%s: %s\n", line[0], line[1])
		}
	}
	if source.BaseModel != "" {
		b.WriteString("base_model_relation: quantized\n")
	}
	b.WriteString("library_name: afmq\npipeline_tag: text-generation\ntags:\n- afmq\n- quantized\n---\n\n")
	name := "A model"
	if source.BaseModel != "" {
		name = source.BaseModel[strings.LastIndexByte(source.BaseModel, '/')+1:]
	}
	fmt.Fprintf(&b, "# %s in %.4g bits per weight\n\n", name, m.BPW.Projections)
	of := "a checkpoint"
	if source.BaseModel != "" {
		of = fmt.Sprintf("[%s](https://huggingface.co/%[1]s)", source.BaseModel)
	}
	fmt.Fprintf(&b, "An artifact that afmq %s made of %s", m.ToolVersion, of)
	if m.Plan.Grid == "" {
		fmt.Fprintf(&b, " with\n\n    %s\n\n", m.command())
	} else {
		fmt.Fprintf(&b, ", in the forms of %s.\n\n", m.Plan.Grid)
	}
	b.WriteString("| | |\n| --- | --- |\n")
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "| %s | %s |\n", name, fmt.Sprintf(format, args...))
	}
	row("bits per weight, projections", "%.4f", m.BPW.Projections)
	row("bits per weight, model", "%.4f", m.BPW.Model)
	row("size of "+WeightsFile, "%s", units.Size(m.weightBytes()))
	row("matrices", "%s", m.forms())
	compensation := m.Plan.Compensation
	if c := m.Calibration; c != nil {
		compensation += fmt.Sprintf(", %d tokens of text", c.Tokens)
	}
	row("error compensation", "%s", compensation)
	for _, t := range m.Tuning {
		row("tuned", "%s, on %d tokens", strings.Join(t.Numbers, ", "), t.Tokens)
	}
	row("content hash", "`%s`", m.ContentHash)
	b.WriteString("\n`afmq verify` checks the files against manifest.json, `afmq generate` and `afmq serve` run the model, and\n" +
		"`afmq export` and `afmq dequantize` convert it for other programs, which do not read this format.\n")
	return b.Bytes()
}

// command returns the command that made an artifact of palettes, with names in place of paths.
func (m *Manifest) command() string {
	words := []string{"afmq quantize MODEL --out ARTIFACT"}
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	switch c := m.Plan.Choice; {
	case c == nil || c.By == ByPlan:
		add("--plan plan.json")
	case c.By == ByBits:
		add("--bits %d", m.Plan.Bits)
	default:
		if c.BPW > 0 {
			add("--bpw %v", c.BPW)
		} else {
			add("--max-bytes %dB", c.MaxBytes)
		}
		if c.Of == OfModel {
			add("--bpw-of model")
		}
		widths := make([]string, len(c.Widths))
		for i, w := range c.Widths {
			widths[i] = strconv.Itoa(w)
		}
		add("--bits %s --method %s", strings.Join(widths, ","), c.Method)
		if len(c.Tie) > 0 {
			add("--tie %s", strings.Join(c.Tie, ","))
		}
	}
	if c := m.Plan.Choice; c != nil && c.By != ByPlan {
		for _, o := range c.Overrides {
			add("--override '%s'", strings.ReplaceAll(o, "'", `'\''`))
		}
		add("--group-rows %d --row-scale=%v", m.Plan.GroupRows, m.Plan.RowScale)
	}
	if c := m.Calibration; c != nil {
		add("--calib FILE --tokens %d --seq-len %d --seed %d --compensate %s", c.Tokens, c.SeqLen, c.Seed, m.Plan.Compensation)
	}
	if m.Arithmetic != "f32" {
		add("--compute %s", m.Arithmetic)
	}
	return strings.Join(words, " ")
}

// forms counts the matrices by the form in which they are stored.
func (m *Manifest) forms() string {
	counts := map[string]int{}
	for _, r := range m.Plan.Modules {
		name := string(r.Form)
		if r.Form == Palette {
			name = fmt.Sprintf("palette of %d bits", r.Bits)
		}
		counts[name]++
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d × %s", counts[name], name))
	}
	return strings.Join(parts, ", ")
}

// weightBytes returns the size of the file of weights.
func (m *Manifest) weightBytes() int64 {
	for _, f := range m.Files {
		if f.Name == WeightsFile {
			return f.Bytes
		}
	}
	return 0
}

// accessory reports whether an entry of an artifact's directory that the manifest does not list may be there.
func accessory(e fs.DirEntry) bool { return accessories.MatchString(e.Name()) }
