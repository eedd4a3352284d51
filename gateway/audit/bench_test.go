package audit

import (
	"strings"
	"testing"
)

// BenchmarkWrite writes events of the usual size, 100 at once: all that an event
// costs but for the lock under which it is queued.
func BenchmarkWrite(b *testing.B) {
	trail := open(b, Options{Dir: b.TempDir()})
	e := Event{
		Kind: KindDecision, Site: "https://home.test", Request: "0123456789abcdef", Client: "192.0.2.1", Step: "jump", User: "ada", Peer: "https://sp.test",
		Target: "/mod/forum/discuss.php?d=12#p34", Decision: Allow, Rule: "path", Outcome: "landed", Issuer: "gateway", Latency: 123,
		URL: "https://sp.test/auth/mnet/land.php?token=sha256:" + strings.Repeat("a", 64) + "&idp=https://home.test&wantsurl=%2Fmod%2Fforum", Token: strings.Repeat("a", 64),
	}
	trail.Close()
	w := newWriter(trail.o, trail.key, "bench")
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		batch := make([]Event, 100)
		for i := range batch {
			batch[i] = e
		}
		if lost, err := w.add(batch, nil); lost > 0 || err != nil {
			b.Fatal(lost, err)
		}
		n += len(batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
	if err := w.finish("the end"); err != nil {
		b.Fatal(err)
	}
}
