package serve

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"afmq/pkg/batch"
)

// metrics are the counters of a server.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	queued   prometheus.Histogram
	first    prometheus.Histogram
	perToken prometheus.Histogram
	handler  http.Handler
}

func newMetrics(e *batch.Engine) *metrics {
	buckets := prometheus.ExponentialBuckets(0.001, 2, 18) // 1 ms to 131 s
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "afmq_requests_total", Help: "Requests by path, model and status.",
		}, []string{"path", "model", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "afmq_request_seconds", Help: "Time from the request to the end of the answer.", Buckets: buckets,
		}, []string{"path"}),
		queued: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "afmq_queue_seconds", Help: "Time that a sequence waited before it ran.", Buckets: buckets,
		}),
		first: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "afmq_time_to_first_token_seconds", Help: "Time from the arrival of a sequence to its first token.", Buckets: buckets,
		}),
		perToken: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "afmq_time_per_token_seconds", Help: "Mean time of a sequence's tokens after the first.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18),
		}),
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.requests, m.seconds, m.queued, m.first, m.perToken,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), engineCollector{e})
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return m
}

// serve answers GET /metrics.
func (m *metrics) serve(w http.ResponseWriter, r *http.Request) error {
	m.handler.ServeHTTP(w, r)
	return nil
}

// observation is what is known of a request at its end.
type observation struct {
	path  string
	model string
	begun time.Time
}

type observationKey struct{}

// observe returns the observation of a request.
func observe(r *http.Request) *observation {
	if o, ok := r.Context().Value(observationKey{}).(*observation); ok {
		return o
	}
	return &observation{}
}

func (m *metrics) observe(o *observation, status int) {
	m.requests.WithLabelValues(o.path, o.model, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(o.path).Observe(time.Since(o.begun).Seconds())
}

// observe records the times of the answers.
func (g *generation) observe() {
	m := g.server.metrics
	for _, c := range g.choices {
		r := c.result
		m.queued.Observe(r.Queued.Seconds())
		if n := len(r.Tokens); n > 0 {
			m.first.Observe((r.Queued + r.Reading).Seconds())
			if n > 1 {
				m.perToken.Observe(r.Writing.Seconds() / float64(n-1))
			}
		}
	}
}

// engineCollector exports the counters of an engine.
type engineCollector struct{ e *batch.Engine }

var (
	sequencesDesc = prometheus.NewDesc("afmq_sequences", "Sequences that run or wait.", []string{"state"}, nil)
	endedDesc     = prometheus.NewDesc("afmq_sequences_ended_total", "Sequences that finished, or were cancelled.", []string{"how"}, nil)
	refusedDesc   = prometheus.NewDesc("afmq_refused_total", "Requests that were refused because too many were waiting.", nil, nil)
	tokensDesc    = prometheus.NewDesc("afmq_tokens_total", "Tokens of prompts that were computed, of prompts that were cached, and generated.", []string{"kind"}, nil)
	passesDesc    = prometheus.NewDesc("afmq_passes_total", "Forward passes.", nil, nil)
	bytesDesc     = prometheus.NewDesc("afmq_kv_bytes", "Memory of keys and values, of running sequences and kept of finished ones.", []string{"of"}, nil)
)

// Describe implements [prometheus.Collector].
func (c engineCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements [prometheus.Collector].
func (c engineCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.e.Stats()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(sequencesDesc, float64(s.Running), "running")
	gauge(sequencesDesc, float64(s.Waiting), "waiting")
	count(endedDesc, s.Finished, "finished")
	count(endedDesc, s.Cancelled, "cancelled")
	count(refusedDesc, s.Refused)
	count(tokensDesc, s.PromptTokens, "prompt")
	count(tokensDesc, s.CachedTokens, "cached")
	count(tokensDesc, s.GeneratedTokens, "generated")
	count(passesDesc, s.Passes)
	gauge(bytesDesc, float64(s.CacheBytes), "running")
	gauge(bytesDesc, float64(s.PrefixBytes), "kept")
}
