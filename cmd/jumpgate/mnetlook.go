package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// looked is what jumpgate mnet open finds.
type looked struct {
	Sealed  *sealedReport `json:"sealed"`            // null if it was not
	Signed  *signedReport `json:"signed"`            // null if it was not, or was not reached
	XMLRPC  *document     `json:"xmlrpc"`            // null if it was not reached, or cannot be read
	Content string        `json:"content,omitempty"` // what stands in its place
	Remarks []string      `json:"remarks"`
	Good    bool          `json:"good"`
	Errors  []string      `json:"errors"` // why it is not good
}

type sealedReport struct {
	Wwwroot     string `json:"wwwroot"` // as the message claims
	Size        int    `json:"size"`    // of the RC4 data, in bytes
	KeyBits     int    `json:"key_bits"`
	Key         string `json:"key,omitempty"`         // file of the key that opened it
	Fingerprint string `json:"fingerprint,omitempty"` // of the certificate beside that key
	ID          string `json:"id,omitempty"`          // the same in every copy of the message
}

type signedReport struct {
	Wwwroot     string    `json:"wwwroot"` // as the message claims
	Timestamp   time.Time `json:"timestamp"`
	Signature   string    `json:"signature"`             // good, bad or unknown
	Fingerprint string    `json:"fingerprint,omitempty"` // of --peer-cert
}

func (f *looked) remark(format string, args ...any) {
	f.Remarks = append(f.Remarks, fmt.Sprintf(format, args...))
}

// look describes a message, and returns what is wrong with it.
func look(l *mnet.Layers, keys []keyFile, cert *gateway.Certificate, now time.Time) (f looked, wrong []error) {
	f = looked{Remarks: []string{}, Errors: []string{}}
	if l.Sealed != nil {
		f.sealed(l, keys, now)
	}
	if l.Signed != nil {
		if l.Sealed != nil && l.Sealed.Wwwroot != l.Signed.Wwwroot {
			wrong = append(wrong, withHint(
				fmt.Errorf("the message is from %s outside and from %s inside", shown(l.Sealed.Wwwroot), shown(l.Signed.Wwwroot)),
				"neither is signed, so somebody on the way may have changed it; Jumpgate refuses such messages"))
		}
		if err := f.signed(l, cert, now); err != nil {
			wrong = append(wrong, err)
		}
	}
	if l.Err != nil {
		f.Content = string(l.Payload)
		return f, append(wrong, withHint(l.Err, openHint(l, len(keys))))
	}
	f.XMLRPC = &document{Method: l.Method, Params: l.Params, Value: l.Answer}
	if l.Fault != nil {
		f.XMLRPC.Fault = reportFault(l.Fault)
		f.XMLRPC.Fault.Authenticated = f.Signed != nil && f.Signed.Signature == "good"
	}
	f.envelope(l)
	return f, wrong
}

func (f *looked) sealed(l *mnet.Layers, keys []keyFile, now time.Time) {
	f.Sealed = &sealedReport{Wwwroot: l.Sealed.Wwwroot, Size: l.DataSize, KeyBits: l.KeyBits}
	if l.Opened == nil {
		return
	}
	key := keys[l.Opened.Key]
	f.Sealed.Key, f.Sealed.ID = key.file, hex.EncodeToString(l.Opened.Nonce[:])
	if c := key.Certificate(); c != nil {
		f.Sealed.Fingerprint = c.Fingerprint().String()
		f.dates("receiver", c, now)
	}
	if l.Opened.Key > 0 {
		f.remark("it was sealed for another key than the first one given: if that is the current one, the sender has an old certificate")
	}
}

// signed says whether the signature is the one of cert.
func (f *looked) signed(l *mnet.Layers, cert *gateway.Certificate, now time.Time) error {
	f.Signed = &signedReport{Wwwroot: l.Signed.Wwwroot, Timestamp: l.Signed.Timestamp.UTC(), Signature: "unknown"}
	if off := now.Sub(l.Signed.Timestamp); off.Abs() > mnet.DefaultWindow {
		f.remark("the timestamp is %s by this machine's clock: a gateway takes messages that are at most %s off when they arrive",
			ago(off), mnet.DefaultWindow)
	}
	if l.SaysDSA {
		f.remark("the signature is labelled dsa-sha1, as older sites do; it is RSA with SHA-1")
	}
	if l.WrongDigest {
		f.remark("the digest is not that of the payload; no receiver looks at it")
	}
	if cert == nil {
		f.remark("nobody can say whether the signature verifies: give the sender's certificate with --peer-cert")
		return nil
	}
	f.Signed.Fingerprint = cert.Fingerprint().String()
	f.dates("sender", cert, now)
	if w, err := gateway.ParseWwwroot(l.Signed.Wwwroot); err != nil || !cert.Names(w) {
		f.remark("the sender's certificate does not name %s: peers would not take it for that site", shown(l.Signed.Wwwroot))
	}
	if l.Signed.Verify(cert) != nil {
		f.Signed.Signature = "bad"
		return withHint(errBadSignature,
			"compare its fingerprint with the sender's administrator: either the site has a new key, or somebody else wrote the message")
	}
	f.Signed.Signature = "good"
	return nil
}

func (f *looked) dates(whose string, c *gateway.Certificate, now time.Time) {
	switch {
	case now.After(c.NotAfter):
		f.remark("the %s's certificate expired on %s, which no peer minds", whose, c.NotAfter.UTC().Format(time.DateOnly))
	case now.Before(c.NotBefore):
		f.remark("the %s's certificate is valid from %s only, which no peer minds", whose, c.NotBefore.UTC().Format(time.DateOnly))
	}
}

// envelope says what a message without its layers is good for.
func (f *looked) envelope(l *mnet.Layers) {
	switch {
	case l.Sealed != nil && l.Signed != nil:
	case l.Method == "system/keyswap":
		f.remark("a keyswap travels in the open: whoever takes a key from it has to compare fingerprints")
	case l.Method != "" && l.Sealed == nil:
		f.remark("the call is not sealed: a peer answers it with fault %d", mnet.FaultPlaintext)
	case l.Method != "":
		f.remark("the call is not signed: a peer answers it with fault %d", mnet.FaultNotSigned)
	case l.Fault != nil:
		f.remark("the fault lacks an envelope, as those do that say why there is none: anybody on the way may have written it")
	default:
		f.remark("the answer lacks an envelope: only that to a keyswap may")
	}
}

func openHint(l *mnet.Layers, keys int) string {
	switch {
	case errors.Is(l.Err, mnet.ErrNotOpened) && keys == 0:
		return "give the private key of the site that received it with --key: a request is sealed for whom it asks, an answer for who asked"
	case errors.Is(l.Err, mnet.ErrNotOpened):
		return "it is sealed for another site or for an older key: give all keys of the receiver with --key"
	case errors.Is(l.Err, mnet.ErrNoMessage):
		return "record the body alone, without HTTP headers; a page of HTML comes from a Moodle with networking off, or from another address than its endpoint"
	}
	return "the message is damaged, or its writer has a mistake"
}

// ago returns how long ago, or how far ahead, something is.
func ago(d time.Duration) string {
	direction := "ago"
	if d < 0 {
		d, direction = -d, "ahead"
	}
	if d < 48*time.Hour {
		return d.Round(time.Second).String() + " " + direction
	}
	return fmt.Sprintf("%d days %s", d/(24*time.Hour), direction)
}

// text returns the report for people.
func (f looked) text() string {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s%s\n", label, fmt.Sprintf(format, args...))
	}
	if s := f.Sealed; s != nil {
		line("sealed", "by %s (claimed), %d bytes, for an RSA key of %d bits", shown(s.Wwwroot), s.Size, s.KeyBits)
		if s.Key != "" {
			line("", "opened with %s", strings.TrimSpace(shown(s.Key)+" "+s.Fingerprint))
			line("", "message %s; a second one with this id is a replay", s.ID)
		}
	}
	if s := f.Signed; s != nil {
		line("signed", "by %s (claimed), at %s", shown(s.Wwwroot), s.Timestamp.Format(time.RFC3339))
		switch s.Signature {
		case "good":
			line("", "the signature verifies with %s", s.Fingerprint)
		case "bad":
			line("", "the signature does not verify with %s", s.Fingerprint)
		}
	}
	if d := f.XMLRPC; d != nil {
		d.write(line)
	}
	if f.Content != "" {
		line("content", "%s", stringText(f.Content))
	}
	for _, r := range f.Remarks {
		line("remark", "%s", r)
	}
	return b.String()
}

func (d *document) write(line func(label, format string, args ...any)) {
	const indent = "         "
	switch {
	case d.Fault != nil:
		line("fault", "%d %s", d.Fault.Code, stringText(d.Fault.String))
		if d.Fault.Meaning != "" {
			line("", "it means: %s", d.Fault.Meaning)
		}
	case d.Method != "":
		line("call", "%s", shown(d.Method))
		for i, p := range d.Params {
			line("", "%d: %s", i+1, valueText(p, indent))
		}
	default:
		line("answer", "%s", valueText(d.Value, indent))
	}
}
