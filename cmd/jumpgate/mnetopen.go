package main

import (
	"errors"
	"fmt"
	"io"
	"os"
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
