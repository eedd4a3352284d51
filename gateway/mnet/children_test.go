package mnet

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"jumpgate/gateway"
)

var (
	testSite  = mustWwwroot("https://home.test")
	testForum = mustWwwroot("https://forum.test")
	testOther = mustWwwroot("https://other.test")
)

func mustWwwroot(s string) gateway.Wwwroot {
	w, err := gateway.ParseWwwroot(s)
	if err != nil {
		panic(err)
	}
	return w
}

// outcomes keeps what a Children tells.
type outcomes struct {
	mu  sync.Mutex
	all []Logout
}

func (o *outcomes) keep(l Logout) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, l)
}

func (o *outcomes) count(outcome string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range o.all {
		if l.Outcome == outcome {
			n++
		}
	}
	return n
}

var errDead = errors.New("connection refused")

func TestWhatAPeerAnswersIsFinalOrTriedAgain(t *testing.T) {
	type answers []func() (Value, error)
	value := func(v Value) func() (Value, error) { return func() (Value, error) { return v, nil } }
	failure := func(err error) func() (Value, error) { return func() (Value, error) { return nil, err } }
	dead := failure(errDead)
	for _, test := range []struct {
		name    string
		answers answers
		want    string
		tries   int
		took    time.Duration
	}{
		{"it ended", answers{value(true)}, OutcomeEnded, 1, 0},
		{"it ended, as a number", answers{value(1)}, OutcomeEnded, 1, 0},
		{"it ended, as text", answers{value("1")}, OutcomeEnded, 1, 0},
		{"there is none", answers{value(false)}, OutcomeNone, 1, 0},
		{"there is none, as null", answers{value("")}, OutcomeNone, 1, 0},
		{"it may not be called", answers{failure(&Fault{Code: FaultNoMethod})}, OutcomeRefused, 1, 0},
		{"it may not be called, says anybody", answers{failure(&Fault{Code: FaultNoMethod, Unauthenticated: true}), value(true)}, OutcomeEnded, 2, time.Second},
		{"it failed inside", answers{failure(&Fault{Code: FaultOther}), value(true)}, OutcomeEnded, 2, time.Second},
		{"dead for a moment", answers{dead, dead, dead, value(true)}, OutcomeEnded, 4, 36 * time.Second},
		{"dead", answers{dead, dead, dead, dead, dead}, OutcomeFailed, 5, 156 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told outcomes
				c := NewChildren(told.keep, KillPauses)
				n := 0
				start := time.Now()
				c.End(Logout{Site: testSite, At: testForum}, func(context.Context) (Value, error) {
					n++
					return test.answers[n-1]()
				})
				c.Wait()
				if len(told.all) != 1 {
					t.Fatalf("told %+v", told.all)
				}
				l := told.all[0]
				if l.Outcome != test.want || l.Tries != test.tries || l.Took != test.took || time.Since(start) != test.took {
					t.Errorf("got %+v after %s, want %s after %d tries and %s", l, time.Since(start), test.want, test.tries, test.took)
				}
				if (l.Err != nil) == l.Done() {
					t.Errorf("done %t with error %v", l.Done(), l.Err)
				}
			})
		})
	}
}

func TestAPeerThatHangsHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told outcomes
		c := NewChildren(told.keep, nil)
		var at, most atomic.Int32
		for range maxChildren + 3 {
			c.End(Logout{Site: testSite, At: testForum}, func(ctx context.Context) (Value, error) {
				most.Store(max(most.Load(), at.Add(1)))
				defer at.Add(-1)
				<-ctx.Done() // as a peer does that takes connections and no more
				return nil, ctx.Err()
			})
		}
		for range 20 {
			c.End(Logout{Site: testSite, At: testOther}, func(context.Context) (Value, error) { return true, nil })
		}
		synctest.Wait()
		if n := told.count(OutcomeEnded); n != 20 {
			t.Errorf("%d ended elsewhere", n)
		}
		if n := told.count(OutcomeDropped); n != 3 {
			t.Errorf("%d dropped", n)
		}
		start := time.Now()
		c.Wait()
		if took := time.Since(start); took != maxChildren/maxCalls*killTime {
			t.Errorf("all took %s", took)
		}
		if n := told.count(OutcomeFailed); n != maxChildren || most.Load() != maxCalls {
			t.Errorf("%d failed, %d at once", n, most.Load())
		}
		if len(c.peers) != 0 {
			t.Errorf("%d queues are left", len(c.peers))
		}
	})
}

func TestCloseTriesOnceMoreAndEndsInTime(t *testing.T) {
	for _, test := range []struct {
		name  string
		kill  func(context.Context, int) (Value, error)
		want  string
		tries int
		took  time.Duration
	}{
		{"a peer that is back", func(_ context.Context, n int) (Value, error) {
			if n == 1 {
				return nil, errDead
			}
			return true, nil
		}, OutcomeEnded, 2, 0},
		{"a dead peer", func(context.Context, int) (Value, error) { return nil, errDead }, OutcomeFailed, 2, 0},
		{"a peer that hangs", func(ctx context.Context, _ int) (Value, error) { <-ctx.Done(); return nil, ctx.Err() }, OutcomeFailed, 1, 3 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told outcomes
				c := NewChildren(told.keep, KillPauses)
				n := 0
				c.End(Logout{Site: testSite, At: testForum}, func(ctx context.Context) (Value, error) { n++; return test.kill(ctx, n) })
				synctest.Wait()
				start := time.Now()
				limited, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				c.Close(limited)
				if took := time.Since(start); took != test.took {
					t.Errorf("took %s", took)
				}
				c.End(Logout{Site: testSite, At: testForum}, nil)
				if len(told.all) != 2 || told.all[0].Outcome != test.want || told.all[0].Tries != test.tries || told.all[1].Outcome != OutcomeDropped {
					t.Errorf("told %+v", told.all)
				}
			})
		})
	}
}
