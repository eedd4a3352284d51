package mnet

import (
	"bytes"
	"crypto/sha1" // the wire's, section 3.1
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"jumpgate/gateway"
)

// Layers is a message taken apart as far as it goes: for a look inside, not to
// act upon. Nothing in it is verified; Signed.Verify tells who signed.
type Layers struct {
	Sealed   *Sealed // nil for a message that is not sealed
	DataSize int     // bytes of RC4 data
	KeyBits  int     // of the RSA key that the message is sealed for
	Opened   *Opened // nil if there is nothing to open or no key fits; Opened.Key is the index of the key

	Signed      *Signed // nil for a message that is not signed or not opened
	WrongDigest bool    // its DigestValue is not that of the payload, which nobody minds (section 3.1)
	SaysDSA     bool    // it is labelled dsa-sha1, as older peers do; it is RSA all the same

	Payload []byte  // the XML-RPC document; nil if it was not reached
	Method  string  // of a call; empty for an answer
	Params  []Value // of a call
	Answer  Value   // nil for a call and a fault
	Fault   *Fault  // nil for a call and an answer

	Err error // why it ends early; nil if all is there
}

// OpenLayers takes a recorded message apart: a request or an answer, sealed,
// signed, both, or plain.
func OpenLayers(doc []byte, keys ...*Opener) *Layers {
	l := &Layers{}
	l.Err = l.open(doc, keys)
	return l
}

func (l *Layers) open(doc []byte, keys []*Opener) (err error) {
	if rootOf(doc) == "encryptedmessage" {
		if l.Sealed, err = ParseSealed(doc); err != nil {
			return err
		}
		l.DataSize, l.KeyBits = len(l.Sealed.data), 8*len(l.Sealed.key)
		pairs := make([]*Key, len(keys))
		for i, key := range keys {
			pairs[i] = key.pair
		}
		opened, err := l.Sealed.Open(pairs...)
		if err != nil {
			return err
		}
		l.Opened, doc = &opened, opened.Plaintext
	}
	if rootOf(doc) == "signedmessage" {
		if l.Signed, err = ParseSigned(doc); err != nil {
			return err
		}
		l.labels(doc)
		doc = l.Signed.Payload
	}
	return l.read(doc)
}

// labels looks at what the signed layer says about itself.
func (l *Layers) labels(doc []byte) {
	l.SaysDSA = bytes.Contains(doc, []byte("xmldsig#dsa-sha1"))
	if fields, err := collect(doc, "signedMessage", "DigestValue"); err == nil && len(fields[0]) == 1 {
		digest := sha1.Sum(l.Signed.Payload)
		l.WrongDigest = string(bytes.TrimSpace(fields[0][0])) != hex.EncodeToString(digest[:])
	}
}

// read decodes the innermost document.
func (l *Layers) read(doc []byte) (err error) {
	switch rootOf(doc) {
	case "methodcall":
		l.Payload = doc
		l.Method, l.Params, err = DecodeCall(doc)
		return err
	case "methodresponse":
		l.Payload = doc
		l.Answer, err = DecodeResponse(doc)
		if fault, ok := errors.AsType[*Fault](err); ok {
			l.Fault, err = fault, nil
		}
		return err
	}
	if l.Sealed == nil && l.Signed == nil {
		return noMessage(doc)
	}
	l.Payload = doc
	return errors.New("the innermost document is not XML-RPC")
}

// noMessage says what doc is, if it is no message.
func noMessage(doc []byte) error {
	trimmed := bytes.TrimSpace(doc)
	switch root := rootOf(doc); {
	case root == "encryptedmessage", root == "signedmessage", root == "methodcall", root == "methodresponse":
		return nil
	case root == "html", len(trimmed) > 9 && bytes.EqualFold(trimmed[:9], []byte("<!doctype")):
		return fmt.Errorf("%w: it is a page of HTML", ErrNoMessage)
	case len(trimmed) == 0:
		return fmt.Errorf("%w: it is empty", ErrNoMessage)
	}
	return ErrNoMessage
}

// ErrNoMessage reports that something is neither an envelope nor XML-RPC.
var ErrNoMessage = errors.New("this is no message of MNet")

// Opener is a private key for OpenLayers.
type Opener struct {
	pair *Key // perhaps without certificate, so nobody else gets it
}

// Certificate returns the certificate that stood beside the private key, or
// nil.
func (o *Opener) Certificate() *gateway.Certificate { return o.pair.certificate }

// maxOpeners bounds the private keys of one file.
const maxOpeners = 32

// ParseOpeners reads all RSA private keys of a file, with the certificates
// that belong to them: PEM, one or more of Moodle's pairs (mnet/openssl and
// openssl_history in config_plugins), or bare DER in base64. Unlike ParseKey it
// takes what it finds: who wants to look into a recording has the key already.
func ParseOpeners(b []byte) ([]*Opener, error) {
	var found []*Opener
	var certificates []*gateway.Certificate
	var failed error
	// In a pair, and in PHP's serialised list of them, PEM begins within a line.
	lines := bytes.ReplaceAll(b, []byte("@@@@@@@@"), []byte("\n"))
	for rest := bytes.ReplaceAll(lines, []byte("-----BEGIN "), []byte("\n-----BEGIN ")); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		one := &Key{}
		switch err := one.add(block); {
		case err != nil:
			failed = err
		case one.private == nil:
			certificates = append(certificates, one.certificate)
		case len(found) == maxOpeners:
			return nil, errors.New("too many private keys")
		default:
			found = append(found, &Opener{pair: one})
		}
	}
	if len(found) == 0 && failed == nil {
		der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(b), nil)))
		one := &Key{}
		if err != nil || one.addPrivate(&pem.Block{Bytes: der}) != nil {
			return nil, errors.New("no private key in PEM, in Moodle's form or in base64")
		}
		found = append(found, &Opener{pair: one})
	}
	if len(found) == 0 {
		return nil, failed
	}
	for _, o := range found {
		for _, c := range certificates {
			if o.pair.private.PublicKey.Equal(c.PublicKey) {
				o.pair.certificate = c
			}
		}
	}
	return found, nil
}
