package gguf

import "fmt"

// KV is a key of the metadata with its value, of one of the types that the package comment
// lists.
type KV struct {
	Key   string
	Value any
}

// valueType is a type of values by its number in the format (gguf_metadata_value_type).
type valueType uint32

const (
	typeUint8 valueType = iota
	typeInt8
	typeUint16
	typeInt16
	typeUint32
	typeInt32
	typeFloat32
	typeBool
	typeString
	typeArray
	typeUint64
	typeInt64
	typeFloat64
)

// leastBytes is the least number of bytes that a value takes in a file.
var leastBytes = [...]uint64{
	typeUint8: 1, typeInt8: 1, typeUint16: 2, typeInt16: 2, typeUint32: 4, typeInt32: 4, typeFloat32: 4,
	typeBool: 1, typeString: 8, typeArray: 12, typeUint64: 8, typeInt64: 8, typeFloat64: 8,
}

// maxNesting bounds arrays in arrays.
const maxNesting = 4

// typeOf returns the type of a value.
func typeOf(v any) (valueType, error) {
	switch v.(type) {
	case uint8:
		return typeUint8, nil
	case int8:
		return typeInt8, nil
	case uint16:
		return typeUint16, nil
	case int16:
		return typeInt16, nil
	case uint32:
		return typeUint32, nil
	case int32:
		return typeInt32, nil
	case float32:
		return typeFloat32, nil
	case bool:
		return typeBool, nil
	case string:
		return typeString, nil
	case uint64:
		return typeUint64, nil
	case int64:
		return typeInt64, nil
	case float64:
		return typeFloat64, nil
	}
	_, err := elementOf(v)
	return typeArray, err
}

// elementOf returns the type of the elements of an array.
func elementOf(v any) (valueType, error) {
	switch v.(type) {
	case []uint8:
		return typeUint8, nil
	case []int8:
		return typeInt8, nil
	case []uint16:
		return typeUint16, nil
	case []int16:
		return typeInt16, nil
	case []uint32:
		return typeUint32, nil
	case []int32:
		return typeInt32, nil
	case []float32:
		return typeFloat32, nil
	case []bool:
		return typeBool, nil
	case []string:
		return typeString, nil
	case []any:
		return typeArray, nil
	case []uint64:
		return typeUint64, nil
	case []int64:
		return typeInt64, nil
	case []float64:
		return typeFloat64, nil
	}
	return 0, fmt.Errorf("a value of the Go type %T cannot be stored", v)
}
