//go:build unix

package web_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"syscall"
	"testing"
	"time"

	"jumpgate/gateway/audit"
)

// BenchmarkAuditedJump makes jumps of a learner who is logged in, over a
// connection as browsers have one and with the token in the embedded Redis, in
// turns with a trail and without. An operation is two turns of each, of 1,000
// jumps; other work of the machine disturbs some, so the metrics are medians.
//
// cpu-% is what the trail adds to the processor time of a jump, with all that is
// done in the background: what it takes from a machine that is busy. time-% is
// what it adds to the time that a learner waits.
func BenchmarkAuditedJump(b *testing.B) {
	const turn = 1000
	trail, _ := newTrail(b, false)
	turns := [2]func(){jumps(b, nil, turn), jumps(b, trail, turn)}
	written, waited := uint64(0), time.Duration(0)
	var busy, took [2][]float64
	one := func(i int) {
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
	b.ReportMetric(took[1][middle], "on-ns/jump")
	b.ReportMetric((took[1][middle]/took[0][middle]-1)*100, "time-%")
	b.ReportMetric(busy[0][middle], "off-cpu-ns/jump")
	b.ReportMetric((busy[1][middle]/busy[0][middle]-1)*100, "cpu-%")
}

// jumps returns what makes a number of jumps, one after the other.
func jumps(b *testing.B, trail *audit.Trail, n int) func() {
	f := newRecordedFront(b, "http://home.test", trail)
	server := httptest.NewServer(f)
	b.Cleanup(server.Close)
	r, err := http.NewRequest("GET", server.URL+"/auth/mnet/jump.php?hostid=3&wantsurl=/mod/forum/discuss.php%3Fd%3D12%23p34", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Host = "home.test"
	asAda(r)
	client := server.Client().Transport
	return func() {
		for range n {
			res, err := client.RoundTrip(r)
			if err != nil || res.StatusCode != 303 {
				b.Fatal(res, err)
			}
			res.Body.Close()
		}
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
