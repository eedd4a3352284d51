package audit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// writer writes the files of a Trail, one after the other. Its goroutine is the
// only one that uses it.
type writer struct {
	o   Options
	key ed25519.PrivateKey
	id  string // of the process, in names of files

	fingerprint string // of key

	file     *os.File // nil if there is none at the moment
	info     os.FileInfo
	name     string // of file
	n        int    // files made
	size     int64
	day      string
	unsynced bool
	unsigned bool // something was written since the last signed line

	seq  uint64
	head string // hash of the last line, also of the file before

	after  string     // the file before
	found  []unclosed // files of which a line is to tell
	failed time.Time  // when no file could be made
	err    error      // why

	buf   []byte
	lines []Line // written and not handed on yet; nil without Options.Live, but for signed ones
}

func newWriter(o Options, key ed25519.PrivateKey, id string) *writer {
	w := &writer{o: o, key: key, id: id, fingerprint: Fingerprint(key.Public().(ed25519.PublicKey))}
	w.after, w.head, w.found = leftOver(o.Dir, o.Log)
	return w
}

const fileExt = ".jsonl"

// open makes the next file. It appears under its name with its first line
// complete.
func (w *writer) open() error {
	now := w.o.Now()
	if w.err != nil && now.Sub(w.failed) < retryEvery && !now.Before(w.failed) {
		return w.err
	}
	if w.err = w.begin(now); w.err != nil {
		w.failed = now
		return w.err
	}
	return w.tell()
}

func (w *writer) begin(now time.Time) (err error) {
	w.n++ // a name is tried once
	day := now.UTC().Format(time.DateOnly)
	name := fmt.Sprintf("%s-%s-%d%s", day, w.id, w.n, fileExt)
	temp := filepath.Join(w.o.Dir, "."+name)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if ok, err := lock(f); posix && !ok {
		return errors.Join(fmt.Errorf("%s cannot be locked", name), err)
	}
	e, line := w.signed(Event{Kind: KindOpen, File: name, After: w.after})
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	if err := errors.Join(ownAsDir(temp, w.o.Dir), f.Sync(), os.Link(temp, filepath.Join(w.o.Dir, name)), syncDir(w.o.Dir)); err != nil {
		return err
	}
	if w.info, err = f.Stat(); err != nil {
		return err
	}
	w.file, w.name, w.day, w.size, w.unsynced = f, name, day, int64(len(line)+1), false
	w.wrote(e, line)
	return nil
}

// tell records the files that were found unclosed, and leaves them alone for
// ever.
func (w *writer) tell() error {
	for len(w.found) > 0 {
		u := w.found[0]
		e := Event{
			Time: w.o.Now(), Kind: KindUnclosed, File: u.name,
			Offset: u.state.offset, Size: u.state.size, Hash: u.state.hash, Head: u.state.head,
		}
		if e.Size > 0 {
			e.Kind = KindTorn
		}
		if _, err := w.add([]Event{e}, nil); err != nil {
			return err
		}
		if err := w.sync(); err != nil {
			return err
		}
		w.o.Log.Warn("an audit file was not closed by its process", "file", e.File, "offset", e.Offset, "torn_bytes", e.Size)
		w.found = w.found[1:]
		_ = u.file.Chmod(0o400) // or it is recorded again, which does no harm
		u.file.Close()
	}
	return nil
}

// add writes events, and begins another file first if it is time. It returns
// how many, the last ones, were not written.
func (w *writer) add(events []Event, hidden *Pseudonyms) (lost int, err error) {
	if len(events) == 0 {
		return 0, nil
	}
	if err := w.rotate(); err != nil {
		return len(events), err
	}
	before, seq, head := w.seq, w.seq, w.head
	w.buf = w.buf[:0]
	var lines []Line
	for i := range events {
		e := &events[i]
		e.cut()
		if hidden != nil {
			e.User = hidden.Of(e.User)
			switch e.Kind {
			case KindDecision, KindRedemption, KindRPC, KindLogout:
				e.Detail = "" // what others say may name the user: that is left to the log
			}
		}
		seq++
		e.Seq, e.Prev, e.Key, e.Sig = seq, head, "", nil
		from := len(w.buf)
		w.buf = e.appendLine(w.buf)
		head = hashOf(w.buf[from:])
		if w.o.Live != nil {
			lines = append(lines, Line{File: w.name, Text: append([]byte(nil), w.buf[from:]...), Hash: head})
		}
		w.buf = append(w.buf, '\n')
	}
	if err := w.write(w.buf); err != nil {
		return len(events) - max(0, int(int64(w.seq)-int64(before))), err
	}
	w.seq, w.head, w.unsigned = seq, head, true
	w.lines = append(w.lines, lines...)
	if cap(w.buf) > 1<<20 {
		w.buf = nil
	}
	return 0, nil
}

// rotate begins another file if this one is large, or of another day, or not as
// it was left.
func (w *writer) rotate() error {
	if w.file == nil {
		return w.open()
	}
	if w.tampered() {
		return w.open()
	}
	why := ""
	switch {
	case w.size >= w.o.MaxSize:
		why = "it is large"
	case w.o.Now().UTC().Format(time.DateOnly) != w.day:
		why = "the day ends"
	default:
		return nil
	}
	if err := w.finish(why); err != nil {
		return err
	}
	return w.open()
}

// tampered gives the file up if it is not under its name any more, or has
// another size: what is written there would be lost. The next one follows what
// we have written, so that verifying tells.
func (w *writer) tampered() bool {
	named, err := os.Stat(filepath.Join(w.o.Dir, w.name))
	if err == nil && os.SameFile(named, w.info) && named.Size() == w.size {
		return false
	}
	w.o.Log.Error("somebody has moved or changed the audit file that is being written", "file", w.name, "error", err)
	seq, head, there := w.seq, w.head, err == nil && os.SameFile(named, w.info)
	if there {
		w.giveUp(nil)
	} else {
		w.file.Close()
		w.file, w.unsynced, w.unsigned, w.after = nil, false, false, w.name
	}
	w.seq, w.head, w.err = seq, head, nil // and try at once
	return true
}

// write appends to the file. If that fails, the file is given up: what it ends
// with is found out and recorded in the next one.
func (w *writer) write(b []byte) error {
	n, err := w.file.Write(b)
	w.size += int64(n)
	w.unsynced = true
	if err != nil {
		w.giveUp(err)
	}
	return err
}

// sync puts on disk what was written.
func (w *writer) sync() error {
	if w.file == nil || !w.unsynced {
		return nil
	}
	if err := w.file.Sync(); err != nil {
		w.giveUp(err)
		return err
	}
	w.unsynced = false
	return nil
}

// giveUp leaves the file as it is, to go on in another one from the last line
// that is whole.
func (w *writer) giveUp(why error) {
	old := w.file
	w.file, w.unsynced, w.unsigned, w.after = nil, false, false, w.name
	w.failed, w.err = w.o.Now(), why
	state, err := readTailOf(filepath.Join(w.o.Dir, w.name))
	if err != nil {
		w.o.Log.Error("an audit file that cannot be written cannot be read either", "file", w.name, "error", err)
		old.Close()
		return
	}
	if state.head != "" { // or it has lost even its first line
		w.seq, w.head = state.seq, state.head
	}
	w.found = append(w.found, unclosed{old, w.name, state})
}

// checkpoint signs the head, if there is something new.
func (w *writer) checkpoint() error {
	if w.file == nil || !w.unsigned {
		return nil
	}
	return w.sign(Event{Kind: KindCheckpoint})
}

// finish ends the file with a signed line, for good.
func (w *writer) finish(why string) error {
	if w.file == nil {
		return w.err
	}
	if err := w.sign(Event{Kind: KindClose, Detail: why}); err != nil {
		return err
	}
	_ = w.file.Chmod(0o400) // which spares the next start a look
	err := w.file.Close()
	w.file, w.after = nil, w.name
	return err
}

// sign writes a signed line and puts it, and all before it, on disk.
func (w *writer) sign(e Event) error {
	e, line := w.signed(e)
	if err := w.write(append(line, '\n')); err != nil {
		return err
	}
	w.wrote(e, line)
	return w.sync()
}

// signed returns an event as the next line, with a signature.
func (w *writer) signed(e Event) (Event, []byte) {
	e.cut()
	e.Time, e.Seq, e.Prev, e.Key = w.o.Now(), w.seq+1, w.head, w.fingerprint
	e.Sig = ed25519.Sign(w.key, signedBytes(e))
	return e, e.appendLine(nil)
}

// wrote notes that a signed line is the last one.
func (w *writer) wrote(e Event, line []byte) {
	w.seq, w.head, w.unsigned = e.Seq, hashOf(line), false
	w.lines = append(w.lines, Line{File: w.name, Text: line, Hash: w.head, Signed: true})
}

// signedBytes is what the signature of a line covers: all of it but the
// signature.
func signedBytes(e Event) []byte {
	e.Sig = nil
	return e.appendLine([]byte("jumpgate audit 1\n"))
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
