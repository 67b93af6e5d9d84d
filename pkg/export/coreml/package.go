package coreml

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
)

// The files of a package, relative to it.
const (
	manifestFile = "Manifest.json"
	dataDir      = "Data"
	authorDir    = "com.apple.CoreML"
)

var (
	modelFile   = filepath.Join(dataDir, authorDir, "model.mlmodel")
	weightsFile = filepath.Join(dataDir, authorDir, "weights", "weight.bin")
)

// version is what a package declares of the oldest system that it needs.
type version struct {
	specification int    // specificationVersion of Model.proto
	opset         string // version of the operations
}

// versions are those of the targets. iOS 18 and macOS 15 are the first systems with palettes for
// groups of rows and with states. Those of iOS 26 and macOS 26 have no other operations that a
// program uses; coremltools 9.0 has the same numbers.
var versions = map[string]version{
	"coreml-ios18": {9, "CoreML8"},
	"coreml-ios26": {10, "CoreML9"},
}

// function is one finished function of the program.
type function struct {
	name   string
	chunk  int
	shape  []int // of the logits
	blocks message
}

// encodeModel returns the bytes of model.mlmodel. The first function is the default. metadata is
// stored under its keys, sorted.
func encodeModel(v version, functions []function, cache []int, metadata map[string]string) []byte {
	program := message(nil).varint(1, 1)
	var description message
	for _, f := range functions {
		program = program.entry(2, f.name, f.encode(v.opset, cache))
		description = description.bytes(20, f.describe(cache))
	}
	description = description.text(21, functions[0].name)
	meta := message(nil).text(1, "Language model with palettized weights").text(3, "afmq")
	keys := make([]string, 0, len(metadata))
	for k := range metadata {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		meta = meta.bytes(100, message(nil).text(1, k).text(2, metadata[k]))
	}
	return message(nil).varint(1, v.specification).bytes(2, description.bytes(100, meta)).bytes(502, program)
}

// encode returns the Function of the program.
func (f *function) encode(opset string, cache []int) message {
	var m message
	for _, v := range f.inputs() {
		m = m.bytes(1, message(nil).text(1, v.name).bytes(2, tensorType(v.dtype, v.shape)))
	}
	for _, name := range []string{keys, values} {
		m = m.bytes(1, message(nil).text(1, name).bytes(2, stateType(half16, cache)))
	}
	block := append(message(nil).text(2, logits), f.blocks...)
	return m.text(2, opset).entry(3, opset, block)
}

// describe returns the FunctionDescription of the model: what a host sees.
func (f *function) describe(cache []int) message {
	m := message(nil).text(1, f.name)
	for _, v := range f.inputs() {
		m = m.bytes(2, feature(v.name, message(nil).bytes(5, arrayType(v.dtype, v.shape))))
	}
	m = m.bytes(3, feature(logits, message(nil).bytes(5, arrayType(half16, f.shape))))
	for _, name := range []string{keys, values} {
		m = m.bytes(6, feature(name, message(nil).bytes(8, message(nil).bytes(1, arrayType(half16, cache)))))
	}
	return m
}

func (f *function) inputs() []value {
	return []value{{inputIDs, int32s, []int{1, f.chunk}}, {position, int32s, []int{1}}}
}

func feature(name string, featureType message) message {
	return message(nil).text(1, name).bytes(3, featureType)
}

func arrayType(t dataType, shape []int) message {
	return message(nil).bytes(1, packed(shape)).varint(2, arrayTypes[t])
}

// packageManifest returns the bytes of Manifest.json. The identifiers of its items, which Apple's
// tools draw at random, are derived from seed, so that equal packages have equal bytes.
func packageManifest(seed string) ([]byte, error) {
	item := func(name, path, description string) map[string]string {
		return map[string]string{"author": authorDir, "name": name, "path": authorDir + "/" + path, "description": description}
	}
	root, weights := identity(seed+":model"), identity(seed+":weights")
	data, err := json.MarshalIndent(map[string]any{
		"fileFormatVersion":   "1.0.0",
		"rootModelIdentifier": root,
		"itemInfoEntries": map[string]any{
			root:    item("model.mlmodel", "model.mlmodel", "CoreML Model Specification"),
			weights: item("weights", "weights", "CoreML Model Weights"),
		},
	}, "", "  ")
	return append(data, '\n'), err
}

// identity returns a UUID of version 8 (RFC 9562) from the SHA-256 of a text.
func identity(s string) string {
	h := sha256.Sum256([]byte(s))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}
