package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// unclosed is a file that nobody writes to any more and that does not end as it
// should. It is open, and locked, until a line tells of it.
type unclosed struct {
	file  *os.File
	name  string
	state tail
}

// leftOver looks for the files of processes that have ended. It returns the one
// that was written last, with the hash of its last line, and those that are to
// be recorded. A file that was closed, or recorded, is read-only.
func leftOver(dir string, log *slog.Logger) (after, head string, found []unclosed) {
	names, err := Files(dir)
	if err != nil {
		log.Warn("the audit directory cannot be read", "dir", dir, "error", err)
		return "", "", nil
	}
	var latest time.Time
	for _, name := range names {
		info, err := os.Stat(name)
		switch {
		case err != nil: // deleted since, because of its age
		case info.Mode().Perm()&0o200 == 0:
			if info.ModTime().After(latest) {
				latest, after, head = info.ModTime(), name, ""
			}
		default:
			u, ok := abandoned(name, log)
			if !ok {
				continue
			}
			if info.ModTime().After(latest) {
				latest, after, head = info.ModTime(), name, u.state.head
			}
			if u.state.closed {
				u.file.Close()
			} else {
				found = append(found, u)
			}
		}
	}
	removeHalfMade(dir)
	if after != "" && head == "" {
		state, err := readTailOf(after)
		if err != nil {
			log.Warn("an audit file cannot be read", "file", after, "error", err)
		}
		head = state.head
	}
	if head == "" { // nothing can follow what has no line
		return "", "", found
	}
	return filepath.Base(after), head, found
}

// abandoned opens a file, unless somebody writes it.
func abandoned(name string, log *slog.Logger) (unclosed, bool) {
	f, err := os.Open(name)
	if err == nil {
		if ok, _ := lock(f); !ok {
			f.Close()
			return unclosed{}, false
		}
		var state tail
		if state, err = readTail(f); err == nil {
			return unclosed{f, filepath.Base(name), state}, true
		}
		f.Close()
	}
	log.Warn("an audit file cannot be read", "file", name, "error", err)
	return unclosed{}, false
}

// removeHalfMade removes what processes left that were killed while they made a
// file: nothing was recorded in it.
func removeHalfMade(dir string) {
	names, _ := filepath.Glob(filepath.Join(dir, ".*"+fileExt))
	for _, name := range names {
		if info, err := os.Lstat(name); err != nil || !info.Mode().IsRegular() {
			continue // a pipe would wait for somebody who writes
		}
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		if ok, _ := lock(f); ok {
			os.Remove(name)
		}
		f.Close()
	}
}

// Files returns the files of the trail in dir, by day.
func Files(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if name := entry.Name(); entry.Type().IsRegular() && strings.HasSuffix(name, fileExt) && !strings.HasPrefix(name, ".") {
			names = append(names, filepath.Join(dir, name))
		}
	}
	return names, nil
}

// tail is how a file ends.
type tail struct {
	offset int64  // where the whole lines end
	size   int64  // of what follows
	hash   string // of that, whatever it is
	seq    uint64 // of the last whole line
	head   string // its hash; empty if there is none
	closed bool   // it is a closing one, and nothing follows
}

func readTailOf(name string) (tail, error) {
	f, err := os.Open(name)
	if err != nil {
		return tail{}, err
	}
	defer f.Close()
	return readTail(f)
}

// readTail reads a file to its end.
func readTail(f *os.File) (tail, error) {
	var t tail
	var last []byte
	for lines := newLineReader(f); ; {
		line, whole, err := lines.next()
		if errors.Is(err, io.EOF) || err == nil && !whole || errors.Is(err, errLongLine) {
			break
		}
		if err != nil {
			return t, err
		}
		last = append(last[:0], line...)
		t.offset = lines.at
	}
	rest := sha256.New()
	size, err := f.Seek(t.offset, io.SeekStart)
	if err == nil {
		size, err = io.Copy(rest, f)
	}
	t.size, t.hash = size, hex.EncodeToString(rest.Sum(nil))
	if t.offset > 0 {
		e, malformed := parseLine(last)
		t.seq, t.head = e.Seq, hashOf(last)
		t.closed = malformed == nil && e.Kind == KindClose && t.size == 0
	}
	return t, err
}
