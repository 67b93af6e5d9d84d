package artifact

// Difference compares two models of one shape, A (usually the earlier one) and B. Each is an
// artifact, a checkpoint or a GGUF file.
type Difference struct {
	// Same: the tensors and every file of the model have the same bytes, including the
	// manifests of two artifacts, and the keys of two GGUF files. The division of a checkpoint into
	// shards does not matter. A GGUF file and a directory are never the same.
	Same        bool              `json:"same"`
	SameContent bool              `json:"same_content"` // the tensors have the same bytes
	A           DiffModel         `json:"a"`
	B           DiffModel         `json:"b"`
	Files       []FileDifference  `json:"files"`      // that differ, other than the weights, in name order; none if A or B is a GGUF file
	Provenance  []KeyDifference   `json:"provenance"` // keys of origin and method that differ in the manifests of two artifacts, or keys of two GGUF files
	IsSource    *bool             `json:"is_source"`  // whether the artifact was made from the checkpoint; nil for other pairs
	Totals      DiffTotals        `json:"totals"`     // over all tensors of the model
	Layers      []LayerDifference `json:"layers"`     // every matrix, in canonical order
	Vectors     []LayerDifference `json:"vectors"`    // norms and biases, in canonical order
}

// DiffModel describes A or B.
type DiffModel struct {
	Path        string        `json:"path"`
	Kind        string        `json:"kind"`         // "artifact", "checkpoint" or "gguf"
	ContentHash string        `json:"content_hash"` // of the tensors as they are stored, lower-case hex; those of a GGUF file as an artifact would store them
	Bytes       int64         `json:"bytes"`        // of the safetensors files, or of the GGUF file
	BPW         BitsPerWeight `json:"bpw"`          //
	Ledger      *Ledger       `json:"ledger"`       // nil but for an artifact
}

// FileDifference is a file that differs. The digest of a missing file is empty.
type FileDifference struct {
	Name string `json:"name"`
	A    string `json:"a"` // hex SHA-256
	B    string `json:"b"`
}

// KeyDifference is a key of the manifest that differs, with both values as text: of an array, or of
// a long text in a GGUF file, the hex SHA-256.
type KeyDifference struct {
	Key string `json:"key"`
	A   string `json:"a"`
	B   string `json:"b"`
}

// DiffTotals are figures over all tensors.
type DiffTotals struct {
	LayersChanged  int      `json:"layers_changed"`  // matrices and vectors whose stored bytes differ
	Bytes          int64    `json:"bytes"`           // of B minus those of A, as in DiffModel
	WeightsChanged float64  `json:"weights_changed"` // share of the weights whose value differs
	WeightDistance *float64 `json:"weight_distance"` // as in LayerDifference, over all tensors at once
	RelErrorA      *float64 `json:"rel_error_a"`     // ‖A−R‖/‖R‖ over all tensors; nil without a reference R
	RelErrorB      *float64 `json:"rel_error_b"`
}

// LayerDifference compares one tensor of the model. Norms are Frobenius norms of the float32
// weights that the engine reads; sums are in float64.
type LayerDifference struct {
	Name string    `json:"name"` // a tensor's without ".weight"
	Same bool      `json:"same"` // stored the same, byte for byte
	A    LayerForm `json:"a"`
	B    LayerForm `json:"b"`
	// WeightDistance is ‖B−A‖/‖A‖; nil if A is zero and B is not.
	WeightDistance *float64 `json:"weight_distance"`
	WeightsChanged float64  `json:"weights_changed"` // share of the weights whose value differs
	// LUTDistance is the root mean square difference of the sorted look-up tables, relative to
	// the root mean square of A's entries. The entries of the shorter table are repeated to
	// the length of the longer, so that it is the 2-Wasserstein distance of the tables,
	// averaged over groups. Nil unless both are palettes with the same number of rows in a
	// group, and both or neither have row scales.
	LUTDistance *float64 `json:"lut_distance"`
}

// LayerForm is how A or B stores one tensor of the model.
type LayerForm struct {
	Form  Form  `json:"form"`
	Bits  int   `json:"bits"`
	Bytes int64 `json:"bytes"`
	// RelError is ‖Ŵ−R‖/‖R‖ against the reference R. Without a reference it is that of the
	// manifest; nil for a model without one and for a vector.
	RelError *float64 `json:"rel_error"`
}
