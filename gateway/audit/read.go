package audit

import (
	"container/heap"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Filter says which events are wanted. The zero Filter wants all.
type Filter struct {
	Since, Until time.Time // from and before; zero for any time
	Kind         Kind
	User         string
	Hidden       string // the pseudonym of User, where usernames were hidden once
	Peer         string
	Rule         string
	Decision     string
	Request      string
}

// Wants reports whether an event is wanted.
func (f *Filter) Wants(e *Event) bool {
	is := func(got, want string) bool { return want == "" || got == want }
	return !e.Time.Before(f.Since) && (f.Until.IsZero() || e.Time.Before(f.Until)) &&
		is(string(e.Kind), string(f.Kind)) && (is(e.User, f.User) || f.Hidden != "" && e.User == f.Hidden) &&
		is(e.Peer, f.Peer) && is(e.Rule, f.Rule) && is(e.Decision, f.Decision) && is(e.Request, f.Request)
}

// Read calls each with the events in dir that are wanted, of all processes, in
// the order of time, and with the line that an event was read from, until the
// next call. It reads the files of one day at a time, line by line. bad is told
// of lines that cannot be read, which are left out; a last line that is not
// whole is none.
func Read(dir string, f Filter, each func(Event, []byte) error, bad func(error)) error {
	names, err := Files(dir)
	if err != nil {
		return err
	}
	wants := f.Wants
	for len(names) > 0 {
		day := Day(names[0])
		n := 1
		for n < len(names) && Day(names[n]).Equal(day) {
			n++
		}
		today := names[:n]
		names = names[n:]
		// What is recorded at midnight may be in the file of the day before.
		if !day.IsZero() && (day.Add(25*time.Hour).Before(f.Since) || !f.Until.IsZero() && day.Add(-time.Hour).After(f.Until)) {
			continue
		}
		if err := merge(today, wants, each, bad); err != nil {
			return err
		}
	}
	return nil
}

// Day returns the day that a file is of, by its name; zero if it has none.
func Day(name string) time.Time {
	base := filepath.Base(name)
	if len(base) < len(time.DateOnly) {
		return time.Time{}
	}
	day, err := time.Parse(time.DateOnly, base[:len(time.DateOnly)])
	if err != nil {
		return time.Time{}
	}
	return day
}

// source is a file that is being read, at one of its events.
type source struct {
	name string
	file *os.File // nil before it is needed
	in   *lineReader
	line []byte
	at   Event
	n    int // lines read
}

// sources is a heap by time.
type sources []*source

func (s sources) Len() int           { return len(s) }
func (s sources) Less(i, j int) bool { return s[i].at.Time.Before(s[j].at.Time) }
func (s sources) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *sources) Push(x any)        { *s = append(*s, x.(*source)) }
func (s *sources) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}

// merge reads files in the order of their events. A file is opened to look at
// its first line, and again when its time has come: those of a day may be many.
func merge(names []string, wants func(*Event) bool, each func(Event, []byte) error, bad func(error)) error {
	var all sources
	defer func() {
		for _, s := range all {
			s.close()
		}
	}()
	for _, name := range names {
		s := &source{name: name}
		if s.next(func(error) {}) {
			all = append(all, s)
		} else {
			s.close()
			s.next(bad) // which says why
		}
		s.close()
	}
	heap.Init(&all)
	for len(all) > 0 {
		s := all[0]
		if s.file == nil { // from the start, since only its time is known
			if !s.next(bad) {
				heap.Pop(&all)
				s.close()
				continue
			}
		}
		if wants(&s.at) {
			if err := each(s.at, s.line); err != nil {
				return err
			}
		}
		if s.next(bad) {
			heap.Fix(&all, 0)
		} else {
			heap.Pop(&all)
			s.close()
		}
	}
	return nil
}

// next goes to the next event of a file, or reports false.
func (s *source) next(bad func(error)) bool {
	if s.file == nil {
		f, err := os.Open(s.name)
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) { // deleted since, because of its age
				bad(err)
			}
			return false
		}
		s.file, s.in, s.n = f, newLineReader(f), 0
	}
	for {
		line, whole, err := s.in.next()
		if errors.Is(err, io.EOF) || err == nil && !whole {
			return false
		}
		s.n++
		if err == nil {
			s.line = line
			if s.at, err = parseLine(line); err == nil {
				return true
			}
		}
		bad(fmt.Errorf("%s: line %d: %w", s.name, s.n, err))
		if errors.Is(err, errLongLine) {
			return false
		}
	}
}

func (s *source) close() {
	if s.file != nil {
		s.file.Close()
		s.file, s.in = nil, nil
	}
}

// Prune deletes the files in dir whose day ended before a time, and returns
// their names: whole files, and none that a process writes.
func Prune(dir string, before time.Time) ([]string, error) {
	names, err := Files(dir)
	if err != nil {
		return nil, err
	}
	var pruned []string
	for _, name := range names {
		day := Day(name)
		if day.IsZero() || day.Add(24*time.Hour).After(before) || Live(name) {
			continue
		}
		if err := os.Remove(name); err != nil {
			return pruned, err
		}
		pruned = append(pruned, filepath.Base(name))
	}
	return pruned, nil
}
