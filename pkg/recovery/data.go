package recovery

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/tokenizer"
)

// corpus is the text of a run as tokens.
type corpus struct {
	train            [][]int32 // documents
	validation, test [][]int32 // sequences of seqLen+1 tokens, the last only a target; the last sequence may be shorter
	excluded         int       // tokens that are in none of the three
	files            []string  // hex SHA-256 of each file
	formats          []string  // of each file, as dataFormat names it
	warnings         []string  // about the form of files, one line each, for people

	seqLen    int
	separator int32 // between documents; -1 for none
	seed      int64
	epoch     int       // of order; -1 for none
	order     [][]int32 // the sequences of that epoch, [seqLen+1] each
}

// trainTokens returns the number of tokens to train on.
func (c *corpus) trainTokens() (n int) {
	for _, t := range c.train {
		n += len(t)
	}
	return n
}

// readData reads the files, encodes every document separately and divides them into training,
// validation and test text. It sets o.Validation to the number of tokens asked of the latter
// two. No document with a passage that known counts is held out; nil for none.
func readData(ctx context.Context, pool *compute.Pool, o *Options, t *tokenizer.Tokenizer, cfg *model.Config, known func(ids []int32) int) (*corpus, error) {
	c := &corpus{seqLen: o.SeqLen, separator: cfg.Separator(), seed: o.Seed, epoch: -1}
	bytes := int64(0)
	for _, file := range o.Data {
		if info, err := os.Stat(file); err == nil { // an error is that of reading it, below
			bytes += info.Size()
		}
	}
	o.Progress.Stage(progress.Stage{Name: StageText, Work: bytes})
	defer o.Progress.Done()
	var documents [][]int32
	for _, file := range o.Data {
		part, sum, err := c.readFile(ctx, pool, file, t, cfg, o.Progress)
		if err != nil {
			return nil, err
		}
		if slices.Contains(c.files, sum) {
			return nil, fault.Usagef("data file %s is given twice", file)
		}
		c.files, c.formats = append(c.files, sum), append(c.formats, dataFormat(file))
		documents = append(documents, part...)
	}
	if c.separator < 0 && len(documents) > 1 {
		return nil, fault.Inputf(o.Data[0], "documents are separated by an end-of-sequence token, and the model's config.json names none")
	}
	so := splitOptions{file: o.Data[0], seed: o.Seed, tokens: o.Validation, seqLen: o.SeqLen}
	if known != nil {
		so.known = func(ids []int32) bool { return known(ids) > 0 }
	}
	parts, heldOut, err := splitDocuments(documents, so)
	if err != nil {
		return nil, err
	}
	o.Validation = heldOut
	c.train, c.excluded = parts.train, parts.excluded
	if n := len(c.join(c.train)); n <= c.seqLen {
		return nil, fault.Inputf(o.Data[0], "leaves %d tokens to train on; a sequence takes %d and one to predict", n, c.seqLen).
			WithHint("give more text, or shorter sequences with --seq-len")
	}
	c.validation, c.test = c.sequences(parts.validation, heldOut), c.sequences(parts.test, heldOut)
	return c, nil
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

// readFile returns the documents of one file, and the file's hex SHA-256.
func (c *corpus) readFile(ctx context.Context, pool *compute.Pool, file string, t *tokenizer.Tokenizer, cfg *model.Config, p progress.Reporter) ([][]int32, string, error) {
	if dataFormat(file) == formatTokens {
		ids, sum, err := readTokenFile(file, cfg.VocabSize)
		if err != nil {
			return nil, "", err
		}
		return divide(ids, c.separator), sum, nil
	}
	texts, sum, err := eval.ReadTexts(file)
	if err != nil {
		return nil, "", err
	}
	if w := eval.FormWarning(file, texts); w != "" {
		c.warnings = append(c.warnings, w)
	}
	out, errs := make([][]int32, len(texts)), make([]error, len(texts))
	pool.Run(len(texts), func(_, i int) {
		if errs[i] = ctx.Err(); errs[i] == nil {
			var e *eval.Corpus
			if e, errs[i] = eval.EncodeTexts(file, texts[i:i+1], t, c.separator); errs[i] == nil {
				out[i] = e.IDs
			}
			p.Advance(int64(len(texts[i])))
		}
	})
	for _, err := range errs {
		if err != nil {
			return nil, "", err
		}
	}
	return slices.DeleteFunc(out, func(ids []int32) bool { return len(ids) == 0 }), sum, nil
}

// join concatenates documents with the separator between them.
func (c *corpus) join(documents [][]int32) []int32 {
	n := 0
	for _, t := range documents {
		n += len(t) + 1
	}
	out := make([]int32, 0, n)
	for i, t := range documents {
		if i > 0 && c.separator >= 0 {
			out = append(out, c.separator)
		}
		out = append(out, t...)
	}
	return out
}

// sequences packs held-out documents into sequences that score at most so many tokens.
func (c *corpus) sequences(documents [][]int32, tokens int) (out [][]int32) {
	stream := c.join(documents)
	stream = stream[:min(len(stream), tokens+1)]
	for at := 0; at+1 < len(stream); at += c.seqLen {
		out = append(out, stream[at:min(at+c.seqLen+1, len(stream))])
	}
	return out
}

// sequence returns the i-th training sequence of the run, of seqLen+1 tokens. Each epoch
// shuffles the documents, concatenates them, cuts the result into sequences and shuffles
// those. The sequence depends on the text, the seed and i only.
func (c *corpus) sequence(i int64) []int32 {
	n := c.perEpoch()
	if e := int(i / n); e != c.epoch {
		c.shuffle(e)
	}
	return c.order[i%n]
}

// perEpoch returns the number of sequences in an epoch, which is the same for all: they are
// cut from the same number of tokens.
func (c *corpus) perEpoch() int64 {
	if c.epoch < 0 {
		c.shuffle(0)
	}
	return int64(len(c.order))
}

func (c *corpus) shuffle(epoch int) {
	rng := rand.New(rand.NewPCG(uint64(c.seed), 2+uint64(epoch)))
	documents := slices.Clone(c.train)
	rng.Shuffle(len(documents), func(i, j int) { documents[i], documents[j] = documents[j], documents[i] })
	stream := c.join(documents)
	c.order = c.order[:0]
	for at := 0; at+c.seqLen < len(stream); at += c.seqLen {
		c.order = append(c.order, stream[at:at+c.seqLen+1])
	}
	rng.Shuffle(len(c.order), func(i, j int) { c.order[i], c.order[j] = c.order[j], c.order[i] })
	c.epoch = epoch
}
