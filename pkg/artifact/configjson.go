package artifact

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"afmq/pkg/safetensors"
)

// configKey is one key of a JSON object, with the bytes of its value.
type configKey struct {
	Name  string
	value json.RawMessage
}

// splitObject returns the keys of a JSON object in their order. The bytes of the values are kept,
// so that no number is rounded.
func splitObject(data []byte) ([]configKey, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	tok, err := d.Token()
	if err != nil {
		return nil, err
	}
	if tok != json.Delim('{') {
		return nil, fmt.Errorf("expected an object, found %v", tok)
	}
	var keys []configKey
	for d.More() {
		tok, err := d.Token()
		if err != nil {
			return nil, err
		}
		k := configKey{Name: tok.(string)} // the decoder accepts only strings as keys
		if err := d.Decode(&k.value); err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	_, err = d.Token()
	return keys, err
}

// joinObject writes an object, indented by two spaces, with a line feed at its end. Of an object
// that was split, only the white space differs.
func joinObject(keys []configKey) ([]byte, error) {
	var flat bytes.Buffer
	flat.WriteByte('{')
	for i, k := range keys {
		if i > 0 {
			flat.WriteByte(',')
		}
		name, err := encodeJSON(k.Name)
		if err != nil {
			return nil, err
		}
		flat.Write(name)
		flat.WriteByte(':')
		flat.Write(k.value)
	}
	flat.WriteByte('}')
	var out bytes.Buffer
	if err := json.Indent(&out, flat.Bytes(), "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// encodeJSON is json.Marshal without HTML escapes.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// EncodeConfig returns the config.json of an artifact: that of the source, with
// quantization_config as its last key. bits is the default width of an index, groupRows the rows
// that share a look-up table. An error says that source is not a JSON object.
func EncodeConfig(source []byte, bits, groupRows int, exceptions []ModuleBits) ([]byte, error) {
	keys, err := splitObject(source)
	if err != nil {
		return nil, err
	}
	var modules []configKey
	for _, m := range exceptions {
		modules = append(modules, configKey{m.Name, json.RawMessage(`{"bits":` + strconv.Itoa(m.Bits) + `}`)})
	}
	value, err := joinObject(modules)
	if err != nil {
		return nil, err
	}
	quant, err := joinObject([]configKey{
		{"quant_method", json.RawMessage(`"` + quantMethod + `"`)},
		{"version", json.RawMessage(strconv.Itoa(quantVersion))},
		{"bits", json.RawMessage(strconv.Itoa(bits))},
		{"group_rows", json.RawMessage(strconv.Itoa(groupRows))},
		{"modules", value},
	})
	if err != nil {
		return nil, err
	}
	return joinObject(append(keys, configKey{quantizationKey, quant}))
}

const (
	quantizationKey = "quantization_config"
	quantMethod     = "afmq"
	quantVersion    = 1
)

// ModuleBits is a module whose width differs from the default.
type ModuleBits struct {
	Name string
	Bits int
}

// DenseConfig returns the config.json of a dequantized checkpoint: the artifact's without
// quantization_config, and with float16 as the type of its weights (torch_dtype, in newer files
// dtype).
func DenseConfig(artifact []byte, dtype safetensors.DType) ([]byte, error) {
	keys, err := splitObject(artifact)
	if err != nil {
		return nil, err
	}
	name := json.RawMessage(`"float16"`)
	if dtype == safetensors.F32 {
		name = json.RawMessage(`"float32"`)
	}
	typed := false
	out := keys[:0]
	for _, k := range keys {
		switch k.Name {
		case quantizationKey:
			continue
		case "torch_dtype", "dtype":
			k.value, typed = name, true
		}
		out = append(out, k)
	}
	if !typed {
		out = append(out, configKey{"torch_dtype", name})
	}
	return joinObject(out)
}
