package mail

import (
	"bufio"
	"bytes"
)

// body is a text on its way to the reader, in its transfer encoding. Lines come
// with their ends; only what ends says no to is a piece of one.
type body interface {
	line(raw []byte, ends bool)
	end() (links int) // that were changed
}

// newBody returns the body for a transfer encoding in lower case; nil if that is
// not a known one. lineEnd is that of the mail.
func newBody(encoding string, out *bufio.Writer, f finder, lineEnd string) body {
	switch {
	case identity(encoding):
		return &plainBody{out: out, finder: f}
	case encoding == "quoted-printable":
		return &quotedBody{out: out, finder: f, lineEnd: lineEnd}
	case encoding == "base64":
		return &base64Body{out: out, finder: f, lineEnd: lineEnd}
	}
	return nil
}

// edit is a link that is to be changed.
type edit struct {
	from, to int64 // of the decoded text
	text     string
}

// finder finds the links in a decoded text.
type finder interface {
	write(p []byte)
	end()
	settled() int64 // up to where all edits are known; at most maxLink behind
	edits() []edit  // that begin before settled, in order
	done(n int)     // forgets the first n of them
}

// found is what finders have in common.
type found struct {
	off  int64 // how much was written
	list []edit
}

func (f *found) edits() []edit { return f.list }

func (f *found) done(n int) { f.list = append(f.list[:0], f.list[n:]...) }

// plainBody is a text without a transfer encoding.
type plainBody struct {
	out    *bufio.Writer
	finder finder
	held   []byte // not written yet
	start  int64  // of held in the text
	long   bool   // the line that held goes on with is longer than a line may be
	links  int
}

func (b *plainBody) line(raw []byte, _ bool) {
	b.held = append(b.held, raw...)
	b.finder.write(raw)
	b.flush(int(b.finder.settled() - b.start))
}

func (b *plainBody) end() int {
	b.finder.end()
	b.write(len(b.held))
	return b.links
}

// flush writes the lines that end within the first n bytes held, and those that
// are too long to be looked at as a whole.
func (b *plainBody) flush(n int) {
	if i := bytes.LastIndexByte(b.held[:n], '\n'); i >= 0 {
		b.write(i + 1)
	} else if n > maxLine+2 {
		b.write(n)
	}
}

// write writes the first n bytes held.
func (b *plainBody) write(n int) {
	rest := b.held[:n]
	for len(rest) > 0 {
		size := bytes.IndexByte(rest, '\n') + 1
		ends := size > 0
		if !ends {
			size = len(rest)
		}
		b.writeLine(rest[:size], ends)
		rest, b.start = rest[size:], b.start+int64(size)
	}
	b.held = append(b.held[:0], b.held[n:]...)
}

// writeLine writes a line with its links changed, as far as that does not make
// it longer than a line may be: the next server would break it in two.
func (b *plainBody) writeLine(line []byte, ends bool) {
	size := len(bytes.TrimRight(line, "\r\n"))
	limited := !b.long && size <= maxLine
	at, n := b.start, 0
	for _, e := range b.finder.edits() {
		if e.from >= b.start+int64(len(line)) {
			break
		}
		n++
		grown := size + len(e.text) - int(e.to-e.from)
		if limited && grown > maxLine {
			continue
		}
		b.out.Write(line[at-b.start : e.from-b.start])
		b.out.WriteString(e.text)
		at, size = e.to, grown
		b.links++
	}
	b.finder.done(n)
	b.out.Write(line[at-b.start:])
	b.long = !ends
}
