package eval

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"afmq/pkg/fault"
)

func TestWindows(t *testing.T) {
	for _, tt := range []struct {
		name string
		opts ScoreOptions
		n    int
		want []window // nil for an error
	}{
		{"chunk, whole windows", ScoreOptions{Protocol: Chunk, Ctx: 4}, 8, []window{{0, 4, 1}, {4, 8, 1}}},
		{"chunk, a last window of one token is dropped", ScoreOptions{Protocol: Chunk, Ctx: 4}, 9, []window{{0, 4, 1}, {4, 8, 1}}},
		{"chunk, a last window of two tokens is kept", ScoreOptions{Protocol: Chunk, Ctx: 4}, 10, []window{{0, 4, 1}, {4, 8, 1}, {8, 10, 1}}},
		{"chunk, shorter than a window", ScoreOptions{Protocol: Chunk, Ctx: 4}, 2, []window{{0, 2, 1}}},
		{"chunk, one token", ScoreOptions{Protocol: Chunk, Ctx: 4}, 1, nil},
		{"chunk, nothing", ScoreOptions{Protocol: Chunk, Ctx: 4}, 0, nil},
		{"llamacpp, even context", ScoreOptions{Protocol: LlamaCpp, Ctx: 4}, 11, []window{{0, 4, 3}, {4, 8, 3}}},
		{"llamacpp, odd context", ScoreOptions{Protocol: LlamaCpp, Ctx: 5}, 10, []window{{0, 5, 3}, {5, 10, 3}}},
		{"llamacpp, too short", ScoreOptions{Protocol: LlamaCpp, Ctx: 4}, 7, nil},
		{"stride", ScoreOptions{Protocol: Stride, Ctx: 4, Stride: 2}, 9, []window{{0, 4, 1}, {2, 6, 2}, {4, 8, 2}, {6, 9, 2}}},
		{"stride, exact end", ScoreOptions{Protocol: Stride, Ctx: 4, Stride: 2}, 8, []window{{0, 4, 1}, {2, 6, 2}, {4, 8, 2}}},
		{"stride of one", ScoreOptions{Protocol: Stride, Ctx: 3, Stride: 1}, 5, []window{{0, 3, 1}, {1, 4, 2}, {2, 5, 2}}},
		{"stride, shorter than a window", ScoreOptions{Protocol: Stride, Ctx: 8, Stride: 3}, 5, []window{{0, 5, 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.opts.windows(tt.n)
			if (err != nil) != (tt.want == nil) {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(window{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestStrideScoresEachTokenOnce holds the protocol's promise over many shapes:
// every token but the first is scored exactly once, and always has a predecessor.
func TestStrideScoresEachTokenOnce(t *testing.T) {
	for n := 2; n < 40; n++ {
		for ctx := 2; ctx < 12; ctx++ {
			for stride := 1; stride < ctx; stride++ {
				o := ScoreOptions{Protocol: Stride, Ctx: ctx, Stride: stride}
				windows, err := o.windows(n)
				if err != nil {
					t.Fatal(err)
				}
				next := 1
				for _, w := range windows {
					if w.start+w.score != next || w.score < 1 || w.len() > ctx || w.scored() < 1 {
						t.Fatalf("n %d, ctx %d, stride %d: window %v does not go on at token %d", n, ctx, stride, w, next)
					}
					next = w.end
				}
				if next != n {
					t.Fatalf("n %d, ctx %d, stride %d: scored up to %d", n, ctx, stride, next)
				}
			}
		}
	}
}

func TestEvalOptionsAreChecked(t *testing.T) {
	for _, o := range []ScoreOptions{
		{Protocol: Chunk, Ctx: 1},
		{Protocol: Chunk, Ctx: 101},
		{Protocol: LlamaCpp, Ctx: 2},
		{Protocol: Stride, Ctx: 10, Stride: 10},
		{Protocol: Stride, Ctx: 10, Stride: -1},
		{Protocol: Chunk, Ctx: 10, Stride: 5},
	} {
		if err := o.check(100); fault.KindOf(err) != fault.Usage {
			t.Errorf("%+v: error %v is not a usage error", o, err)
		}
	}
	for _, o := range []ScoreOptions{{Protocol: Chunk, Ctx: 100}, {Protocol: LlamaCpp, Ctx: 3}, {Protocol: Stride, Ctx: 2, Stride: 1}} {
		if err := o.check(100); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := ParseProtocol("wikitext"); fault.KindOf(err) != fault.Usage {
		t.Errorf("an unknown protocol gives %v", err)
	}
}
