package mail

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"math"
	"strings"
)

// base64Body is a text in base64 (RFC 2045, section 6.8). Lines before the
// first link that is changed stay as they are; from there on the text is encoded
// anew, in lines as long as they were.
type base64Body struct {
	out     *bufio.Writer
	finder  finder
	lineEnd string
	held    []base64Line
	size    int    // of held, in memory
	next    int64  // where the text goes on after held
	broken  bool   // the rest stays as it is
	padded  bool   // no text can follow
	widest  int    // line so far, in characters
	several bool   // lines so far, so that widest means something
	after   []byte // empty lines after what was encoded anew
	anew    *base64Writer
	links   int
}

type base64Line struct {
	raw, text []byte
	from, to  int64
}

func (b *base64Body) line(raw []byte, ends bool) {
	if b.broken {
		b.out.Write(raw)
		return
	}
	encoded := strings.Trim(string(raw), " \t\r\n")
	text, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(encoded)%4 != 0 || b.padded && encoded != "" || strings.ContainsAny(encoded, "\r\n") || len(b.after) > maxPiece {
		// Nobody can tell what readers make of it.
		b.finish()
		b.out.Write(raw)
		return
	}
	if encoded != "" {
		b.several = b.widest > 0
		b.widest = max(b.widest, len(encoded))
		b.padded = strings.HasSuffix(encoded, "=")
	}
	if !ends {
		b.widest, b.several = math.MaxInt32, true // one line for all
	}
	line := base64Line{raw: bytes.Clone(raw), text: text, from: b.next, to: b.next + int64(len(text))}
	b.next = line.to
	b.held = append(b.held, line)
	b.size += len(raw) + lineCost
	b.finder.write(text)
	if b.several || b.widest == 0 { // else nobody knows yet how long the lines are
		b.flush(b.finder.settled())
	}
	if b.size > maxHeld {
		b.finish()
	}
}

func (b *base64Body) end() int {
	if !b.broken {
		b.finish()
	}
	return b.links
}

// finish writes what is held; whatever comes then stays as it is.
func (b *base64Body) finish() {
	b.finder.end()
	b.flush(b.next)
	if b.anew != nil {
		b.anew.close()
		b.out.Write(b.after)
	}
	b.broken = true
}

// flush writes the lines whose edits are all known.
func (b *base64Body) flush(settled int64) {
	n := 0
	for ; n < len(b.held) && b.held[n].to <= settled; n++ {
		line := b.held[n]
		b.size -= len(line.raw) + lineCost
		edits := b.finder.edits()
		if b.anew == nil && len(edits) > 0 && edits[0].from < line.to {
			b.anew = &base64Writer{out: b.out, width: b.width(), lineEnd: b.lineEnd}
		}
		switch {
		case b.anew == nil:
			b.out.Write(line.raw)
		case len(line.text) == 0:
			b.after = append(b.after, line.raw...)
		default:
			b.after = b.after[:0]
			b.encode(line)
		}
	}
	b.held = append(b.held[:0], b.held[n:]...)
}

// width returns how long the lines are. A text of a single short line says
// nothing about it.
func (b *base64Body) width() int {
	if !b.several {
		return max(b.widest, maxQuoted)
	}
	return b.widest
}

// encode encodes the text of a line with its links changed. A link that goes on
// in the next line is written where it begins.
func (b *base64Body) encode(line base64Line) {
	at, n := max(line.from, b.anew.over), 0
	for _, e := range b.finder.edits() {
		if e.from >= line.to {
			break
		}
		b.anew.write(line.text[at-line.from : e.from-line.from])
		b.anew.write([]byte(e.text))
		b.anew.over = e.to
		at = min(e.to, line.to)
		n++
		b.links++
	}
	b.finder.done(n)
	if at < line.to {
		b.anew.write(line.text[at-line.from:])
	}
	b.anew.tail = line.raw[len(bytes.TrimRight(line.raw, " \t\r\n")):]
}

// base64Writer encodes in lines of one width.
type base64Writer struct {
	out     *bufio.Writer
	width   int
	lineEnd string
	column  int
	rest    []byte // too little to encode
	over    int64  // up to where the text has been replaced
	tail    []byte // what the last line ended with
}

func (w *base64Writer) write(p []byte) {
	w.rest = append(w.rest, p...)
	n := len(w.rest) / 3 * 3
	w.put(w.rest[:n])
	w.rest = append(w.rest[:0], w.rest[n:]...)
}

func (w *base64Writer) put(p []byte) {
	for encoded := base64.StdEncoding.EncodeToString(p); encoded != ""; {
		if w.column == w.width {
			w.out.WriteString(w.lineEnd)
			w.column = 0
		}
		n := min(len(encoded), w.width-w.column)
		w.out.WriteString(encoded[:n])
		w.column += n
		encoded = encoded[n:]
	}
}

func (w *base64Writer) close() {
	w.put(w.rest)
	w.out.Write(w.tail)
}
