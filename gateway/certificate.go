package gateway

import (
	"bytes"
	"cmp"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Fingerprint is the SHA-256 of a certificate's DER: what is pinned.
type Fingerprint [sha256.Size]byte

// ParseFingerprint reads "SHA256:" and 64 hexadecimal digits, with or without
// colons between the bytes, as openssl prints them.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	digits, ok := strings.CutPrefix(strings.ToUpper(s), "SHA256:")
	b, err := hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
	if !ok || err != nil || len(b) != len(f) {
		return f, fmt.Errorf("%q is not SHA256: and 64 hexadecimal digits", s)
	}
	if copy(f[:], b); f.IsZero() {
		return f, errors.New("a fingerprint of noughts is no fingerprint")
	}
	return f, nil
}

// String returns "SHA256:" and 64 lower-case hexadecimal digits.
func (f Fingerprint) String() string { return "SHA256:" + hex.EncodeToString(f[:]) }

// IsZero reports whether nothing is pinned.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// Certificate is the MNet certificate of a site: an RSA key and the names it
// claims. Nobody checks its chain, signature or validity (protocol page,
// section 2); trust comes from the pinned fingerprint.
type Certificate struct {
	DER       []byte
	PublicKey *rsa.PublicKey
	NotBefore time.Time
	NotAfter  time.Time

	commonName string
	altName    string // the RDN 2.5.29.17 inside the subject, which Moodle writes
}

// maxRSABits bounds the work that a peer's key can ask of us.
const maxRSABits = 8192

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// ParseCertificate reads the first PEM block of b.
func ParseCertificate(b []byte) (*Certificate, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM certificate")
	}
	return ParseCertificateDER(block.Bytes)
}

// ParseCertificateDER reads a certificate from its DER.
func ParseCertificateDER(der []byte) (*Certificate, error) {
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	key, ok := parsed.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("certificate holds a %s key, MNet needs RSA", parsed.PublicKeyAlgorithm)
	}
	if bits := key.N.BitLen(); bits < 1024 || bits > maxRSABits {
		return nil, fmt.Errorf("certificate holds an RSA key of %d bits, not 1024 to %d", bits, maxRSABits)
	}
	c := &Certificate{
		DER: bytes.Clone(parsed.Raw), PublicKey: key,
		NotBefore: parsed.NotBefore, NotAfter: parsed.NotAfter,
		commonName: parsed.Subject.CommonName,
	}
	for _, name := range parsed.Subject.Names {
		if name.Type.Equal(oidSubjectAltName) {
			c.altName, _ = name.Value.(string)
		}
	}
	return c, nil
}

// Fingerprint returns the SHA-256 of the DER.
func (c *Certificate) Fingerprint() Fingerprint { return sha256.Sum256(c.DER) }

// PEM returns the certificate in the canonical layout that peers compare
// (protocol page, section 2): lines of exactly 64 characters.
func (c *Certificate) PEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER}))
}

// Name returns the wwwroot that the subject claims, unchecked: all of it from a
// Moodle, its first 64 bytes from others. Show it quoted.
func (c *Certificate) Name() string { return cmp.Or(c.altName, c.commonName) }

// Names reports whether the certificate's subject names one of the wwwroots by
// Moodle's rule (protocol page, section 2): a subjectAltName inside the subject
// must equal the wwwroot, and the common name its first 64 bytes. A Moodle that
// moves keeps its certificate, with its old name, until that expires.
func (c *Certificate) Names(wwwroots ...Wwwroot) bool {
	return slices.ContainsFunc(wwwroots, func(w Wwwroot) bool {
		s := w.String()
		return (c.altName == "" || c.altName == s) && c.commonName == s[:min(len(s), 64)]
	})
}
