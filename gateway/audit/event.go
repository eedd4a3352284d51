// Package audit is the trail: what was decided and done, one line of JSON per
// event, in files that can be checked by somebody who does not trust whoever
// keeps them. Each line carries the SHA-256 of the line before it, and some are
// signed. It knows nothing of what the events mean.
package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Kind says what an event is about.
type Kind string

// What happens at a site.
const (
	KindDecision   Kind = "decision"   // of a jump; with the token, if one was made
	KindProbe      Kind = "probe"      // the decision of a jump or landing that was made to lead somebody away from the peers
	KindRedemption Kind = "redemption" // of a token, by a peer
	KindLanding    Kind = "landing"    // at our own Moodle, from a peer
	KindRedirect   Kind = "redirect"   // of our own Moodle, to somewhere that was not allowed; Count more before it have no line
	KindRPC        Kind = "rpc"        // a call of a peer that was refused, or failed
	KindLogout     Kind = "logout"     // a session that was to end with another
	KindKey        Kind = "key"        // of the site, or of a peer, has changed
	KindAdmin      Kind = "admin"      // an administrator's command has changed something, or register_all in their place
	KindConfig     Kind = "config"     // a configuration was taken up, or not
)

// What happens to the trail itself.
const (
	KindOpen       Kind = "open"       // first line of a file: signed
	KindCheckpoint Kind = "checkpoint" // signed
	KindClose      Kind = "close"      // last line of a file: signed
	KindUnclosed   Kind = "unclosed"   // a file of a process that ended without closing it
	KindTorn       Kind = "torn"       // the same, and its last line is not whole
	KindDropped    Kind = "dropped"    // Count events were lost
	KindPruned     Kind = "pruned"     // a file was deleted because of its age
)

// The decisions of an Event.
const (
	Allow  = "allow"
	Refuse = "refuse"
	Ask    = "ask"   // the learner is asked first
	Failed = "error" // it could not be decided, or not be done
)

// Event is one line. Empty fields are left out. The order of the fields is that
// of the line; it never changes, and new ones come before Prev.
type Event struct {
	Seq       uint64    `json:"seq"`  // 1, 2, 3… of a process, through all its files
	Time      time.Time `json:"time"` // UTC, microseconds
	Kind      Kind      `json:"kind"`
	Site      string    `json:"site"`    // wwwroot
	Request   string    `json:"request"` // id, as in the log and on pages
	Client    string    `json:"client"`  // address, as trusted proxies tell it
	Step      string    `json:"step"`    // how it came about: of a decision, as in the log; the method of a call; the command of an administrator; the header field of a redirect
	User      string    `json:"user"`    // username, or "hmac:" and 32 hexadecimal digits
	Peer      string    `json:"peer"`    // wwwroot
	Target    string    `json:"target"`  // as it came: escaped, cut at 2 KB
	Decision  string    `json:"decision"`
	Rule      string    `json:"rule"`      // what decided, or the reason of a call's fault
	Outcome   string    `json:"outcome"`   // as in the log
	URL       string    `json:"url"`       // where the browser was sent; a token in it is replaced by its hash
	Issuer    string    `json:"issuer"`    // who made the token: gateway or moodle
	Latency   int64     `json:"latency"`   // microseconds
	Token     string    `json:"token"`     // SHA-256, hexadecimal
	Origin    string    `json:"origin"`    // of the click: same-origin, same-site, none or cross-site
	Signature string    `json:"signature"` // what the signature of the link is worth
	Link      string    `json:"link"`      // the signature's id, by which it can be revoked
	Detail    string    `json:"detail"`

	File   string `json:"file"`   // of KindOpen: this one; of the others: the one that it is about
	After  string `json:"after"`  // of KindOpen: the file before, whose last line Prev is the hash of
	Offset int64  `json:"offset"` // of KindTorn and KindUnclosed: where the whole lines of File end
	Size   int64  `json:"size"`   // bytes after that
	Hash   string `json:"hash"`   // SHA-256 of those, hexadecimal
	Head   string `json:"head"`   // and of the last whole line
	Count  uint64 `json:"count"`

	Prev string `json:"prev"` // SHA-256 of the line before, without its newline, hexadecimal
	Key  string `json:"key"`  // fingerprint of the key that signed
	Sig  []byte `json:"sig"`  // Ed25519, over what signedBytes says
}

// signed reports whether lines of a kind carry a signature.
func (k Kind) signed() bool { return k == KindOpen || k == KindCheckpoint || k == KindClose }

const (
	// maxLine bounds a line, in bytes.
	maxLine = 128 << 10

	maxText   = 512  // bytes of a field
	maxDetail = 1024 // of Detail
	maxURL    = 4096
	maxTarget = 8192 // 2 KB with every byte escaped
)

// cut makes the texts of an event fit: valid UTF-8, of bounded length.
func (e *Event) cut() {
	for _, f := range []struct {
		text *string
		max  int
	}{
		{&e.Site, maxText}, {&e.Request, maxText}, {&e.Client, maxText}, {&e.Step, maxText}, {&e.User, maxText}, {&e.Peer, maxText},
		{&e.Target, maxTarget}, {&e.Rule, maxText}, {&e.Outcome, maxText}, {&e.URL, maxURL}, {&e.Origin, maxText},
		{&e.Signature, maxText}, {&e.Link, maxText}, {&e.Detail, maxDetail},
		{&e.File, maxText}, {&e.After, maxText},
	} {
		if len(*f.text) > f.max {
			*f.text = (*f.text)[:f.max]
		}
		if !utf8.ValidString(*f.text) {
			*f.text = strings.ToValidUTF8(*f.text, "\ufffd")
		}
	}
}

// appendLine appends the one way in which an event is written: ASCII, without
// the newline. It does not use encoding/json, which may write another way with
// the next version of Go.
func (e *Event) appendLine(b []byte) []byte {
	b = append(b, `{"seq":`...)
	b = strconv.AppendUint(b, e.Seq, 10)
	b = append(b, `,"time":"`...)
	b = e.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, '"')
	b = appendText(b, "kind", string(e.Kind))
	b = appendText(b, "site", e.Site)
	b = appendText(b, "request", e.Request)
	b = appendText(b, "client", e.Client)
	b = appendText(b, "step", e.Step)
	b = appendText(b, "user", e.User)
	b = appendText(b, "peer", e.Peer)
	b = appendText(b, "target", e.Target)
	b = appendText(b, "decision", e.Decision)
	b = appendText(b, "rule", e.Rule)
	b = appendText(b, "outcome", e.Outcome)
	b = appendText(b, "url", e.URL)
	b = appendText(b, "issuer", e.Issuer)
	b = appendNumber(b, "latency", e.Latency)
	b = appendText(b, "token", e.Token)
	b = appendText(b, "origin", e.Origin)
	b = appendText(b, "signature", e.Signature)
	b = appendText(b, "link", e.Link)
	b = appendText(b, "detail", e.Detail)
	b = appendText(b, "file", e.File)
	b = appendText(b, "after", e.After)
	b = appendNumber(b, "offset", e.Offset)
	b = appendNumber(b, "size", e.Size)
	b = appendText(b, "hash", e.Hash)
	b = appendText(b, "head", e.Head)
	b = appendNumber(b, "count", int64(e.Count))
	b = appendText(b, "prev", e.Prev)
	b = appendText(b, "key", e.Key)
	if len(e.Sig) > 0 {
		b = append(b, `,"sig":"`...)
		b = base64.StdEncoding.AppendEncode(b, e.Sig)
		b = append(b, '"')
	}
	return append(b, '}')
}

func appendNumber(b []byte, name string, n int64) []byte {
	if n == 0 {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return strconv.AppendInt(b, n, 10)
}

const hexDigits = "0123456789abcdef"

func appendText(b []byte, name, s string) []byte {
	if s == "" {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, `":"`...)
	from := 0 // of what needs no escape
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[from:i]...)
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		from = i
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			continue
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = appendUnit(b, high)
			r = low
		}
		b = appendUnit(b, r)
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

func appendUnit(b []byte, u rune) []byte {
	return append(b, '\\', 'u', hexDigits[u>>12&15], hexDigits[u>>8&15], hexDigits[u>>4&15], hexDigits[u&15])
}

var errNotCanonical = errors.New("it is not written as the gateway writes it")

// parseLine reads a line, without its newline, and refuses every other way to
// write the same event: case, order, blanks, escapes, spare bits of base64.
func parseLine(line []byte) (Event, error) {
	var e Event
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return e, errNotCanonical
	}
	if !bytes.Equal(e.appendLine(make([]byte, 0, len(line)+64)), line) {
		return e, errNotCanonical
	}
	return e, nil
}

// Parse reads a line, without its newline, that is written as a Trail writes it.
func Parse(line []byte) (Event, error) { return parseLine(line) }

// Hash stands for a secret, such as a token, in an event: its SHA-256, in
// hexadecimal digits.
func Hash(secret string) string { return hashOf([]byte(secret)) }
