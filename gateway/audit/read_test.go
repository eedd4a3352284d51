package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// several writes the trails of two processes that take turns over three days,
// and returns their directory.
func several(t *testing.T) string {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		trails := []*Trail{open(t, Options{Dir: dir}), open(t, Options{Dir: dir})}
		for i := range 12 {
			e := Event{Kind: KindDecision, Request: fmt.Sprint(i), User: []string{"ada", "bob", "eve"}[i%3], Peer: "https://sp.test", Decision: Allow, Rule: "path"}
			if i%4 == 3 {
				e.Decision, e.Rule = Refuse, "opaque"
			}
			trails[i%2].Note(e)
			time.Sleep(6 * time.Hour)
		}
		for _, trail := range trails {
			trail.Close()
		}
	})
	return dir
}

func requests(t *testing.T, dir string, f Filter) []string {
	t.Helper()
	var got []string
	err := Read(dir, f, func(e Event, line []byte) error {
		if string(e.appendLine(nil)) != string(line) {
			t.Errorf("the line of %+v is %s", e, line)
		}
		if e.Request != "" {
			got = append(got, e.Request)
		}
		return nil
	}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestEventsAreReadInTheOrderOfTime(t *testing.T) {
	dir := several(t)
	day := func(hours int) time.Time {
		return time.Date(2000, 1, 1, hours, 0, 0, 0, time.UTC)
	}
	for _, test := range []struct {
		name   string
		filter Filter
		want   []string
	}{
		{"all", Filter{}, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"}},
		{"from a time", Filter{Since: day(48)}, []string{"8", "9", "10", "11"}},
		{"before a time", Filter{Until: day(12)}, []string{"0", "1"}},
		{"of a time", Filter{Since: day(12), Until: day(30)}, []string{"2", "3", "4"}},
		{"of a user", Filter{User: "eve"}, []string{"2", "5", "8", "11"}},
		{"of a rule", Filter{Rule: "opaque"}, []string{"3", "7", "11"}},
		{"of a decision and a user", Filter{Decision: Refuse, User: "ada"}, []string{"3"}},
		{"of a request", Filter{Request: "4"}, []string{"4"}},
		{"of another peer", Filter{Peer: "https://other.test"}, nil},
		{"of a kind", Filter{Kind: KindRPC}, nil},
	} {
		if diff := cmp.Diff(test.want, requests(t, dir, test.filter)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

func TestWhatCannotBeReadIsSaidAndLeftOut(t *testing.T) {
	dir := t.TempDir()
	good := Event{Seq: 1, Time: time.Unix(0, 0), Kind: KindDecision, Request: "good"}
	text := append(good.appendLine(nil), "\n{}\n"...)
	text = append(good.appendLine(text), '\n')
	text = append(text, "{half a line"...)
	if err := os.WriteFile(filepath.Join(dir, "1970-01-01-x-1.jsonl"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	n, faults := 0, 0
	err := Read(dir, Filter{}, func(Event, []byte) error { n++; return nil }, func(error) { faults++ })
	if err != nil || n != 2 || faults != 1 {
		t.Errorf("%d events, %d faults, %v", n, faults, err)
	}
	stop := errors.New("stop")
	if err := Read(dir, Filter{}, func(Event, []byte) error { return stop }, nil); err != stop {
		t.Error(err)
	}
}

func TestATrailIsFollowed(t *testing.T) {
	dir := several(t)
	follow := func(n int, f Filter) []string {
		var got []string
		err := Follow(t.Context(), dir, f, n, false, func(e Event, _ []byte) error {
			got = append(got, e.Request)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return got
	}
	if diff := cmp.Diff([]string{"9", "10", "11"}, follow(3, Filter{Kind: KindDecision})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"3", "7", "11"}, follow(3, Filter{Rule: "opaque"})); diff != "" {
		t.Error(diff)
	}
	if got := follow(0, Filter{}); len(got) > 0 {
		t.Error(got)
	}
	synctest.Test(t, func(t *testing.T) {
		trail := open(t, Options{Dir: dir})
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan string, 10)
		ended := make(chan error)
		go func() {
			ended <- Follow(ctx, dir, Filter{Kind: KindDecision}, 1, true, func(e Event, _ []byte) error {
				got <- e.Request
				return nil
			})
		}()
		synctest.Wait()
		for i := range 3 {
			trail.Note(Event{Kind: KindDecision, Request: fmt.Sprint("new", i)})
			time.Sleep(time.Second)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		close(got)
		var all []string
		for request := range got {
			all = append(all, request)
		}
		if diff := cmp.Diff([]string{"11", "new0", "new1", "new2"}, all); diff != "" {
			t.Error(diff)
		}
		trail.Close()
	})
}

func TestOldFilesAreDeletedWhole(t *testing.T) {
	dir := several(t)
	synctest.Test(t, func(t *testing.T) { // it is the first day again, and this file is in use
		trail := open(t, Options{Dir: dir})
		before, err := Files(dir)
		if err != nil {
			t.Fatal(err)
		}
		pruned, err := Prune(dir, time.Date(2000, 1, 3, 0, 0, 0, 0, time.UTC))
		if err != nil || len(pruned) != 4 {
			t.Errorf("%q, %v", pruned, err)
		}
		after, err := Files(dir)
		if err != nil || len(after) != len(before)-4 {
			t.Errorf("%d files of %d are left: %v", len(after), len(before), err)
		}
		for _, name := range after {
			if day := Day(name).Day(); day < 3 && filepath.Base(name) != trail.writer.name {
				t.Errorf("%s is left", name)
			}
		}
	})
}
