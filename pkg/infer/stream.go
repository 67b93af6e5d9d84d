package infer

import (
	"context"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// Stream is a model on disk of which a part is in memory at a time, for a [Walk]: the embedding
// before it, the head after it, and each layer while the walk is there. A part is read again each
// time that it is loaded.
type Stream struct {
	// Model has the parts that are loaded; the others are nil.
	Model *Model

	pool  *compute.Pool
	done  func() // ends the pool, if it is the stream's own
	ckpt  *safetensors.Checkpoint
	parts map[int][]weightLoad // by layer
	ends  map[model.Role][]weightLoad
}

// OpenStream opens the checkpoint in dir for reading part by part. It checks what [Open] checks,
// except for the values, which are checked when they are loaded.
func OpenStream(dir string, opts OpenOptions) (s *Stream, err error) {
	cfg, err := model.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	s = &Stream{
		Model: &Model{Dir: dir, Config: cfg, Blocks: make([]Block, cfg.Layers)},
		parts: map[int][]weightLoad{}, ends: map[model.Role][]weightLoad{},
	}
	if s.ckpt, err = safetensors.OpenCheckpoint(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.ckpt.Close()
		}
	}()
	w := &weightReader{dir: dir, cfg: cfg, finder: artifact.NewTensorFinder(dir, s.ckpt, cfg)}
	for _, spec := range cfg.Tensors() {
		l, err := s.Model.weight(w, spec)
		if err != nil {
			return nil, err
		}
		if spec.Layer >= 0 {
			s.parts[spec.Layer] = append(s.parts[spec.Layer], l)
		} else {
			s.ends[spec.Role] = append(s.ends[spec.Role], l)
		}
	}
	if err := w.finder.CheckUnused(); err != nil {
		return nil, err
	}
	s.pool, s.done = compute.Workers(opts.Pool, opts.Threads)
	return s, nil
}

// Close closes the files. What is loaded stays valid.
func (s *Stream) Close() {
	s.done()
	s.ckpt.Close()
}

// LoadEmbedding loads the embedding.
func (s *Stream) LoadEmbedding(ctx context.Context) error {
	return s.load(ctx, s.ends[model.Embedding])
}

// DropEmbedding drops the embedding.
func (s *Stream) DropEmbedding() { s.Model.Embedding = nil }

// LoadHead loads the final norm and the head.
func (s *Stream) LoadHead(ctx context.Context) error {
	if err := s.load(ctx, append(s.ends[model.Norm], s.ends[model.Head]...)); err != nil {
		return err
	}
	if s.Model.Config.TieEmbeddings {
		if err := s.LoadEmbedding(ctx); err != nil {
			return err
		}
		s.Model.Head, s.Model.Embedding = s.Model.Embedding, nil
	}
	return nil
}

// DropHead drops the head. The final norm stays.
func (s *Stream) DropHead() { s.Model.Head = nil }

// LoadLayer loads a layer.
func (s *Stream) LoadLayer(ctx context.Context, layer int) error {
	return s.load(ctx, s.parts[layer])
}

// DropLayer drops a layer.
func (s *Stream) DropLayer(layer int) { s.Model.Blocks[layer] = Block{} }

// LayerBytes returns the bytes of the stored tensors of the largest layer.
func (s *Stream) LayerBytes() (most int64) {
	for _, loads := range s.parts {
		most = max(most, storedBytes(loads))
	}
	return most
}

// EndBytes returns the bytes of the embedding or of the head as stored, whichever is larger.
func (s *Stream) EndBytes() int64 {
	return max(storedBytes(s.ends[model.Embedding]), storedBytes(s.ends[model.Head]))
}

func storedBytes(loads []weightLoad) (n int64) {
	for _, l := range loads {
		for _, t := range l.tensors {
			n += int64(len(t.Bytes()))
		}
	}
	return n
}

// load packs tensors.
func (s *Stream) load(ctx context.Context, loads []weightLoad) error {
	errs := make([]error, len(loads))
	s.pool.Run(len(loads), func(_, i int) {
		if errs[i] = ctx.Err(); errs[i] == nil {
			errs[i] = safetensors.Guard(loads[i].tensors[0].Path(), loads[i].pack)
		}
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
