package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

type mnetCommand struct {
	Open mnetOpenCommand `cmd:"" help:"Look inside a recorded message."`
	Call mnetCallCommand `cmd:"" help:"Call a method of a peer, signed and sealed."`
	Poll mnetPollCommand `cmd:"" help:"Ask a peer to report its active learners now."`
	Log  mnetLogCommand  `cmd:"" help:"Show what a peer reported that learners did there."`
}

// document is what the innermost layer of a message says: a call, an answer or
// a fault.
type document struct {
	Method string       `json:"method,omitempty"`
	Params []mnet.Value `json:"params,omitempty"`
	Value  mnet.Value   `json:"value,omitempty"`
	Fault  *faultReport `json:"fault,omitempty"`
}

type faultReport struct {
	Code          int    `json:"code"`
	String        string `json:"string"`
	Meaning       string `json:"meaning,omitempty"`
	Certificate   string `json:"certificate,omitempty"` // fingerprint of the new one in a fault 7025
	Authenticated bool   `json:"authenticated"`         // the peer signed it
}

func reportFault(f *mnet.Fault) *faultReport {
	r := &faultReport{Code: f.Code, String: f.String, Meaning: f.Meaning(), Authenticated: !f.Unauthenticated}
	if c, err := gateway.ParseCertificate([]byte(f.String)); err == nil {
		r.Certificate = c.Fingerprint().String()
	}
	return r
}

// encodeJSON writes v as a line of JSON. What somebody else put into it may
// reach a terminal, so characters that are not graphic are escaped, also those
// that JSON would let stand.
func encodeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	line := make([]byte, 0, b.Len())
	for _, c := range strings.TrimSuffix(b.String(), "\n") { // such are in strings alone
		if unicode.IsGraphic(c) {
			line = utf8.AppendRune(line, c)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, c) {
			line = fmt.Appendf(line, `\u%04x`, unit)
		}
	}
	_, err := w.Write(append(line, '\n'))
	return err
}

// shown returns what a peer said as it can stand in a line of text: as it is,
// or quoted where a terminal would make something else of it.
func shown(s string) string {
	if quoted := strconv.QuoteToGraphic(s); s == "" || quoted != `"`+s+`"` {
		return quoted
	}
	return s
}

// maxShown bounds the strings that people read, in bytes; --json has all.
const maxShown = 400

// valueText returns a value as people read it, in lines below the first
// indented by indent. It holds no control characters.
func valueText(v mnet.Value, indent string) string {
	switch v := v.(type) {
	case mnet.Array:
		if len(v) == 0 {
			return "[]"
		}
		var b strings.Builder
		for _, item := range v {
			b.WriteString("\n" + indent + "  " + valueText(item, indent+"  "))
		}
		return "[" + b.String() + "\n" + indent + "]"
	case mnet.Struct:
		if len(v) == 0 {
			return "{}"
		}
		var b strings.Builder
		for _, m := range v {
			b.WriteString("\n" + indent + "  " + shown(m.Name) + ": " + valueText(m.Value, indent+"  "))
		}
		return "{" + b.String() + "\n" + indent + "}"
	case string:
		return stringText(v)
	}
	return fmt.Sprint(v)
}

func stringText(s string) string {
	if strings.HasPrefix(s, "-----BEGIN CERTIFICATE-----") {
		if c, err := gateway.ParseCertificate([]byte(s)); err == nil {
			return certificateText(c)
		}
	}
	if len(s) > maxShown {
		return fmt.Sprintf("%s… (%d bytes)", strconv.QuoteToGraphic(strings.ToValidUTF8(s[:maxShown], "")), len(s))
	}
	return strconv.QuoteToGraphic(s)
}

func certificateText(c *gateway.Certificate) string {
	return fmt.Sprintf("certificate %s, valid until %s", c.Fingerprint(), c.NotAfter.UTC().Format(time.DateOnly))
}
