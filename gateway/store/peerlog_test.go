package store

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestALogGrowsAtItsEnd(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		if err := scriptPeerLog.Load(t.Context(), f.r.client).Err(); err != nil {
			t.Fatal(err)
		}
		full := LogRecord{
			Time: 1795336536, Username: "ada", IP: "2001:db8::1", Course: "Deep course", Module: "forum",
			Action: "view discussion", URL: "discuss.php?d=12", Info: "ünïcode",
		}
		f.wantTrips(t, 1, func() {
			if err := f.AppendLog(t.Context(), peer, []LogRecord{full, {Username: "bob"}}); err != nil {
				t.Fatal(err)
			}
		})
		if err := f.AppendLog(t.Context(), otherPeer, []LogRecord{{Username: "elsewhere"}}); err != nil {
			t.Fatal(err)
		}
		f.clock.advance(time.Second)
		if err := f.AppendLog(t.Context(), peer, []LogRecord{full}); err != nil {
			t.Fatal(err)
		}
		f.wantTrips(t, 0, func() {
			if err := f.AppendLog(t.Context(), peer, nil); err != nil {
				t.Fatal(err)
			}
		})
		for n, want := range map[int][]LogRecord{
			0: nil, -1: nil, 1: {full}, 2: {{Username: "bob"}, full}, 100: {full, {Username: "bob"}, full},
		} {
			got, err := f.again().Log(t.Context(), peer, n)
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(LogRecord{}, "Received")); diff != "" || err != nil {
				t.Errorf("the last %d, %v (-want +got):\n%s", n, err, diff)
			}
		}
		got, _ := f.Log(t.Context(), peer, 3)
		if age := got[2].Received.Sub(got[0].Received); age < time.Second || got[0].Received != got[1].Received {
			t.Errorf("received %v", got)
		}
		if ttl := f.r.client.PTTL(t.Context(), f.key(kindPeerLog, peer.String())).Val(); ttl > ReportLife || ttl < ReportLife-time.Minute {
			t.Errorf("kept for %s", ttl)
		}
	})
}

func TestALogKeepsItsLast10000Records(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		for batch := range 4 {
			records := make([]LogRecord, 3000)
			for i := range records {
				records[i] = LogRecord{Time: int64(batch*3000 + i), Username: "ada"}
			}
			if err := f.AppendLog(t.Context(), peer, records); err != nil {
				t.Fatal(err)
			}
		}
		got, err := f.Log(t.Context(), peer, 20_000)
		if err != nil || len(got) != 10_000 || got[0].Time != 2000 || got[9999].Time != 11_999 {
			t.Errorf("%d records, %v", len(got), err)
		}
		if err := f.AppendLog(t.Context(), otherPeer, make([]LogRecord, 12_000)); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Log(t.Context(), otherPeer, 20_000); err != nil || len(got) != 10_000 {
			t.Errorf("%d records of one call, %v", len(got), err)
		}
	})
}

// go-redis sends a command again whose answer was lost.
func TestALostAnswerDoublesNoRecord(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		key := []string{f.key(kindPeerLog, peer.String())}
		for _, records := range [][]any{{`{"time":1}`, `{"time":2}`}, {`{"time":1}`, `{"time":2}`}, {`{"time":3}`}} {
			if err := scriptPeerLog.Run(t.Context(), f.r.client, key, append([]any{maxLogged, 1000}, records...)...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		got, err := f.Log(t.Context(), peer, 10)
		if diff := cmp.Diff([]LogRecord{{Time: 1}, {Time: 2}, {Time: 3}}, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}

func TestLongTextsOfALogAreCut(t *testing.T) {
	f := newFixture(t, Options{Addr: Embedded})
	long := strings.Repeat("é", 1000)
	if err := f.AppendLog(t.Context(), peer, []LogRecord{{Username: "ada", IP: long, Course: long, Module: long, Action: long, URL: long, Info: long}}); err != nil {
		t.Fatal(err)
	}
	got, err := f.Log(t.Context(), peer, 1)
	if err != nil {
		t.Fatal(err)
	}
	cut := func(n int) string { return strings.Repeat("é", n) }
	want := []LogRecord{{Username: "ada", IP: cut(45), Course: cut(40), Module: cut(20), Action: cut(40), URL: cut(255), Info: cut(255)}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(LogRecord{}, "Received")); diff != "" {
		t.Error(diff)
	}
}

func TestALogRecordTakesNoMoreThanItsPart(t *testing.T) {
	username := strings.Repeat("\x01", maxUsername)
	for name, text := range map[string]string{"what HTML would write": "<", "what JSON writes": "\x01", "four bytes": "\U0001f600"} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Options{Addr: Embedded})
			long := strings.Repeat(text, 255)
			if err := f.AppendLog(t.Context(), peer, []LogRecord{{Username: username, URL: long, Info: long}}); err != nil {
				t.Fatal(err)
			}
			line := f.r.client.LIndex(t.Context(), f.key(kindPeerLog, peer.String()), 0).Val()
			got, err := f.Log(t.Context(), peer, 1)
			if err != nil || len(line) > 2<<10 || got[0].Username != username || strings.Contains(line, "u003c") {
				t.Errorf("%d bytes: %s, %v", len(line), line, err)
			}
		})
	}
}
