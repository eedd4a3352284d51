package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func open(t testing.TB, o Options) *Trail {
	t.Helper()
	trail, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { trail.Close() })
	return trail
}

// verify checks all files of a trail and returns what was found.
func verify(t testing.TB, dir string) []Verified {
	t.Helper()
	all, err := verifyAll(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func verifyAll(t testing.TB, dir string) ([]Verified, error) {
	t.Helper()
	key, err := ReadKey("", dir)
	if err != nil {
		t.Fatal(err)
	}
	names, err := Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []Verified
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		v, err := Verify(f, key, "")
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, v)
	}
	for i := range all {
		if _, err := (Together{Files: all, Whole: true}).Judge(i, Live(names[i])); err != nil {
			return nil, fmt.Errorf("%s: %w", names[i], err)
		}
	}
	return all, nil
}

// events returns all events in the files of a trail, in order.
func events(t testing.TB, dir string) []Event {
	t.Helper()
	var all []Event
	names, err := Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			line, whole := bytes.CutSuffix(line, []byte("\n"))
			if !whole { // torn
				continue
			}
			e, err := parseLine(line)
			if err != nil {
				t.Fatalf("%s: %v: %s", name, err, line)
			}
			all = append(all, e)
		}
	}
	return all
}

func kinds(all []Event) []Kind {
	var kinds []Kind
	for _, e := range all {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func TestALineIsWrittenInOneWay(t *testing.T) {
	e := Event{
		Seq: 7, Time: time.Unix(1795336536, 1000).UTC(), Kind: KindDecision, User: "ada", Target: `//evil.test/\"<é` + "\x01\x7f\u2028😀", Latency: 12,
		Prev: strings.Repeat("0a", 32), Key: "SHA256:00", Sig: []byte{1, 2, 3, 4},
	}
	line := string(e.appendLine(nil))
	want := `{"seq":7,"time":"2026-11-22T08:35:36.000001Z","kind":"decision","user":"ada","target":"//evil.test/\\\"<\u00e9\u0001\u007f\u2028\ud83d\ude00",` +
		`"latency":12,"prev":"` + e.Prev + `","key":"SHA256:00","sig":"AQIDBA=="}`
	if line != want {
		t.Fatalf("got  %s\nwant %s", line, want)
	}
	back, err := parseLine([]byte(line))
	if diff := cmp.Diff(e, back); err != nil || diff != "" {
		t.Fatalf("%v\n%s", err, diff)
	}
	for name, other := range map[string]string{
		"case of a field":       strings.Replace(line, `"user"`, `"User"`, 1),
		"case of an escape":     strings.Replace(line, `\ud83d`, `\uD83d`, 1),
		"an escape less":        strings.Replace(line, `\u00e9`, "é", 1),
		"an escape more":        strings.Replace(line, `ada`, `\u0061da`, 1),
		"a blank":               strings.Replace(line, `:7`, `: 7`, 1),
		"a blank at the end":    line + " ",
		"two events":            line + line,
		"spare bits of base64":  strings.Replace(line, "BA==", "BB==", 1),
		"no padding":            strings.Replace(line, "BA==", "BA", 1),
		"another order":         strings.Replace(strings.Replace(line, `"seq":7,`, "", 1), `}`, `,"seq":7}`, 1),
		"a field twice":         strings.Replace(line, `"user":"ada"`, `"user":"bob","user":"ada"`, 1),
		"an empty field":        strings.Replace(line, `"user":"ada"`, `"user":"ada","peer":""`, 1),
		"an unknown field":      strings.Replace(line, `"user"`, `"usher":"x","user"`, 1),
		"another zone":          strings.Replace(line, "08:35:36.000001Z", "09:35:36.000001+01:00", 1),
		"time more exact":       strings.Replace(line, ".000001Z", ".0000010Z", 1),
		"a number with a point": strings.Replace(line, ":12", ":12.0", 1),
		"a signature that ends": strings.Replace(line, "AQIDBA==", "AQID\\nBA==", 1),
		"a carriage return":     line + "\r",
		"nothing":               "",
		"no object":             "null",
		"a list":                "[]",
	} {
		if _, err := parseLine([]byte(other)); err == nil || other == line {
			t.Errorf("%s is taken: %s", name, other)
		}
	}
}

func TestATrailIsChainedSignedAndClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		trail := open(t, Options{Dir: filepath.Join(dir, "audit")})
		for i := range 3 {
			if err := trail.Record(t.Context(), Event{Kind: KindDecision, Request: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(checkpointEvery + time.Second) // of the test's clock
		trail.Note(Event{Kind: KindRPC})
		time.Sleep(3 * checkpointEvery) // without anything new: one more checkpoint
		if err := trail.Close(); err != nil {
			t.Fatal(err)
		}
		got := events(t, trail.o.Dir)
		want := []Kind{KindOpen, KindDecision, KindDecision, KindDecision, KindCheckpoint, KindRPC, KindCheckpoint, KindClose}
		if diff := cmp.Diff(want, kinds(got)); diff != "" {
			t.Error(diff)
		}
		all := verify(t, trail.o.Dir)
		if v := all[0]; !v.Closed || v.Lines != 8 || v.Signed != 8 || v.First != 1 || v.Last != 8 {
			t.Errorf("%+v", v)
		}
		if err := trail.Record(t.Context(), Event{}); err != nil {
			t.Errorf("after its end: %v", err)
		}
		if written, lost := trail.Counts(); written != 4 || lost != 1 {
			t.Errorf("%d written, %d lost", written, lost)
		}
	})
}

func TestFilesAreOfOneDayAndOfOneSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight
		dir := t.TempDir()
		trail := open(t, Options{Dir: dir, MaxSize: 2000})
		for range 20 {
			trail.Note(Event{Kind: KindDecision, Detail: strings.Repeat("x", 100)})
			time.Sleep(time.Second)
		}
		time.Sleep(24 * time.Hour)
		trail.Note(Event{Kind: KindDecision})
		time.Sleep(time.Second)
		trail.Close()
		all := verify(t, dir)
		if len(all) < 4 {
			t.Fatalf("%d files", len(all))
		}
		for i, v := range all {
			if i > 0 && (v.After != all[i-1].Name || v.First != all[i-1].Last+1) || !v.Closed || v.Size > 3000 {
				t.Errorf("file %d: %+v", i, v)
			}
		}
		if first, last := all[0].Name, all[len(all)-1].Name; !strings.HasPrefix(first, "2000-01-01-") || !strings.HasPrefix(last, "2000-01-02-") {
			t.Errorf("from %s to %s", first, last)
		}
	})
}

func TestUsernamesCanBeHidden(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // the secret outlives the process
		trail := open(t, Options{Dir: dir, Always: true, Pseudonyms: true})
		for _, e := range []Event{
			{Kind: KindDecision, User: "ada"},
			{Kind: KindRPC, Detail: `"ada" has no session there`},
			{Kind: KindLogout, User: "ada", Detail: "the peer says: ada who?"},
			{Kind: KindAdmin, User: "ada", Detail: "1 sessions"},
		} {
			if err := trail.Record(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		trail.Close()
	}
	hidden, err := OpenPseudonyms(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range events(t, dir) {
		if e.User == "ada" || strings.Contains(e.Detail, "ada") || e.Kind == KindAdmin && e.Detail == "" {
			t.Errorf("%+v", e)
		}
		if e.Kind == KindDecision {
			n++
			if e.User != hidden.Of("ada") || e.User == hidden.Of("bob") || len(e.User) != 37 {
				t.Errorf("user %q", e.User)
			}
		}
	}
	if n != 2 {
		t.Errorf("%d events", n)
	}
	if NewPseudonyms().Of("ada") == hidden.Of("ada") {
		t.Error("anybody can make the pseudonym")
	}
}

func TestWhatThereIsNoRoomForIsCountedAndRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		trail := open(t, Options{Dir: dir})
		trail.mu.Lock() // nothing is written meanwhile
		trail.next.events = make([]Event, queueSize, queueSize+1)
		trail.mu.Unlock()
		for range 5 {
			if err := trail.Record(t.Context(), Event{Kind: KindDecision}); err != nil {
				t.Errorf("a learner is held up: %v", err)
			}
		}
		trail.Close()
		got := events(t, dir)
		if e := got[1]; e.Kind != KindDropped || e.Count != 5 || len(got) != queueSize+3 {
			t.Errorf("%d events, %+v", len(got), e)
		}
		if _, lost := trail.Counts(); lost != 5 {
			t.Errorf("%d lost", lost)
		}
		verify(t, dir)
	})
}

func TestAlwaysMeansOnDisk(t *testing.T) {
	dir := t.TempDir()
	trail := open(t, Options{Dir: dir, Always: true})
	done := make(chan error)
	for i := range 8 {
		go func() {
			for j := range 20 {
				if err := trail.Record(t.Context(), Event{Kind: KindDecision, Request: fmt.Sprint(i, j)}); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := events(t, dir); len(got) != 161 { // with the first line, before anything is closed
		t.Errorf("%d events", len(got))
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := trail.Record(canceled, Event{}); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	trail.Close()
	if err := trail.Record(t.Context(), Event{}); !errors.Is(err, ErrClosed) {
		t.Errorf("after its end: %v", err)
	}
}

func TestADirectoryThatCannotBeWrittenIsSaidOnceAndHeals(t *testing.T) {
	for _, always := range []bool{false, true} {
		t.Run(fmt.Sprintf("always %v", always), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				log := &logLines{}
				trail := open(t, Options{Dir: dir, Always: always, Log: log.logger()})
				synctest.Wait() // its goroutine rests, so that it may be tampered with
				// A file that is not there, in a directory that takes no other.
				gone := dir + "-gone"
				if err := os.Rename(dir, gone); err != nil {
					t.Fatal(err)
				}
				for range 3 {
					if err := trail.Record(t.Context(), Event{Kind: KindDecision}); (err != nil) != always {
						t.Errorf("Record: %v", err)
					}
					time.Sleep(5 * time.Second)
				}
				if !trail.Broken() || log.count("cannot be written") < 1 || log.count("the audit trail cannot be written") != 1 {
					t.Errorf("broken %v: %s", trail.Broken(), log.text())
				}
				if err := os.Rename(gone, dir); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				if trail.Broken() || log.count("written again") != 1 {
					t.Errorf("broken %v: %s", trail.Broken(), log.text())
				}
				if err := trail.Record(t.Context(), Event{Kind: KindDecision, Request: "last"}); err != nil {
					t.Error(err)
				}
				trail.Close()
				got := events(t, dir)
				dropped, decisions := uint64(0), uint64(0)
				for _, e := range got {
					dropped += e.Count
					if e.Kind == KindDecision {
						decisions++
					}
				}
				if dropped+decisions != 4 || dropped == 0 || always && dropped != 3 {
					t.Errorf("%d decisions, %d dropped", decisions, dropped)
				}
			})
		})
	}
}

// TestAFileThatIsNotAsItWasLeftIsNotWrittenOn: what is recorded would be lost
// with it, or part of somebody else's line.
func TestAFileThatIsNotAsItWasLeftIsNotWrittenOn(t *testing.T) {
	for what, tamper := range map[string]func(dir, name string) error{
		"deleted":   func(_, name string) error { return os.Remove(name) },
		"replaced":  func(_, name string) error { return errors.Join(os.Remove(name), os.WriteFile(name, nil, 0o600)) },
		"truncated": func(_, name string) error { return os.Truncate(name, 10) },
		"moved with its directory": func(dir, _ string) error {
			return errors.Join(os.Rename(dir, dir+"-gone"), os.Mkdir(dir, 0o700))
		},
		"longer": func(_, name string) error {
			f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
			if err == nil {
				_, err = f.WriteString("somebody else's")
			}
			return errors.Join(err, f.Close())
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "audit")
			log := &logLines{}
			trail := open(t, Options{Dir: dir, Always: true, Log: log.logger()})
			names, err := Files(dir)
			if err == nil {
				err = tamper(dir, names[0])
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, request := range []string{"first", "second"} {
				if err := trail.Record(t.Context(), Event{Kind: KindDecision, Request: request}); err != nil {
					t.Error(err)
				}
			}
			if trail.Broken() {
				t.Error("it counts as broken")
			}
			trail.Close()
			got := ""
			if err := Read(dir, Filter{Kind: KindDecision}, func(e Event, _ []byte) error { got += e.Request + " "; return nil }, func(error) {}); err != nil {
				t.Fatal(err)
			}
			if got != "first second " || log.count("somebody has") != 1 {
				t.Errorf("recorded: %s\n%s", got, log.text())
			}
		})
	}
}

// TestAFileThatTakesNoMoreIsLeftAsItIs has a disk fill up in the middle of a
// line.
func TestAFileThatTakesNoMoreIsLeftAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		trail := open(t, Options{Dir: dir})
		trail.Note(Event{Kind: KindDecision, Request: "before"})
		time.Sleep(time.Second)
		synctest.Wait() // its goroutine rests, so that it may be tampered with
		old, name := trail.writer.file, filepath.Join(dir, trail.writer.name)
		n, _ := old.WriteString(`{"seq":3,"time":"20`)
		trail.writer.size += int64(n)
		full, err := os.Open(name) // which takes no writes
		if err != nil {
			t.Fatal(err)
		}
		trail.writer.file = full
		trail.Note(Event{Kind: KindDecision, Request: "during"})
		time.Sleep(time.Second)
		trail.Note(Event{Kind: KindDecision, Request: "after"})
		time.Sleep(5 * time.Second)
		trail.Close()
		old.Close()
		want := []Kind{KindOpen, KindDecision, KindOpen, KindTorn, KindDropped, KindDecision, KindClose}
		got := events(t, dir)
		if diff := cmp.Diff(want, kinds(got)); diff != "" {
			t.Fatal(diff)
		}
		if torn := got[3]; torn.Size != 19 || torn.File != filepath.Base(name) || got[2].After != torn.File || got[4].Count != 1 || got[5].Request != "after" {
			t.Errorf("%+v", got)
		}
		verify(t, dir)
	})
}

func TestNamesThatNoGatewayGivesDoNoHarm(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "folder.jsonl"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "\xff\n.jsonl"), []byte("nothing\nof ours"), 0o600); err != nil {
		t.Skip(err) // a file system that takes no such names
	}
	open(t, Options{Dir: dir}).Close()
	if err := os.WriteFile(filepath.Join(dir, "\xff-half a line.jsonl"), []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Dir: dir}).Close()
	names, err := Files(dir)
	if err != nil || len(names) != 4 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		key, err := ReadKey("", dir)
		if err != nil {
			t.Fatal(err)
		}
		if good := !strings.Contains(name, "\xff"); (check(text, key) == nil) != good {
			t.Errorf("%q: %v", name, check(text, key))
		}
	}
}

// logLines is a log that tells what was said.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logLines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logLines) count(what string) int { return strings.Count(l.text(), what) }
