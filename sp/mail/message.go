package mail

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// message is a mail on its way from in to out. It is read line by line; lines
// that are longer than maxPiece come in pieces.
type message struct {
	jump   func(string) (string, bool)
	in     *bufio.Reader
	out    *bufio.Writer // keeps its first error until it is flushed
	result Result

	top      bool // the header is that of the mail, not of a part
	inHeader bool
	lineEnd  string  // of the header: CRLF, or LF in pipes
	header   []byte  // so far
	levels   []level // the multiparts around, the innermost last
	body     body    // what is being rewritten; nil while all stays as it is
}

// level is a multipart.
type level struct {
	boundary string
	digest   bool // parts that do not say what they are are mails
}

func (m *message) copy() error {
	begins := true // a line
	for {
		line, err := m.in.ReadSlice('\n')
		if len(line) > 0 {
			m.line(line, begins, !errors.Is(err, bufio.ErrBufferFull))
		}
		begins = err == nil
		switch {
		case err == nil || errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			m.end()
			return nil
		default:
			m.end()
			return &ReadError{err}
		}
	}
}

// line takes the next line or piece of one, and says whether a line begins and
// ends with it.
func (m *message) line(line []byte, begins, ends bool) {
	if begins && ends && len(m.levels) > 0 && m.delimiter(line) {
		return
	}
	switch {
	case m.inHeader:
		m.header = append(m.header, line...)
		if begins && len(bytes.TrimRight(line, "\r\n")) == 0 {
			m.lineEnd = string(line)
			m.headerEnds()
		} else if len(m.header) > maxHeader {
			if m.top {
				m.result.Untouched = UntouchedMalformed
			}
			m.leave()
		}
	case m.body != nil:
		m.body.line(line, ends)
	default:
		m.out.Write(line)
	}
}

// delimiter takes a line that ends a part (RFC 2046, section 5.1.1), if it is
// one. That of an outer multipart ends the inner ones as well.
func (m *message) delimiter(line []byte) bool {
	rest, ok := bytes.CutPrefix(bytes.TrimRight(line, " \t\r\n"), []byte("--"))
	if !ok {
		return false
	}
	for i := len(m.levels) - 1; i >= 0; i-- {
		after, ok := bytes.CutPrefix(rest, []byte(m.levels[i].boundary))
		if !ok || len(after) > 0 && string(after) != "--" {
			continue
		}
		m.end()
		m.levels = m.levels[:i+1]
		if m.inHeader = len(after) == 0; !m.inHeader {
			m.levels = m.levels[:i]
		}
		m.out.Write(line)
		return true
	}
	return false
}

// end ends a header or body that goes no further.
func (m *message) end() {
	if m.inHeader {
		m.headerEnds()
	}
	if m.body != nil {
		m.result.Links += m.body.end()
		m.body = nil
	}
}

// headerEnds writes the header and finds out what to do with the body.
func (m *message) headerEnds() {
	h, ok := parseHeader(m.header)
	top := m.top
	switch {
	case !ok && top:
		m.result.Untouched = UntouchedMalformed
	case top && h.signed():
		m.result.Untouched = UntouchedSigned
	}
	if !ok || m.result.Untouched != "" {
		m.leave()
		return
	}
	c, ok := h.content()
	if top && !ok {
		m.result.Untouched = UntouchedMalformed
	} else if top {
		changed, links := unsubscribe(m.header, h, m.jump)
		m.header, m.result.Links = changed, links
	}
	digest := len(m.levels) > 0 && m.levels[len(m.levels)-1].digest && !h.has("content-type")
	counted := h.has("content-md5", "content-length") // which would be wrong
	m.leave()
	if ok && !digest && !c.attached && !counted {
		m.enter(c)
	}
}

// leave writes the header as it is, and the body will follow as it is.
func (m *message) leave() {
	m.out.Write(m.header)
	m.header, m.inHeader, m.top = m.header[:0], false, false
}

// enter begins a body.
func (m *message) enter(c content) {
	multi, isMulti := strings.CutPrefix(c.kind, "multipart/")
	switch {
	case isMulti:
		// What people have signed or encrypted stays (RFC 1847), and so does what
		// has no boundary that a line could have.
		boundary := strings.TrimRight(c.params["boundary"], " ")
		if multi != "signed" && multi != "encrypted" && identity(c.encoding) &&
			boundary != "" && len(boundary) <= maxLine && len(m.levels) < maxDepth {
			m.levels = append(m.levels, level{boundary, multi == "digest"})
		}
	case c.kind == "text/plain" && strings.EqualFold(c.params["delsp"], "yes"):
		// A link may go on in the next line (RFC 3676, section 4.1).
	case c.kind == "text/plain" || c.kind == "text/html":
		compatible, unicode := charset(c.params["charset"])
		if !compatible {
			return
		}
		var f finder = &textFinder{jump: m.jump, unicode: unicode}
		if c.kind == "text/html" {
			f = &htmlFinder{jump: m.jump, unicode: unicode}
		}
		m.body = newBody(c.encoding, m.out, f, m.lineEnd)
	}
}

// identity reports whether a transfer encoding is none.
func identity(encoding string) bool {
	switch encoding {
	case "", "7bit", "8bit", "binary":
		return true
	}
	return false
}

// charset says whether ASCII means ASCII in a charset, and whether the rest is
// UTF-8. Some charsets have state, which a byte below 0x20 introduces; there no
// link goes on.
func charset(name string) (compatible, unicode bool) {
	switch name = strings.ToLower(name); name {
	case "", "us-ascii", "ascii", "utf-8", "utf8":
		return true, true
	case "big5", "gb2312", "gbk", "gb18030", "shift_jis", "shift-jis", "sjis", "tis-620", "macintosh", "latin1":
		return true, false
	}
	for _, family := range []string{"iso-8859-", "iso8859-", "windows-125", "cp125", "koi8-", "euc-", "iso-2022-"} {
		if strings.HasPrefix(name, family) {
			return true, false
		}
	}
	return false, false
}
