package recovery

import (
	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
)

// objective is the loss of one token: KL·divergence + CE·cross-entropy. The divergence is
// KL(teacher ‖ student) of both models' logits over Temperature, times Temperature², so
// that its gradient keeps its size (Hinton et al. 2015, arXiv:1503.02531).
type objective struct {
	kl, ce      float64
	temperature float64
}

func (o *Options) objective() objective {
	switch o.Loss {
	case LossCE:
		return objective{0, 1, 1}
	case LossMix:
		return objective{o.Mix, 1 - o.Mix, o.Temperature}
	}
	return objective{1, 0, o.Temperature}
}

// row computes the loss of one token from the student's logits q and the teacher's p
// (nil where the loss has no divergence), and overwrites q with its gradient. p is
// overwritten too. buf has the capacity of a row.
func (o objective) row(q, p []float32, target int32, buf []float32) float64 {
	loss := 0.0
	buf = buf[:len(q)]
	if o.ce > 0 {
		copy(buf, q)
		loss += o.ce * (kernel.LogSumExp(q) - float64(q[target]))
		kernel.Softmax(buf, 1)
		buf[target]--
	}
	if o.kl == 0 {
		copy(q, buf)
		kernel.Scale(q, float32(o.ce))
		return loss
	}
	t := o.temperature
	kernel.Scale(q, float32(1/t))
	kernel.Scale(p, float32(1/t))
	loss += o.kl * t * t * kernel.KL(p, q, kernel.LogSumExp(p), kernel.LogSumExp(q))
	kernel.Softmax(q, 1)
	kernel.Softmax(p, 1)
	kernel.AddScaled(q, p, -1)
	kernel.Scale(q, float32(o.kl*t))
	if o.ce > 0 {
		kernel.AddScaled(q, buf, float32(o.ce))
	}
	return loss
}

// score is the loss of a model on text: sums over its tokens, or their means once trainer.measure
// has divided them.
type score struct {
	KL     float64 `json:"kl"`   // KL(teacher ‖ model), nats; 0 without a teacher
	Nats   float64 `json:"nats"` // −log p of the text
	Tokens int     `json:"tokens"`
}

// head computes losses and gradients from hidden states, a block of rows of logits at a time,
// so that the logits of a whole batch are never in memory.
type head struct {
	pool             *compute.Pool
	student, teacher *infer.Runner // teacher is nil without one
	rows             int
	q, p             []float32 // logits [rows, vocab]
	bufs             [][]float32
	results          []rowScore
}

type rowScore struct{ loss, kl, nats float64 }

func newHead(pool *compute.Pool, student, teacher *infer.Runner) *head {
	vocab := student.Model().Config.VocabSize
	h := &head{pool: pool, student: student, teacher: teacher, rows: infer.LogitRows(vocab)}
	h.q, h.p = make([]float32, h.rows*vocab), make([]float32, h.rows*vocab)
	h.bufs = make([][]float32, pool.Threads())
	for i := range h.bufs {
		h.bufs[i] = make([]float32, vocab)
	}
	h.results = make([]rowScore, h.rows)
	return h
}

// gradient returns the loss summed over tokens, given the hidden states of the student and of
// the teacher, [tokens, hidden] each, and writes its gradient with respect to the former. visit, which may be nil, receives the
// hidden states and the gradient with respect to their products with the head, a block of rows at a time.
func (h *head) gradient(o objective, grad, hidden, teacher []float32, targets []int32, visit func(hidden, grad []float32, n int)) float64 {
	total := 0.0
	h.each(hidden, teacher, len(targets), o.kl > 0, func(worker, at, i int, q, p []float32) {
		h.results[i].loss = o.row(q, p, targets[at+i], h.bufs[worker])
	}, func(at, n int) {
		d := h.student.Model().Config.HiddenSize
		for _, r := range h.results[:n] {
			total += r.loss
		}
		h.student.HiddenGradient(grad[at*d:(at+n)*d], h.q, hidden[at*d:(at+n)*d], n)
		if visit != nil {
			visit(hidden[at*d:(at+n)*d], h.q[:n*h.student.Model().Config.VocabSize], n)
		}
	})
	return total
}

// measure adds the student's loss to s and the teacher's to t.
func (h *head) measure(s, t *score, hidden, teacher []float32, targets []int32) {
	var ofTeacher []float64
	h.each(hidden, teacher, len(targets), teacher != nil, func(_, at, i int, q, p []float32) {
		lse, target := kernel.LogSumExp(q), targets[at+i]
		r := rowScore{nats: lse - float64(q[target])}
		if p != nil {
			lseP := kernel.LogSumExp(p)
			r.kl = kernel.KL(p, q, lseP, lse)
			r.loss = lseP - float64(p[target])
		}
		h.results[i] = r
	}, func(_, n int) {
		for _, r := range h.results[:n] {
			s.KL += r.kl
			s.Nats += r.nats
			ofTeacher = append(ofTeacher, r.loss)
		}
	})
	s.Tokens += len(targets)
	if teacher != nil {
		for _, nats := range ofTeacher {
			t.Nats += nats
		}
		t.Tokens += len(targets)
	}
}

// each computes logits of both models block by block, calls row for every row of a block,
// in parallel, and then after for the block.
func (h *head) each(hidden, teacher []float32, n int, both bool, row func(worker, at, i int, q, p []float32), after func(at, n int)) {
	c := h.student.Model().Config
	vocab, d := c.VocabSize, c.HiddenSize
	for at := 0; at < n; at += h.rows {
		k := min(h.rows, n-at)
		h.student.Logits(h.q[:k*vocab], hidden[at*d:], k)
		if both {
			h.teacher.Logits(h.p[:k*vocab], teacher[at*h.teacher.Model().Config.HiddenSize:], k)
		}
		h.pool.Run(k, func(worker, i int) {
			var p []float32
			if both {
				p = h.p[i*vocab : (i+1)*vocab]
			}
			row(worker, at, i, h.q[i*vocab:(i+1)*vocab], p)
		})
		after(at, k)
	}
}
