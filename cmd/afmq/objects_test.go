package main

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"afmq/cmd/afmq/internal/device"
	"afmq/cmd/afmq/internal/report"
	"afmq/pkg/artifact"
	"afmq/pkg/gate"
	"afmq/pkg/recovery"
	"afmq/pkg/sensitivity"
)

// described are the Go types of everything that has a schema of its own.
var described = map[string]any{
	"dry-run-v1":           dryRunObject{},
	"sensitivity-shard-v1": sensitivityShardObject{},

	"baseline-v1":      gate.Baseline{},
	"chat-v1":          chatObject{},
	"compare-v1":       compareObject{},
	"completion-v1":    completionObject{},
	"demo-v1":          demoObject{},
	"dequantize-v1":    dequantizeObject{},
	"device-v1":        device.Profile{},
	"devices-v1":       devicesObject{},
	"diff-v1":          diffObject{},
	"error-v1":         errorObject{},
	"eval-v1":          evalObject{},
	"exit-codes-v1":    exitCodesObject{},
	"export-coreai-v1": coreaiObject{},
	"export-gguf-v1":   ggufObject{},
	"export-mlx-v1":    mlxObject{},

	"export-compressed-tensors-v1": compressedObject{},

	"export-v1":       coremlObject{},
	"gate-v1":         gateObject{},
	"generate-v1":     generateObject{},
	"help-v1":         helpObject{},
	"inspect-gguf-v1": inspectGGUFObject{},
	"inspect-v1":      inspectObject{},
	"manifest-v1":     artifact.Manifest{},
	"metrics-v1":      recovery.Metric{},
	"plan-v1":         planObject{},
	"merge-status-v1": mergeStatusObject{},
	"merge-v1":        mergeObject{},

	"quantize-shard-v1": quantizeShardObject{},

	"quantize-v1":    quantizeObject{},
	"recover-v1":     recoverObject{},
	"recovery-v1":    recovery.Record{},
	"report-v1":      reportObject{},
	"scores-v1":      sensitivity.Scores{},
	"sensitivity-v1": sensitivityObject{},
	"serve-v1":       serveObject{},
	"stats-v1":       statsObject{},
	"verify-v1":      verifyObject{},
	"version-v1":     versionObject{},
	"recover-job-v1": recoverJobObject{},
	"train-job-v1":   recovery.TrainJob{},
	"tune-v1":        tuneObject{},
	"tuning-v1":      recovery.TuneRecord{},
}

// sections are the types of the data of a report's sections, each of which has a
// definition in its schema.
var sections = map[string]any{
	"summary": report.Summary{}, "size": report.Size{}, "bits": report.Bits{}, "sensitivity": report.Sensitivity{}, "weights": report.Weights{},
	"plan": report.Choice{}, "curve": report.Curve{}, "recovery": report.Recovery{}, "training": report.Training{},
	"evaluation": report.Evaluation{}, "provenance": report.Provenance{}, "samples": report.Samples{}, "commands": report.Commands{},
	"compare": report.Comparison{},
}

// Schemas and types have the same keys, and the same of them may be absent: real output
// in the scripts shows that what is there is described; this shows that what is described
// can be there, and that no key without a script goes undescribed.
func TestSchemasMatchTypes(t *testing.T) {
	docs := readSchemas(t)
	for file := range docs {
		name := strings.TrimSuffix(file, ".json")
		if _, ok := described[name]; !ok && name != "common-v1" {
			t.Errorf("%s describes no type that this test knows", file)
		}
	}
	for name, v := range described {
		m := matcher{t: t, docs: docs}
		if docs[name+".json"] == nil {
			t.Errorf("there is no schema %s.json", name)
			continue
		}
		m.match(name, name+".json", docs[name+".json"], reflect.TypeOf(v))
	}
}

// readSchemas returns all schemas by the names of their files.
func readSchemas(t *testing.T) map[string]any {
	t.Helper()
	docs := map[string]any{}
	files, _ := filepath.Glob(filepath.Join(schemaDir, "*.json"))
	for _, file := range files {
		schema, err := readSchema(file)
		if err != nil {
			t.Fatal(err)
		}
		docs[filepath.Base(file)] = schema
	}
	return docs
}

// The same of the sections of a report, whose data has no one type.
func TestReportSectionsMatchTypes(t *testing.T) {
	docs := readSchemas(t)
	defs := docs["report-v1.json"].(map[string]any)["$defs"].(map[string]any)
	for id, v := range sections {
		m := matcher{t: t, docs: docs}
		m.match(id, "report-v1.json", defs[id], reflect.TypeOf(v))
	}
}

type matcher struct {
	t    *testing.T
	docs map[string]any
}

// key is a key of an object as encoding/json writes it.
type key struct {
	typ      reflect.Type
	optional bool // may be absent
	either   bool // of an embedded pointer: the schema says whether it may be absent
}

// keys returns the keys of a struct type. Shallower fields win.
func keys(typ reflect.Type, either bool) map[string]key {
	out, inner := map[string]key{}, map[string]key{}
	for f := range fields(typ) {
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && tag == "" {
			pointer := f.Type.Kind() == reflect.Pointer
			base := f.Type
			if pointer {
				base = base.Elem()
			}
			for k, v := range keys(base, either || pointer) {
				inner[k] = v
			}
			continue
		}
		if tag != "" && tag != "-" {
			out[tag] = key{f.Type, strings.Contains(options, "omitempty"), either}
		}
	}
	for k, v := range inner {
		if _, ok := out[k]; !ok {
			out[k] = v
		}
	}
	return out
}

func fields(typ reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range typ.NumField() {
			if !yield(typ.Field(i)) {
				return
			}
		}
	}
}

// match compares a schema, which stands in the file called file, with a type.
func (m *matcher) match(at, file string, schema any, typ reflect.Type) {
	s, ok := schema.(map[string]any)
	if !ok {
		m.t.Fatalf("%s: no schema", at)
	}
	for {
		if typ.Kind() == reflect.Interface {
			return // see sections
		}
		if r, ok := s["$ref"].(string); ok {
			file, s = m.resolve(at, file, r)
		} else if options, ok := s["anyOf"].([]any); ok {
			s = options[0].(map[string]any)
		} else {
			break
		}
	}
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch typ.Kind() {
	case reflect.Slice, reflect.Array:
		if typ == reflect.TypeFor[json.RawMessage]() {
			return // real output shows what is in it
		}
		m.match(at+"[]", file, s["items"], typ.Elem())
	case reflect.Struct:
		m.object(at, file, s, typ)
	}
}

func (m *matcher) object(at, file string, s map[string]any, typ reflect.Type) {
	properties, _ := s["properties"].(map[string]any)
	required := map[string]bool{}
	list, _ := s["required"].([]any)
	for _, r := range list {
		required[r.(string)] = true
	}
	have := keys(typ, false)
	for name, k := range have {
		p, ok := properties[name]
		if !ok {
			m.t.Errorf("%s: key %q is printed and not described", at, name)
			continue
		}
		if !k.either && required[name] == k.optional {
			m.t.Errorf("%s: key %q: required in the schema: %v, may be absent: %v", at, name, required[name], k.optional)
		}
		m.match(at+"."+name, file, p, k.typ)
	}
	for name := range properties {
		if file == "plan-v1.json" && (name == "out" || name == "guide") && typ == reflect.TypeFor[sensitivity.Plan]() {
			continue // only the command adds it
		}
		if _, ok := have[name]; !ok {
			m.t.Errorf("%s: key %q is described and never printed", at, name)
		}
	}
}

// resolve follows a reference of the forms that the schemas use.
func (m *matcher) resolve(at, file, ref string) (string, map[string]any) {
	name, path, _ := strings.Cut(ref, "#")
	if name == "" {
		name = file
	}
	v := m.docs[name]
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if part != "" && v != nil {
			v = v.(map[string]any)[part]
		}
	}
	s, ok := v.(map[string]any)
	if !ok {
		m.t.Fatalf("%s: %s leads nowhere", at, ref)
	}
	return name, s
}
