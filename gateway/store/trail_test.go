package store

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestTheTrailIsShownWithItsHeads(t *testing.T) {
	f := newFixture(t, Options{Addr: ownServer(t).url()})
	if got, err := f.r.Trail(t.Context(), 10); len(got) > 0 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	entries := []TrailEntry{
		{File: "a", Line: []byte(`{"seq":1}`), Hash: "01", Signed: true},
		{File: "a", Line: []byte(`{"seq":2}`), Hash: "02"},
		{File: "a", Line: bytes.Repeat([]byte("x"), maxEntry+1), Hash: "03"},
		{File: "a", Line: []byte(`{"seq":4}`), Hash: "04", Signed: true},
	}
	f.wantTrips(t, 1, func() {
		if err := f.r.AppendTrail(t.Context(), entries); err != nil {
			t.Fatal(err)
		}
	})
	ignore := cmpopts.IgnoreFields(TrailEntry{}, "ID", "Signed")
	want := append([]TrailEntry(nil), entries...)
	want[2].Line = []byte{} // too long
	got, err := f.r.Trail(t.Context(), 10)
	if diff := cmp.Diff(want, got, ignore); diff != "" || err != nil {
		t.Fatalf("%v %s", err, diff)
	}
	after, err := f.r.TrailAfter(t.Context(), got[1].ID, time.Second)
	if diff := cmp.Diff(want[2:], after, ignore); diff != "" || err != nil {
		t.Errorf("after an id: %v %s", err, diff)
	}
	if after, err = f.r.TrailAfter(t.Context(), "", time.Second); len(after) != 4 || err != nil {
		t.Errorf("from the beginning: %v, %v", after, err)
	}
	if after, err = f.r.TrailAfter(t.Context(), got[3].ID, 10*time.Millisecond); len(after) > 0 || err != nil {
		t.Errorf("nothing comes: %v, %v", after, err)
	}
	heads, err := f.r.TrailHeads(t.Context(), 10)
	if err != nil || len(heads) != 2 || heads[0].Hash != "01" || heads[1].Hash != "04" {
		t.Errorf("heads %v, %v", heads, err)
	}

	many := make([]TrailEntry, 1000)
	for i := range many {
		many[i] = TrailEntry{File: "b", Line: fmt.Appendf(nil, "%d", i), Hash: "00"}
	}
	for range 12 {
		if err := f.r.AppendTrail(t.Context(), many); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.r.client.XLen(t.Context(), streamTrail).Val(); n < maxTrail || n > maxTrail+1000 {
		t.Errorf("%d lines are kept", n)
	}
}

func BenchmarkAppendTrail(b *testing.B) {
	f := newFixture(b, Options{Addr: ownServer(b).url()})
	many := make([]TrailEntry, 100)
	for i := range many {
		many[i] = TrailEntry{File: "2026-11-22-abcdefghij-1.jsonl", Line: bytes.Repeat([]byte("x"), 700), Hash: fmt.Sprintf("%064x", i)}
	}
	for b.Loop() {
		if err := f.r.AppendTrail(context.Background(), many); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(many)), "ns/line")
}
