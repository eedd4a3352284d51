package audit

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"time"
)

// followEvery is how often Follow looks for something new.
const followEvery = 500 * time.Millisecond

// Follow calls each with the last n events in dir that are wanted and, if
// onwards is set, with those that come, until ctx ends: those of one look in the
// order of time.
func Follow(ctx context.Context, dir string, f Filter, n int, onwards bool, each func(Event, []byte) error) error {
	wants := f.Wants
	at := map[string]int64{} // how far each file was read
	first := true
	for {
		found, err := look(dir, at, wants, n, first)
		if err != nil {
			return err
		}
		for _, one := range found {
			if err := each(one.event, one.line); err != nil {
				return err
			}
		}
		if first = false; !onwards {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
	}
}

type followed struct {
	event Event
	line  []byte
}

// look reads what was added to the files since the last look. Of what was there
// before the first one, it returns the last n.
func look(dir string, at map[string]int64, wants func(*Event) bool, n int, first bool) ([]followed, error) {
	names, err := Files(dir)
	if err != nil {
		return nil, err
	}
	var all []followed
	var day time.Time
	for _, name := range slices.Backward(names) { // the latest first
		if first && len(all) >= n && !Day(name).Equal(day) { // what is older is not among the last
			if info, err := os.Stat(name); err == nil {
				at[name] = info.Size()
			}
			continue
		}
		day = Day(name)
		found, end, err := added(name, at[name], wants, n, first)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		at[name] = end
		all = append(all, found...)
	}
	slices.SortStableFunc(all, func(a, b followed) int { return a.event.Time.Compare(b.event.Time) })
	if first && len(all) > n {
		all = all[len(all)-n:]
	}
	return all, nil
}

// lookMost bounds what one look takes up of a file.
const lookMost = 10_000

// added returns the events after an offset, or the last n of them.
func added(name string, from int64, wants func(*Event) bool, n int, last bool) ([]followed, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, from, err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, from, err
	}
	var found []followed
	lines := newLineReader(f)
	for last || len(found) < lookMost {
		at := lines.at
		line, whole, err := lines.next()
		if err != nil || !whole {
			return found, from + at, nil
		}
		e, err := parseLine(line)
		if err != nil || !wants(&e) {
			continue
		}
		if last && len(found) >= n {
			found = append(found[:0], found[1:]...)
		}
		if n > 0 || !last {
			found = append(found, followed{e, slices.Clone(line)})
		}
	}
	return found, from + lines.at, nil
}
