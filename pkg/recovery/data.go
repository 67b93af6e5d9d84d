package recovery

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"afmq/internal/infile"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
	"afmq/pkg/tokenizer"
)

// pieceSequences is the length, in sequences, of the pieces that a text without
// documents (a plain text file) is cut into, so that it can be shuffled and held out.
const pieceSequences = 8

// tokensTensor is the name of the tensor in a file of tokens.
const tokensTensor = "tokens"

// Data is the text of a run as tokens: what is trained on, and what is held out.
type Data struct {
	Train      [][]int32 // documents
	Validation [][]int32 // sequences of seqLen+1 tokens, the last of which is only a target; one may be shorter
	Files      []string  // hex SHA-256 of each file

	formats   []string // of each file, as dataFormat names it
	seqLen    int
	separator int32 // between documents; -1 for none
	seed      int64
	epoch     int       // that order holds, -1 for none
	order     [][]int32 // its sequences, [seqLen+1] each
	stream    []int32   // what they are cut from
}

// TrainTokens returns the number of tokens to train on.
func (d *Data) TrainTokens() (n int) {
	for _, t := range d.Train {
		n += len(t)
	}
	return n
}

// readData reads the files, encodes every document alone and holds documents of at
// least o.Validation tokens out.
func readData(ctx context.Context, pool *compute.Pool, o *Options, t *tokenizer.Tokenizer, cfg *model.Config) (*Data, error) {
	d := &Data{seqLen: o.SeqLen, separator: cfg.Separator(), seed: o.Seed, epoch: -1}
	var documents [][]int32
	for _, file := range o.Data {
		part, sum, err := d.readFile(ctx, pool, file, t, cfg)
		if err != nil {
			return nil, err
		}
		if slices.Contains(d.Files, sum) {
			return nil, fault.Usagef("data file %s is given twice", file)
		}
		d.Files, d.formats = append(d.Files, sum), append(d.formats, dataFormat(file))
		documents = append(documents, part...)
	}
	if d.separator < 0 && len(documents) > 1 {
		return nil, fault.Inputf(o.Data[0], "documents are separated by an end-of-sequence token, and the model's config.json names none")
	}
	return d, d.split(documents, o)
}

// Formats of data files, by the extension of their names.
const (
	formatTokens = "tokens" // .safetensors
	formatJSONL  = "jsonl"  // .jsonl
	formatText   = "text"   // any other
)

// dataFormat returns how a data file is read.
func dataFormat(file string) string {
	switch strings.ToLower(filepath.Ext(file)) {
	case ".safetensors":
		return formatTokens
	case ".jsonl":
		return formatJSONL
	}
	return formatText
}

// readFile returns the documents of one file, and the file's digest.
func (d *Data) readFile(ctx context.Context, pool *compute.Pool, file string, t *tokenizer.Tokenizer, cfg *model.Config) ([][]int32, string, error) {
	format := dataFormat(file)
	if format == formatTokens {
		ids, sum, err := readTokenFile(file, cfg.VocabSize)
		if err != nil {
			return nil, "", err
		}
		return d.cut(ids, true), sum, nil
	}
	texts, sum, err := eval.ReadTexts(file)
	if err != nil {
		return nil, "", err
	}
	out, errs := make([][]int32, len(texts)), make([]error, len(texts))
	pool.Run(len(texts), func(_, i int) {
		if errs[i] = ctx.Err(); errs[i] == nil {
			var c *eval.Corpus
			if c, errs[i] = eval.EncodeTexts(file, texts[i:i+1], t, d.separator); errs[i] == nil {
				out[i] = c.IDs
			}
		}
	})
	for _, err := range errs {
		if err != nil {
			return nil, "", err
		}
	}
	if format != formatJSONL {
		return d.cut(out[0], false), sum, nil
	}
	return slices.DeleteFunc(out, func(ids []int32) bool { return len(ids) == 0 }), sum, nil
}

// readTokenFile returns the tokens of a file and its digest, which are of the same bytes.
func readTokenFile(file string, vocab int) (ids []int32, sum string, err error) {
	before, err := os.Stat(file)
	if err != nil {
		return nil, "", fault.Reading(file, err)
	}
	if sum, err = infile.Hash(file); err != nil {
		return nil, "", err
	}
	if ids, err = readTokens(file, vocab); err != nil {
		return nil, "", err
	}
	if after, err := os.Stat(file); err != nil || !infile.Same(before, after) {
		return nil, "", infile.Changed(file)
	}
	return ids, sum, nil
}

// cut divides tokens into documents at the separators, which stay out, where there are
// any to divide at, and else into pieces.
func (d *Data) cut(ids []int32, atSeparators bool) (out [][]int32) {
	if atSeparators && d.separator >= 0 && slices.Contains(ids, d.separator) {
		for len(ids) > 0 {
			n := slices.Index(ids, d.separator)
			if n < 0 {
				n = len(ids)
			}
			if n > 0 {
				out = append(out, ids[:n])
			}
			ids = ids[min(n+1, len(ids)):]
		}
		return out
	}
	for piece := range slices.Chunk(ids, pieceSequences*d.seqLen) {
		out = append(out, piece)
	}
	return out
}

// readTokens reads the tensor "tokens", one dimension of an integer type.
func readTokens(file string, vocab int) (ids []int32, err error) {
	f, err := safetensors.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, ok := f.Tensor(tokensTensor)
	if !ok || len(t.Shape) != 1 || len(f.Names()) != 1 {
		return nil, fault.Inputf(file, "a file of tokens holds one tensor %q of one dimension", tokensTensor)
	}
	var at func(b []byte, i int) uint64
	le := binary.LittleEndian
	switch t.DType {
	case safetensors.U16:
		at = func(b []byte, i int) uint64 { return uint64(le.Uint16(b[2*i:])) }
	case safetensors.I32, safetensors.U32:
		at = func(b []byte, i int) uint64 { return uint64(le.Uint32(b[4*i:])) }
	case safetensors.I64, safetensors.U64:
		at = func(b []byte, i int) uint64 { return le.Uint64(b[8*i:]) }
	default:
		return nil, fault.Inputf(file, "tensor %q is %s; expected U16, I32, U32, I64 or U64", tokensTensor, t.DType)
	}
	ids = make([]int32, t.NumElements())
	err = safetensors.Guard(file, func() error {
		b := t.Bytes()
		for i := range ids {
			id := at(b, i)
			if id >= uint64(vocab) {
				return fault.Inputf(file, "tensor %q: token id at index %d lies outside the vocabulary of %d", tokensTensor, i, vocab)
			}
			ids[i] = int32(id)
		}
		return nil
	})
	return ids, err
}

// split holds out documents, drawn by the seed, until they have the tokens asked for.
func (d *Data) split(documents [][]int32, o *Options) error {
	total := 0
	for _, t := range documents {
		total += len(t)
	}
	rng := rand.New(rand.NewPCG(uint64(d.seed), 1))
	order := rng.Perm(len(documents))
	held := map[int]bool{}
	var out [][]int32
	tokens := 0
	for _, i := range order {
		if tokens >= o.Validation {
			break
		}
		// A document that would take most of the text stays where it is.
		if 2*(tokens+len(documents[i])) > total {
			continue
		}
		held[i] = true
		out = append(out, documents[i])
		tokens += len(documents[i])
	}
	for i, t := range documents {
		if !held[i] {
			d.Train = append(d.Train, t)
		}
	}
	if n := d.join(d.Train); len(n) <= d.seqLen {
		return fault.Inputf(o.Data[0], "there are %d tokens to train on; a sequence takes %d and one to predict", len(n), d.seqLen)
	}
	stream := d.join(out)
	stream = stream[:min(len(stream), o.Validation+1)]
	if len(stream) < 2 {
		return fault.Inputf(o.Data[0], "no document can be held out for validation: %d documents with %d tokens", len(documents), total).
			WithHint("give more text, or divide it into documents (.jsonl)")
	}
	for at := 0; at+1 < len(stream); at += d.seqLen {
		d.Validation = append(d.Validation, stream[at:min(at+d.seqLen+1, len(stream))])
	}
	return nil
}

// join puts documents behind each other, with the separator between.
func (d *Data) join(documents [][]int32) []int32 {
	n := 0
	for _, t := range documents {
		n += len(t) + 1
	}
	out := make([]int32, 0, n)
	for i, t := range documents {
		if i > 0 && d.separator >= 0 {
			out = append(out, d.separator)
		}
		out = append(out, t...)
	}
	return out
}

// Sequence returns the i-th sequence of the run, of seqLen+1 tokens: each pass over the
// text shuffles the documents, packs them behind each other, cuts the sequences and
// shuffles those. It is a function of the text and the seed alone.
func (d *Data) Sequence(i int64) []int32 {
	if d.epoch < 0 {
		d.shuffle(0)
	}
	// All passes have the same number of sequences: the same tokens are cut.
	n := int64(len(d.order))
	if e := int(i / n); e != d.epoch {
		d.shuffle(e)
	}
	return d.order[i%n]
}

func (d *Data) shuffle(epoch int) {
	rng := rand.New(rand.NewPCG(uint64(d.seed), 2+uint64(epoch)))
	documents := slices.Clone(d.Train)
	rng.Shuffle(len(documents), func(i, j int) { documents[i], documents[j] = documents[j], documents[i] })
	d.stream = d.join(documents)
	d.order = d.order[:0]
	for at := 0; at+d.seqLen < len(d.stream); at += d.seqLen {
		d.order = append(d.order, d.stream[at:at+d.seqLen+1])
	}
	rng.Shuffle(len(d.order), func(i, j int) { d.order[i], d.order[j] = d.order[j], d.order[i] })
	d.epoch = epoch
}
