package coreml

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// message is an encoded protobuf message. Its methods append a field and return the result.
// The field numbers are those of Model.proto, FeatureTypes.proto and MIL.proto in
// https://github.com/apple/coremltools/tree/9.0/mlmodel/format.
type message []byte

func (m message) varint(field protowire.Number, v int) message {
	return protowire.AppendVarint(protowire.AppendTag(m, field, protowire.VarintType), uint64(int64(v)))
}

func (m message) bytes(field protowire.Number, v []byte) message {
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), v)
}

func (m message) text(field protowire.Number, v string) message {
	return protowire.AppendString(protowire.AppendTag(m, field, protowire.BytesType), v)
}

// entry appends an entry of a map from strings to messages.
func (m message) entry(field protowire.Number, key string, value message) message {
	return m.bytes(field, message(nil).text(1, key).bytes(2, value))
}

// packed returns the content of a packed repeated field of integers.
func packed(values []int) message {
	var m message
	for _, v := range values {
		m = protowire.AppendVarint(m, uint64(int64(v)))
	}
	return m
}
