package mail

import (
	"bufio"
	"bytes"
)

// quotedBody is a text in quoted-printable (RFC 2045, section 6.7). Lines
// without a changed link stay as they are; of the others only what stands for
// the link is written anew, and they are broken where they get too long.
type quotedBody struct {
	out     *bufio.Writer
	finder  finder
	lineEnd string
	held    []quotedLine
	size    int   // of held, in memory
	next    int64 // where the text goes on after held
	broken  bool  // the rest stays as it is
	links   int
}

type quotedLine struct {
	raw      []byte
	from, to int64 // of the text
}

const maxQuoted = 76 // characters of a line

func (b *quotedBody) line(raw []byte, ends bool) {
	if !ends && !b.broken {
		b.finish()
	}
	if b.broken {
		b.out.Write(raw)
		return
	}
	line := quotedLine{raw: bytes.Clone(raw), from: b.next}
	content, tail := cutTail(raw)
	var text []byte
	for rest := content; len(rest) > 0; {
		_, c, size := atom(rest)
		text, rest = append(text, c), rest[size:]
	}
	if !bytes.HasPrefix(tail, []byte("=")) {
		text = append(text, '\n')
	}
	b.next += int64(len(text))
	line.to = b.next
	b.held = append(b.held, line)
	b.size += len(raw) + lineCost
	b.finder.write(text)
	if b.flush(b.finder.settled()); b.size > maxHeld {
		b.finish()
	}
}

func (b *quotedBody) end() int {
	if !b.broken {
		b.finish()
	}
	return b.links
}

// finish writes what is held; whatever comes then stays as it is.
func (b *quotedBody) finish() {
	b.finder.end()
	b.flush(b.next)
	b.broken = true
}

// cutTail splits a line before what is no text: a soft line break, blanks at
// the end, the line end.
func cutTail(raw []byte) (content, tail []byte) {
	n := len(bytes.TrimRight(bytes.TrimRight(raw, "\r\n"), " \t"))
	if n > 0 && raw[n-1] == '=' {
		n--
	}
	return raw[:n], raw[n:]
}

// atom returns the first character of encoded text, as it is written and as it
// is meant. An equals sign that escapes nothing means what no link may have:
// readers do not agree on it.
func atom(s []byte) (raw []byte, c byte, size int) {
	switch {
	case s[0] != '=':
		return s[:1], s[0], 1
	case len(s) >= 3 && isHex(s[1]) && isHex(s[2]):
		return s[:3], hex(s[1])<<4 | hex(s[2]), 3
	}
	return s[:1], 0x7f, 1
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' || c >= 'a' && c <= 'f'
}

func hex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// flush writes the lines whose edits are all known.
func (b *quotedBody) flush(settled int64) {
	n := 0
	for n < len(b.held) && b.held[n].to <= settled {
		group := b.group(n)
		if last := b.held[n+group-1]; last.to > settled {
			break
		}
		if edits := b.finder.edits(); len(edits) > 0 && edits[0].from < b.held[n].to {
			b.encode(b.held[n : n+group])
		} else {
			b.out.Write(b.held[n].raw)
		}
		n += group
	}
	for _, line := range b.held[:n] {
		b.size -= len(line.raw) + lineCost
	}
	b.held = append(b.held[:0], b.held[n:]...)
}

// group returns how many lines from the nth on have to be written anew together,
// because a link goes on from one to the next; at least 1.
func (b *quotedBody) group(n int) int {
	last := n
	for _, e := range b.finder.edits() {
		if e.from >= b.held[last].to {
			break
		}
		for b.held[last].to < e.to {
			last++
		}
	}
	return last - n + 1
}

// encode writes lines of which all but the last end in a soft line break.
func (b *quotedBody) encode(lines []quotedLine) {
	w := quotedWriter{out: b.out, lineEnd: b.lineEnd}
	at, n := lines[0].from, 0
	edits := b.finder.edits()
	var tail []byte
	for _, line := range lines {
		var content []byte
		for content, tail = cutTail(line.raw); len(content) > 0; at++ {
			raw, _, size := atom(content)
			content = content[size:]
			if n < len(edits) && at == edits[n].from {
				for i := range len(edits[n].text) {
					w.char(edits[n].text[i])
				}
				b.links++
			}
			if n == len(edits) || at < edits[n].from {
				w.atom(raw)
			} else if at == edits[n].to-1 {
				n++
			}
		}
	}
	b.finder.done(n)
	w.close(tail)
}

// quotedWriter breaks lines.
type quotedWriter struct {
	out     *bufio.Writer
	lineEnd string
	column  int
	last    []byte // written when it is known whether the line ends with it
}

// char writes a printable ASCII character.
func (w *quotedWriter) char(c byte) {
	if c == '=' {
		w.atom([]byte("=3D"))
	} else {
		w.atom([]byte{c})
	}
}

func (w *quotedWriter) atom(raw []byte) {
	w.put(maxQuoted - 1) // something follows
	w.last = append(w.last[:0], raw...)
}

// put writes the last atom so that it ends at the limit at most.
func (w *quotedWriter) put(limit int) {
	if w.column+len(w.last) > limit {
		w.out.WriteString("=" + w.lineEnd)
		w.column = 0
	}
	w.out.Write(w.last)
	w.column += len(w.last)
}

// close ends the line as it ended before.
func (w *quotedWriter) close(tail []byte) {
	limit := maxQuoted
	if bytes.HasPrefix(tail, []byte("=")) {
		limit--
	}
	w.put(limit)
	w.out.Write(tail)
}
