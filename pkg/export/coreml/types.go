package coreml

// dataType is the type of an element, as MIL.proto numbers it (enum DataType).
type dataType int

const (
	boolean dataType = 1
	text    dataType = 2
	half16  dataType = 10
	int8s   dataType = 21
	int32s  dataType = 23
	uint8s  dataType = 31
	uint4s  dataType = 35
	uint2s  dataType = 36
	uint1s  dataType = 37
	uint6s  dataType = 38
	uint3s  dataType = 39
)

// indexTypes are the types of palette indices by width. Core ML has no others.
var indexTypes = map[int]dataType{1: uint1s, 2: uint2s, 3: uint3s, 4: uint4s, 6: uint6s, 8: uint8s}

// blobTypes are the codes of the types in weight.bin (enum BlobDataType in coremltools'
// mlmodel/src/MILBlob/Blob/BlobDataType.hpp).
var blobTypes = map[dataType]uint32{
	half16: 1, uint8s: 3, int8s: 4, uint1s: 9, uint2s: 10, uint4s: 11, uint3s: 12, uint6s: 13,
}

// arrayTypes are the codes of the types of inputs and outputs (enum ArrayDataType in
// FeatureTypes.proto).
var arrayTypes = map[dataType]int{half16: 0x10010, int32s: 0x20020}

// bits is the width of an element of weight.bin.
func (t dataType) bits() int {
	switch t {
	case half16:
		return 16
	case uint1s:
		return 1
	case uint2s:
		return 2
	case uint3s:
		return 3
	case uint4s:
		return 4
	case uint6s:
		return 6
	}
	return 8
}

// tensorType encodes a ValueType with a TensorType of constant dimensions.
func tensorType(t dataType, shape []int) message {
	m := message(nil).varint(1, int(t))
	if len(shape) > 0 {
		m = m.varint(2, len(shape))
	}
	for _, n := range shape {
		m = m.bytes(3, message(nil).bytes(1, message(nil).varint(1, n)))
	}
	return message(nil).bytes(1, m)
}

// stateType encodes a ValueType with a StateType that wraps a tensor.
func stateType(t dataType, shape []int) message {
	return message(nil).bytes(5, message(nil).bytes(1, tensorType(t, shape)))
}

func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}
