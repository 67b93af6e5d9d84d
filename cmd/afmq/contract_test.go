package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemaDirEnv tells the program, as scripts run it, where the published schemas are.
const schemaDirEnv = "AFMQ_TEST_SCHEMAS"

// contractBroken is the exit code of a run whose JSON breaks the contract; no script
// expects it.
const contractBroken = 99

// runChecked is run, and with --json it holds what is printed against the published
// schema, strictly: no key may be there that the schema does not describe.
func runChecked(args []string) int {
	if !asksForJSON(args) {
		return run(args, os.Stdout, os.Stderr)
	}
	var printed bytes.Buffer
	code := run(args, io.MultiWriter(os.Stdout, &printed), os.Stderr)
	if err := checkPrinted(os.Getenv(schemaDirEnv), code, printed.Bytes()); err != nil {
		fmt.Fprintf(os.Stderr, "the JSON of %q breaks the contract: %v\n", args, err)
		return contractBroken
	}
	return code
}

// checkPrinted holds the standard output of a command against the contract: one object,
// described, and an error if and only if the exit code is neither that of success nor
// that of a gate.
func checkPrinted(dir string, code int, printed []byte) error {
	object, err := decodeOne(printed)
	if err != nil {
		return err
	}
	name, err := schemaFile(object)
	if err != nil {
		return err
	}
	if failed := code != 0 && code != 5 && code != 7; failed != (name == "error-v1.json") {
		return fmt.Errorf("exit code %d with an object of %s", code, name)
	}
	if name == "error-v1.json" {
		if exit := fmt.Sprint(object.(map[string]any)["error"].(map[string]any)["exit"]); exit != fmt.Sprint(code) {
			return fmt.Errorf("exit code %d; the object says %s", code, exit)
		}
	}
	return checkStrictly(dir, name, object)
}

func decodeOne(data []byte) (any, error) {
	object, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("not one JSON object: %v", err)
	}
	return object, nil
}

// schemaFile returns the file that describes an object: "afmq.eval/v1" is described by
// eval-v1.json.
func schemaFile(object any) (string, error) {
	m, ok := object.(map[string]any)
	if !ok {
		return "", errors.New("not an object")
	}
	id, _ := m["schema"].(string)
	name, ok := strings.CutPrefix(id, "afmq.")
	kind, version, found := strings.Cut(name, "/")
	if !ok || !found || kind == "" {
		return "", fmt.Errorf("schema is %q", id)
	}
	return kind + "-" + version + ".json", nil
}

// checkStrictly holds a JSON value against a schema, with nothing allowed beside what is
// described.
func checkStrictly(dir, name string, value any) error {
	c := jsonschema.NewCompiler()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return err
	}
	for _, file := range files {
		schema, err := readSchema(file)
		if err != nil {
			return err
		}
		closeObjects(schema)
		if err := c.AddResource("file:///"+filepath.Base(file), schema); err != nil {
			return err
		}
	}
	if !slices.Contains(files, filepath.Join(dir, name)) {
		return fmt.Errorf("there is no schema %s in %q", name, dir)
	}
	schema, err := c.Compile("file:///" + name)
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

func readSchema(file string) (any, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(data))
}

// closeObjects forbids undescribed keys in every object that a schema describes.
func closeObjects(schema any) {
	switch x := schema.(type) {
	case map[string]any:
		if _, ok := x["properties"].(map[string]any); ok && x["type"] != nil {
			x["additionalProperties"] = false
		}
		for _, v := range x {
			closeObjects(v)
		}
	case []any:
		for _, v := range x {
			closeObjects(v)
		}
	}
}

// schema FILE [NAME]: the JSON file, or each line of a .jsonl file, is what its schema
// describes: the one called NAME, or the one that its key "schema" names.
func schemaCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 || neg {
		ts.Fatalf("usage: schema FILE [NAME]")
	}
	values := [][]byte{[]byte(ts.ReadFile(args[0]))}
	if strings.HasSuffix(args[0], ".jsonl") {
		values = bytes.SplitAfter(bytes.TrimSpace(values[0]), []byte("\n"))
	}
	for i, data := range values {
		value, err := decodeOne(data)
		ts.Check(err)
		name := ""
		if len(args) == 2 {
			name = args[1] + ".json"
		} else if name, err = schemaFile(value); err != nil {
			ts.Fatalf("%s: %v", args[0], err)
		}
		if err := checkStrictly(ts.Getenv(schemaDirEnv), name, value); err != nil {
			ts.Fatalf("%s: value %d: %v", args[0], i+1, err)
		}
	}
}

const schemaDir = "../../docs/schema"

// The check that scripts rely on finds what it is there to find.
func TestContractIsChecked(t *testing.T) {
	const good = `{"schema":"afmq.completion/v1","shell":"bash","script":"x"}`
	const failure = `{"schema":"afmq.error/v1","error":{"code":"usage","exit":2,"message":"m"}}`
	for _, c := range []struct {
		name, printed string
		code          int
		want          string
	}{
		{"a result", good, 0, ""},
		{"a failed gate's result", good, 5, ""},
		{"an inconclusive gate's result", good, 7, ""},
		{"an error", failure, 2, ""},
		{"nothing", "", 0, "not one JSON object"},
		{"two objects", good + good, 0, "not one JSON object"},
		{"text", "afmq 1.0", 0, "not one JSON object"},
		{"no schema key", `{"shell":"bash"}`, 0, `schema is ""`},
		{"an unknown schema", `{"schema":"afmq.nothing/v1"}`, 0, "no schema nothing-v1.json"},
		{"another version", `{"schema":"afmq.completion/v2","shell":"bash","script":"x"}`, 0, "no schema completion-v2.json"},
		{"an undescribed key", `{"schema":"afmq.completion/v1","shell":"bash","script":"x","more":1}`, 0, "more"},
		{"a missing key", `{"schema":"afmq.completion/v1","shell":"bash"}`, 0, "script"},
		{"another type", `{"schema":"afmq.completion/v1","shell":"bash","script":1}`, 0, "string"},
		{"an undescribed key deep down", `{"schema":"afmq.error/v1","error":{"code":"usage","exit":2,"message":"m","line":1}}`, 2, "line"},
		{"a result with an error's exit code", good, 3, "exit code 3"},
		{"an error with success", failure, 0, "exit code 0"},
		{"another exit code", failure, 3, "the object says 2"},
	} {
		err := checkPrinted(schemaDir, c.code, []byte(c.printed))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v; expected %q", c.name, err, c.want)
		}
	}
}

// The published schemas compile, are open to further keys, and describe every key.
func TestSchemasDescribeEveryKey(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(schemaDir, "*.json"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d schemas: %v", len(files), err)
	}
	for _, file := range files {
		abs, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := jsonschema.NewCompiler().Compile(abs); err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		schema, err := readSchema(file)
		if err != nil {
			t.Fatal(err)
		}
		root := schema.(map[string]any)
		if root["$schema"] != "https://json-schema.org/draft/2020-12/schema" || root["title"] == nil {
			t.Errorf("%s: no draft 2020-12 schema with a title", file)
		}
		checkDescriptions(t, filepath.Base(file), schema)
	}
}

func checkDescriptions(t *testing.T, at string, schema any) {
	switch x := schema.(type) {
	case map[string]any:
		if x["additionalProperties"] != nil || x["unevaluatedProperties"] != nil {
			t.Errorf("%s: is not open to further keys", at)
		}
		if properties, ok := x["properties"].(map[string]any); ok && x["type"] != nil {
			for key, v := range properties {
				m := v.(map[string]any)
				if text, _ := m["description"].(string); text == "" && m["$ref"] == nil {
					t.Errorf("%s: key %q has no description", at, key)
				}
			}
		}
		for key, v := range x {
			checkDescriptions(t, at+"/"+key, v)
		}
	case []any:
		for i, v := range x {
			checkDescriptions(t, fmt.Sprintf("%s/%d", at, i), v)
		}
	}
}

// The list of schemas in the documentation is that of the files.
func TestSchemasAreListed(t *testing.T) {
	data, err := os.ReadFile("../../docs/machine.md")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(schemaDir, "*.json"))
	for _, file := range files {
		if link := "schema/" + filepath.Base(file); !strings.Contains(string(data), "("+link+")") {
			t.Errorf("docs/machine.md does not list %s", link)
		}
	}
}

// An error is JSON if --json is there, however the rest is wrong.
func TestAsksForJSON(t *testing.T) {
	for args, want := range map[string]bool{
		"inspect x": false, "inspect x --json": true, "--json inspect": true, "inspect --json=false": false,
		"inspect --json=true --json=0": false, "inspect --json=maybe": true, "inspect -- --json": false,
	} {
		if got := asksForJSON(strings.Fields(args)); got != want {
			t.Errorf("%s: %v", args, got)
		}
	}
	var out bytes.Buffer
	if code := run([]string{"inspect", "--json", "--no-such-flag"}, &out, io.Discard); code != 2 {
		t.Errorf("exit code %d", code)
	}
	var o errorObject
	if err := json.Unmarshal(out.Bytes(), &o); err != nil || o.Error.Code != "usage" {
		t.Errorf("%s: %v", out.Bytes(), err)
	}
	out.Reset()
	if code := run([]string{"generate", "nowhere", "--prompt", "--json"}, &out, io.Discard); code != 3 || out.Len() > 0 {
		t.Errorf("a prompt was taken for a flag: exit code %d, %q", code, out.String())
	}
}

// Scripts run every command for people, with --json, and wrongly, in both ways.
func TestEveryCommandIsScripted(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Split(string(data), "\n")...)
	}
	for _, cmd := range newRootCommand(&app{}).Commands() {
		for _, wrong := range []bool{false, true} {
			for _, asJSON := range []bool{false, true} {
				if wrong && cmd.Name() == exitCodesTopic || // which takes anything
					!wrong && !asJSON && cmd.Name() == "demo" || // TestPrintDemo
					slices.ContainsFunc(lines, func(line string) bool { return runs(line, cmd.Name(), wrong, asJSON) }) {
					continue
				}
				t.Errorf("no script runs %s with wrong usage: %v, with --json: %v", cmd.Name(), wrong, asJSON)
			}
		}
	}
}

// runs reports whether a line of a script runs a command so.
func runs(line, command string, wrong, asJSON bool) bool {
	words := strings.Fields(line)
	at := slices.Index(words, "afmq")
	if at < 0 || slices.Contains(words, "--json") != asJSON {
		return false
	}
	code := "0"
	if words[0] == "exits" {
		code = words[1]
	}
	return (code == "2") == wrong && (code == "0" || code == "2") && slices.Contains(words[at+1:], command)
}
