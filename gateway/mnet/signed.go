package mnet

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha1" // the wire's, section 3.1
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"jumpgate/gateway"
)

// Signed is a signedMessage (section 3.1). The signature covers Payload alone:
// Wwwroot and Timestamp are whatever the last hand to touch the message wrote.
type Signed struct {
	Payload   []byte // the XML-RPC document
	Signature []byte
	Wwwroot   string
	Timestamp time.Time
}

// Sign returns payload in a signedMessage. The layout, down to the XML
// declaration in front, is Moodle's: its client looks for the literal
// "<signedMessage>" in the first 100 bytes, but not at offset 0 (section 3.3).
func Sign(payload []byte, key *Key, from gateway.Wwwroot, at time.Time) ([]byte, error) {
	digest := sha1.Sum(payload)
	signature, err := rsa.SignPKCS1v15(nil, key.private, crypto.SHA1, digest[:])
	if err != nil {
		return nil, fmt.Errorf("sign message: %w", err)
	}
	b := make([]byte, 0, 1200+len(signature)*4/3+len(payload)*4/3+2*len(from.String()))
	b = append(b, `<?xml version="1.0" encoding="iso-8859-1"?>
    <signedMessage>
        <Signature Id="MoodleSignature" xmlns="http://www.w3.org/2000/09/xmldsig#">
            <SignedInfo>
                <CanonicalizationMethod Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315"/>
                <SignatureMethod Algorithm="http://www.w3.org/2000/09/xmldsig#rsa-sha1"/>
                <Reference URI="#XMLRPC-MSG">
                    <DigestMethod Algorithm="http://www.w3.org/2000/09/xmldsig#sha1"/>
                    <DigestValue>`...)
	b = hex.AppendEncode(b, digest[:])
	b = append(b, `</DigestValue>
                </Reference>
            </SignedInfo>
            <SignatureValue>`...)
	b = base64.StdEncoding.AppendEncode(b, signature)
	b = append(b, `</SignatureValue>
            <KeyInfo>
                <RetrievalMethod URI="`...)
	b = append(b, from.String()...)
	b = append(b, `/mnet/publickey.php"/>
            </KeyInfo>
        </Signature>
        <object ID="XMLRPC-MSG">`...)
	b = base64.StdEncoding.AppendEncode(b, payload)
	b = append(b, `</object>
        <wwwroot>`...)
	b = append(b, from.String()...)
	b = append(b, `</wwwroot>
        <timestamp>`...)
	b = strconv.AppendInt(b, at.Unix(), 10)
	return append(b, `</timestamp>
    </signedMessage>`...), nil
}

// ParseSigned reads a signedMessage without verifying it. Elements are found
// as the stock receivers find them, by qualified name in any letter case and
// at any depth (section 3.3); but where those join or overwrite repeated ones,
// ParseSigned refuses the message.
func ParseSigned(doc []byte) (*Signed, error) {
	fields, err := collect(doc, "signedMessage", "SignatureValue", "object", "wwwroot", "timestamp")
	if err != nil {
		return nil, fmt.Errorf("signed message: %w", err)
	}
	for i, f := range fields {
		if len(f) != 1 {
			return nil, fmt.Errorf("signed message: %d elements %s, not 1", len(f),
				[...]string{"SignatureValue", "object", "wwwroot", "timestamp"}[i])
		}
	}
	s := &Signed{}
	if s.Signature, err = decodeBase64(fields[0][0]); err != nil {
		return nil, fmt.Errorf("signed message: signature: %w", err)
	}
	if s.Payload, err = decodeBase64(fields[1][0]); err != nil {
		return nil, fmt.Errorf("signed message: object: %w", err)
	}
	if s.Wwwroot, err = parseSender(fields[2][0]); err != nil {
		return nil, fmt.Errorf("signed message: %w", err)
	}
	seconds, err := strconv.ParseInt(string(bytes.TrimSpace(fields[3][0])), 10, 64)
	if err != nil || seconds < 0 || seconds > maxTimestamp {
		return nil, errors.New("signed message: malformed timestamp")
	}
	s.Timestamp = time.Unix(seconds, 0)
	return s, nil
}

// maxTimestamp is the end of the year 9999: far enough away that no
// arithmetic on a timestamp overflows.
const maxTimestamp = 253402300799

// Verify reports whether the holder of c signed the payload: RSASSA-PKCS1-v1_5
// with SHA-1 over its bytes. No other part of the message is covered.
func (s *Signed) Verify(c *gateway.Certificate) error {
	digest := sha1.Sum(s.Payload)
	if err := rsa.VerifyPKCS1v15(c.PublicKey, crypto.SHA1, digest[:], s.Signature); err != nil {
		return ErrBadSignature
	}
	return nil
}

// ErrBadSignature reports that somebody else signed a message, or that it was
// changed on the way.
var ErrBadSignature = errors.New("the signature was not made with the pinned key")

// parseSender checks the text of a wwwroot element. It stays the string that
// was sent: MNet compares wwwroots byte by byte (section 1).
func parseSender(text []byte) (string, error) {
	if len(text) == 0 || len(text) > maxWwwroot {
		return "", errors.New("malformed wwwroot")
	}
	return string(text), nil
}

// collect returns the texts of the named elements, in document order.
func collect(doc []byte, root string, names ...string) ([][][]byte, error) {
	s, err := newScanner(doc)
	if err != nil {
		return nil, err
	}
	name, err := s.element()
	if err != nil {
		return nil, err
	}
	if !bytes.EqualFold(name, []byte(root)) {
		return nil, fmt.Errorf("xml: <%.40s> instead of <%s>", name, root)
	}
	found := make([][][]byte, len(names))
	for {
		t, err := s.next()
		if err != nil {
			return nil, err
		}
		if t.kind == tokenEOF {
			return found, nil
		}
		if t.kind != tokenStart {
			continue
		}
		for i, wanted := range names {
			if !bytes.EqualFold(t.name, []byte(wanted)) {
				continue
			}
			text, err := s.leaf()
			if err != nil {
				return nil, err
			}
			if found[i] = append(found[i], text); len(found[i]) > 2 {
				return nil, fmt.Errorf("xml: too many elements <%s>", wanted)
			}
			break
		}
	}
}

// decodeBase64 reads standard base64, in lines or not.
func decodeBase64(text []byte) ([]byte, error) {
	if bytes.ContainsAny(text, " \t") {
		text = bytes.Join(bytes.Fields(text), nil)
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(out, text)
	if err != nil {
		return nil, errors.New("malformed base64")
	}
	return out[:n], nil
}
