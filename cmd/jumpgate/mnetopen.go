package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

type mnetOpenCommand struct {
	File     string   `arg:"" help:"Body of a recorded request or answer; - for standard input."`
	Key      []string `placeholder:"FILE" sep:"none" help:"Private key of the site that received the message: PEM, or as Moodle stores it. Several: the current one, then older ones."`
	PeerCert string   `placeholder:"FILE" help:"Certificate of the site that sent the message, in PEM."`
	Raw      bool     `help:"Write the innermost bytes and nothing else, if both layers open and the signature verifies."`
	JSON     bool     `help:"Print one JSON object."`
}

// Help explains more than fits a line.
func (mnetOpenCommand) Help() string {
	return "Nobody is asked and nothing is changed. What the message holds is shown, tokens included. Exit code 0 if all that can be " +
		"judged is good: without --peer-cert the signature cannot. Timestamps, repetitions and expired certificates are remarked upon, no more."
}

// looked is what the command found.
type looked struct {
	Sealed  *sealedReport `json:"sealed"` // null if it was not
	Signed  *signedReport `json:"signed"` // null if it was not, or was not reached
	XMLRPC  *document     `json:"xmlrpc"` // null if it was not reached
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

// keyFile is a private key and where it comes from.
type keyFile struct {
	*mnet.Opener
	file string
}

// Run takes the message apart and prints what it finds.
func (c mnetOpenCommand) Run(t *terminal) error {
	if c.Raw && c.JSON {
		return &usageError{"--raw and --json do not go together", "--raw writes the innermost bytes, --json says what all layers hold"}
	}
	keys, err := c.keys(t)
	if err != nil {
		return err
	}
	cert, err := c.certificate()
	if err != nil {
		return err
	}
	doc, err := readInput(t, c.File, mnet.MaxBody)
	if err != nil {
		return withHint(err, "give the file with the recorded body, or - for standard input")
	}
	openers := make([]*mnet.Opener, len(keys))
	for i, k := range keys {
		openers[i] = k.Opener
	}
	layers := mnet.OpenLayers(doc, openers...)
	if c.Raw {
		return writeRaw(t.stdout, layers, cert)
	}
	return c.report(t, layers, keys, cert)
}

var errBadSignature = errors.New("the signature does not verify with the sender's certificate")

// writeRaw writes the innermost document of a message that is sealed for one
// of the keys and signed with cert, whatever else is to be said about it.
func writeRaw(w io.Writer, l *mnet.Layers, cert *gateway.Certificate) error {
	const hint = "without --raw you see how far it goes"
	switch {
	case l.Opened == nil && l.Err != nil:
		return withHint(l.Err, hint)
	case l.Opened == nil:
		return withHint(errors.New("the message is not sealed"), hint)
	case l.Signed == nil && l.Err != nil:
		return withHint(l.Err, hint)
	case l.Signed == nil:
		return withHint(errors.New("the message is not signed"), hint)
	case cert == nil:
		return withHint(errors.New("nobody can say whether the signature verifies"), "give the sender's certificate with --peer-cert")
	}
	if l.Signed.Verify(cert) != nil {
		return withHint(errBadSignature, hint)
	}
	_, err := w.Write(l.Payload)
	return err
}

func (c mnetOpenCommand) report(t *terminal, l *mnet.Layers, keys []keyFile, cert *gateway.Certificate) error {
	found, wrong := look(l, keys, cert, time.Now())
	found.Good = len(wrong) == 0
	for _, err := range wrong {
		found.Errors = append(found.Errors, err.Error())
	}
	var err error
	if c.JSON {
		err = encodeJSON(t.stdout, found)
	} else {
		_, err = io.WriteString(t.stdout, found.text())
	}
	if err != nil {
		return err
	}
	return errors.Join(wrong...)
}

// look describes a message, and returns what is wrong with it.
func look(l *mnet.Layers, keys []keyFile, cert *gateway.Certificate, now time.Time) (found looked, wrong []error) {
	found = looked{Remarks: []string{}, Errors: []string{}}
	remark := func(format string, args ...any) { found.Remarks = append(found.Remarks, fmt.Sprintf(format, args...)) }
	if s := l.Sealed; s != nil {
		found.Sealed = &sealedReport{Wwwroot: s.Wwwroot, Size: l.DataSize, KeyBits: l.KeyBits}
		if l.Opened != nil {
			key := keys[l.Opened.Key]
			found.Sealed.Key, found.Sealed.ID = key.file, hex.EncodeToString(l.Opened.Nonce[:])
			if c := key.Certificate(); c != nil {
				found.Sealed.Fingerprint = c.Fingerprint().String()
				remarkDates(remark, "receiver", c, now)
			}
			if l.Opened.Key > 0 {
				remark("it was sealed for a later key than the first one given: if that one is the current key, the sender has an old certificate of it")
			}
		}
	}
	if s := l.Signed; s != nil {
		found.Signed = &signedReport{Wwwroot: s.Wwwroot, Timestamp: s.Timestamp.UTC(), Signature: "unknown"}
		if off := now.Sub(s.Timestamp); off.Abs() > mnet.DefaultWindow {
			remark("the timestamp is %s by this machine's clock: a gateway takes messages that are at most %s off when they arrive",
				ago(off), mnet.DefaultWindow)
		}
		if l.Sealed != nil && l.Sealed.Wwwroot != s.Wwwroot {
			wrong = append(wrong, withHint(fmt.Errorf("the message is from %s outside and from %s inside", shown(l.Sealed.Wwwroot), shown(s.Wwwroot)),
				"neither is signed, so somebody on the way may have changed it; Jumpgate refuses such messages"))
		}
		if err := judge(&found, l, cert, remark, now); err != nil {
			wrong = append(wrong, err)
		}
	}
	if l.Payload != nil && l.Err == nil {
		found.XMLRPC = &document{Method: l.Method, Params: l.Params, Value: l.Answer}
		if l.Fault != nil {
			found.XMLRPC.Fault = reportFault(l.Fault)
			found.XMLRPC.Fault.Authenticated = found.Signed != nil && found.Signed.Signature == "good"
		}
		remarkEnvelope(remark, l)
	}
	if l.Err != nil {
		wrong = append(wrong, withHint(l.Err, openHint(l, len(keys))))
	}
	return found, wrong
}

// judge says whether the signature is the one of cert.
func judge(found *looked, l *mnet.Layers, cert *gateway.Certificate, remark func(string, ...any), now time.Time) error {
	if l.SaysDSA {
		remark("the signature is labelled dsa-sha1, as older sites do; it is RSA with SHA-1")
	}
	if l.WrongDigest {
		remark("the digest is not that of the payload; no receiver looks at it")
	}
	if cert == nil {
		remark("nobody can say whether the signature verifies: give the sender's certificate with --peer-cert")
		return nil
	}
	found.Signed.Fingerprint = cert.Fingerprint().String()
	remarkDates(remark, "sender", cert, now)
	if w, err := gateway.ParseWwwroot(l.Signed.Wwwroot); err != nil || !cert.Names(w) {
		remark("the sender's certificate does not name %s: peers would not take it for that site", shown(l.Signed.Wwwroot))
	}
	if l.Signed.Verify(cert) != nil {
		found.Signed.Signature = "bad"
		return withHint(errBadSignature,
			"compare its fingerprint with the sender's administrator: either the site has a new key, or somebody else wrote the message")
	}
	found.Signed.Signature = "good"
	return nil
}

func remarkDates(remark func(string, ...any), whose string, c *gateway.Certificate, now time.Time) {
	switch {
	case now.After(c.NotAfter):
		remark("the %s's certificate expired on %s, which no peer minds", whose, c.NotAfter.UTC().Format(time.DateOnly))
	case now.Before(c.NotBefore):
		remark("the %s's certificate is valid from %s only, which no peer minds", whose, c.NotBefore.UTC().Format(time.DateOnly))
	}
}

// remarkEnvelope says what a message without its layers is good for.
func remarkEnvelope(remark func(string, ...any), l *mnet.Layers) {
	switch {
	case l.Sealed != nil && l.Signed != nil:
	case l.Method == "system/keyswap":
		remark("a keyswap travels in the open: whoever takes a key from it has to compare fingerprints")
	case l.Method != "" && l.Sealed == nil:
		remark("the call is not sealed: a peer answers it with fault %d", mnet.FaultPlaintext)
	case l.Method != "":
		remark("the call is not signed: a peer answers it with fault %d", mnet.FaultNotSigned)
	case l.Fault != nil:
		remark("the fault lacks an envelope, as those do that say why there is none: anybody on the way may have written it")
	default:
		remark("the answer lacks an envelope: only that to a keyswap may")
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

// maxKeyFile is far above what a site's old keys take.
const maxKeyFile = 1 << 20

// keys reads the private keys in their order.
func (c mnetOpenCommand) keys(t *terminal) ([]keyFile, error) {
	var all []keyFile
	for _, file := range c.Key {
		b, err := readInput(nil, file, maxKeyFile)
		if err != nil {
			return nil, withHint(err, "give the private key with --key")
		}
		// The gateway refuses such a file; who looks into a recording may
		// have got a copy in a hurry.
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o027 != 0 {
			fmt.Fprintf(t.stderr, "jumpgate: warning: %s is a private key, and its mode %04o lets others at it\n", file, info.Mode().Perm())
		}
		found, err := mnet.ParseOpeners(b)
		if err != nil {
			return nil, withHint(fmt.Errorf("%s: %w", file, err), "the file holds private keys: in PEM, as Moodle stores them, or in base64")
		}
		for _, o := range found {
			all = append(all, keyFile{o, file})
		}
	}
	return all, nil
}

// certificate reads the sender's certificate; nil if none is given.
func (c mnetOpenCommand) certificate() (*gateway.Certificate, error) {
	if c.PeerCert == "" {
		return nil, nil
	}
	b, err := readInput(nil, c.PeerCert, maxKeyFile)
	if err != nil {
		return nil, withHint(err, "give the sender's certificate with --peer-cert")
	}
	cert, err := gateway.ParseCertificate(b)
	if err != nil {
		return nil, withHint(fmt.Errorf("%s: %w", c.PeerCert, err), "the sender shows its certificate below its address, at /mnet/publickey.php")
	}
	return cert, nil
}

// readInput reads a file of at most limit bytes; with a terminal, - is its
// standard input.
func readInput(t *terminal, file string, limit int64) ([]byte, error) {
	var in io.Reader
	if file == "-" && t != nil {
		in = t.stdin
	} else {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", file, limit)
	}
	return b, err
}
