package mail

import (
	"bytes"
	"mime"
	"strings"
)

// field is a header field, with its place in the header.
type field struct {
	name     string // in lower case
	value    string // unfolded
	from, to int    // of the value, raw
}

// header is the fields of a mail or a part, in order.
type header []field

var unfolding = strings.NewReplacer("\r\n", "", "\n", "")

// parseHeader reads raw, up to the empty line at its end. It reports false for
// what is no header. A pipe may put a line "From …" before it.
func parseHeader(raw []byte) (header, bool) {
	var h header
	for at, first := 0, true; at < len(raw); first = false {
		end := at
		for more := true; more; more = end < len(raw) && (raw[end] == ' ' || raw[end] == '\t') {
			if i := bytes.IndexByte(raw[end:], '\n'); i >= 0 {
				end += i + 1
			} else {
				end = len(raw)
			}
		}
		line := raw[at:end]
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
		if !first || !bytes.HasPrefix(line, []byte("From ")) {
			colon := bytes.IndexByte(line, ':')
			name := string(bytes.ToLower(bytes.TrimRight(line[:max(colon, 0)], " \t")))
			if name == "" || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }) {
				return nil, false
			}
			value := unfolding.Replace(string(line[colon+1:]))
			h = append(h, field{name: name, value: strings.Trim(value, " \t"), from: at + colon + 1, to: end})
		}
		at = end
	}
	return h, true
}

// one returns the value of a field, or false if there are several of it, of
// which two readers might take different ones.
func (h header) one(name string) (value string, ok bool) {
	n := 0
	for _, f := range h {
		if f.name == name {
			value = f.value
			n++
		}
	}
	return value, n <= 1
}

func (h header) has(names ...string) bool {
	for _, f := range h {
		for _, name := range names {
			if f.name == name {
				return true
			}
		}
	}
	return false
}

// signed reports whether a mail server has signed the mail.
func (h header) signed() bool {
	return h.has("dkim-signature", "arc-message-signature", "arc-seal", "domainkey-signature")
}

// content is what a header says of the body.
type content struct {
	kind     string // media type in lower case
	params   map[string]string
	encoding string // transfer encoding in lower case; empty for none
	attached bool   // a file, not something to read
}

// content returns what the header says, or false if that cannot be told for
// sure. Without a word about it the body is plain text.
func (h header) content() (c content, ok bool) {
	kind, ok1 := h.one("content-type")
	encoding, ok2 := h.one("content-transfer-encoding")
	disposition, ok3 := h.one("content-disposition")
	if !ok1 || !ok2 || !ok3 {
		return c, false
	}
	c = content{kind: "text/plain", encoding: strings.ToLower(encoding)}
	if kind != "" {
		var err error
		if c.kind, c.params, err = mime.ParseMediaType(kind); err != nil {
			return c, false
		}
	}
	disposition, _, _ = strings.Cut(disposition, ";")
	c.attached = strings.EqualFold(strings.TrimSpace(disposition), "attachment")
	return c, true
}

// unsubscribe writes a header with the links of List-Unsubscribe (RFC 2369)
// changed, and returns how many there were. Where a mail program may unsubscribe
// by itself (RFC 8058), without a session, no jump would do.
func unsubscribe(raw []byte, h header, jump func(string) (string, bool)) (changed []byte, links int) {
	if h.has("list-unsubscribe-post") {
		return raw, 0
	}
	at := 0
	for _, f := range h {
		if f.name != "list-unsubscribe" {
			continue
		}
		for from := f.from; from < f.to; {
			open := bytes.IndexByte(raw[from:f.to], '<')
			if open < 0 {
				break
			}
			open += from + 1
			size := bytes.IndexByte(raw[open:f.to], '>')
			if size < 0 {
				break
			}
			from = open + size
			// White space between the brackets means nothing: lines may be folded there.
			link := string(bytes.Join(bytes.Fields(raw[open:from]), nil))
			if address, ok := jump(link); ok && len(address) < maxLine-len(f.name)-4 {
				changed = append(append(changed, raw[at:open]...), address...)
				at, links = from, links+1
			}
		}
	}
	return append(changed, raw[at:]...), links
}
