//go:build unix

package web_test

import (
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"jumpgate/gateway/audit"
	"jumpgate/gateway/store"
	"jumpgate/gateway/store/redistest"
	"jumpgate/idp"
)

// BenchmarkAuditedJump makes jumps of a learner who is logged in, in turns with a
// trail and without, and with the token in a redis-server or the embedded one.
// Nothing else is measured that would make the trail look small: no client, no
// connection, no Moodle. An operation is two turns of each, of 2,000 jumps by 4
// at a time; other work of the machine disturbs some, so the metrics are medians.
//
// cpu-% is what the trail adds to the processor time of a jump, with all that is
// done in the background: what it takes from a machine that is busy. time-% is
// what it adds to the time that they take. The redis-server's processor time is
// not in it.
func BenchmarkAuditedJump(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as the gateway has it
	b.Run("redis-server", func(b *testing.B) { auditedJump(b, "unix://"+redistest.Socket(b)) })
	b.Run("embedded", func(b *testing.B) { auditedJump(b, store.Embedded) })
}

func auditedJump(b *testing.B, redis string) {
	const turn = 2000
	trail, _ := newTrail(b, false)
	turns := [2]func(){jumps(b, redis, nil, turn), jumps(b, redis, trail, turn)}
	written, waited := uint64(0), time.Duration(0)
	var busy, took [2][]float64
	one := func(i int) {
		runtime.GC() // which is then no turn's more than the other's
		processor, start := used(b), time.Now()
		turns[i]()
		took[i] = append(took[i], float64(time.Since(start).Nanoseconds())/turn)
		if idle := time.Now(); i == 1 {
			written += turn
			await(trail, written)
			waited = time.Since(idle)
		} else {
			time.Sleep(waited) // which costs something too
		}
		busy[i] = append(busy[i], float64((used(b)-processor).Nanoseconds())/turn)
	}
	one(1)
	one(0)
	busy, took = [2][]float64{}, [2][]float64{} // those were to warm up
	for b.Loop() {
		for _, i := range []int{1, 0, 0, 1} {
			one(i)
		}
	}
	for i := range busy {
		slices.Sort(busy[i])
		slices.Sort(took[i])
	}
	middle := b.N
	b.ReportMetric(took[0][middle], "off-ns/jump")
	b.ReportMetric((took[1][middle]/took[0][middle]-1)*100, "time-%")
	b.ReportMetric(busy[0][middle], "off-cpu-ns/jump")
	b.ReportMetric((busy[1][middle]/busy[0][middle]-1)*100, "cpu-%")
	if _, lost := trail.Counts(); lost > 0 {
		b.Errorf("%d events were dropped, which is cheap", lost)
	}
}

// jumps returns what makes a number of jumps, 4 at a time.
func jumps(b *testing.B, redis string, trail *audit.Trail, n int) func() {
	const workers = 4
	state, err := store.Open(store.Options{Addr: redis})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { state.Close() })
	f := newRecordedFront(b, "http://home.test", trail, func(o *idp.Options) { o.Store = state.Site(o.Site) })
	return func() {
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				for range n / workers {
					r := httptest.NewRequest("GET", "http://home.test/auth/mnet/jump.php?hostid=3&wantsurl=/mod/forum/discuss.php%3Fd%3D12%23p34", nil)
					asAda(r)
					w := httptest.NewRecorder()
					if f.ServeHTTP(w, r); w.Code != 303 {
						b.Error(w.Code, w.Body)
						return
					}
				}
			})
		}
		all.Wait()
		f.log.b.Reset() // or it would grow without end
	}
}

// await waits until a trail has written a number of events.
func await(trail *audit.Trail, n uint64) {
	for written, lost := trail.Counts(); written+lost < n; written, lost = trail.Counts() {
		time.Sleep(20 * time.Millisecond)
	}
}

// used is the processor time of this process.
func used(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
