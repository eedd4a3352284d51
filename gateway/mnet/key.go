package mnet

import (
	"bytes"
	"crypto"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"slices"
	"sync"
	"time"

	"jumpgate/gateway"
)

// DefaultLifetime is how long the certificate of a new key says it is valid.
// Peers store the date and ignore it (section 2).
const DefaultLifetime = 365 * 24 * time.Hour

// Key is the key pair of a site: a private RSA key and the certificate that
// its peers know. It prints as its fingerprint.
type Key struct {
	certificate *gateway.Certificate
	private     *rsa.PrivateKey
	derived     sync.Map // label -> [32]byte
	archived    time.Time
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// NewKey makes an RSA key of 2048 bits and a self-signed certificate for site.
// Moodle wants the wwwroot in the subject twice (section 2): its first 64 bytes
// as the common name, all of it as a subjectAltName inside the subject.
func NewKey(site gateway.Wwwroot, now time.Time, lifetime time.Duration) (*Key, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("new key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("new key: %w", err)
	}
	name := site.String()
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject: pkix.Name{
			CommonName: name[:min(len(name), 64)],
			ExtraNames: []pkix.AttributeTypeAndValue{{Type: oidSubjectAltName, Value: name}},
		},
		NotBefore:          now,
		NotAfter:           now.Add(lifetime),
		SignatureAlgorithm: x509.SHA256WithRSA,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, fmt.Errorf("new key: %w", err)
	}
	certificate, err := gateway.ParseCertificateDER(der)
	if err != nil {
		return nil, fmt.Errorf("new key: %w", err)
	}
	return &Key{certificate: certificate, private: private}, nil
}

// ParseKey reads one certificate and its private key (PKCS #8 or PKCS #1) from
// PEM in any order, or the pair that Moodle keeps in config_plugins
// (mnet/openssl): "certificate@@@@@@@@private key".
func ParseKey(b []byte) (*Key, error) {
	var key Key
	rest := bytes.ReplaceAll(b, []byte("@@@@@@@@"), []byte("\n"))
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if err := key.add(block); err != nil {
			return nil, err
		}
	}
	switch {
	case key.certificate == nil:
		return nil, errors.New("no PEM certificate")
	case key.private == nil:
		return nil, errors.New("no PEM private key")
	case !key.private.PublicKey.Equal(key.certificate.PublicKey):
		return nil, errors.New("the private key does not belong to the certificate")
	}
	return &key, nil
}

func (k *Key) add(block *pem.Block) error {
	switch block.Type {
	case "CERTIFICATE":
		if k.certificate != nil {
			return errors.New("more than one certificate")
		}
		var err error
		k.certificate, err = gateway.ParseCertificateDER(block.Bytes)
		return err
	case "PRIVATE KEY", "RSA PRIVATE KEY":
		if k.private != nil {
			return errors.New("more than one private key")
		}
		return k.addPrivate(block)
	case "ENCRYPTED PRIVATE KEY":
		return errors.New("the private key is encrypted with a passphrase")
	}
	return fmt.Errorf("unexpected PEM block %.40q", block.Type)
}

// addPrivate keeps the errors of the parsers to itself: they might quote the
// key.
func (k *Key) addPrivate(block *pem.Block) error {
	// Both parsers check the numbers, which takes a while: not for keys that
	// no certificate could hold.
	if len(block.Bytes) > 8<<10 || block.Headers["DEK-Info"] != "" {
		return errors.New("the private key is too large or encrypted")
	}
	// Labels are often wrong, and OpenSSL does not mind either.
	if rsaKey, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		k.private = rsaKey
		return nil
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return errors.New("malformed private key")
	}
	var ok bool
	if k.private, ok = private.(*rsa.PrivateKey); !ok {
		return fmt.Errorf("private key is a %T, MNet needs RSA", private)
	}
	return nil
}

// LoadOrCreateKey reads the key of site from a file, or makes one with
// DefaultLifetime if the file does not exist; created says which. Two
// processes may do so at once on a shared folder: both end with the same key.
// It refuses a file that anybody but its owner and group may read, and a key whose
// certificate names neither the site nor an alias.
func LoadOrCreateKey(file string, site gateway.Wwwroot, now time.Time, aliases ...gateway.Wwwroot) (key *Key, created bool, err error) {
	key, err = LoadKey(file, site, aliases...)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	if key, err = NewKey(site, now, DefaultLifetime); err != nil {
		return nil, false, err
	}
	switch err := createFile(file, key.PEM(), 0o600); {
	case errors.Is(err, fs.ErrExist): // somebody else was faster
		key, err = LoadKey(file, site, aliases...)
		return key, false, err
	case err != nil:
		return nil, false, fmt.Errorf("key: %w", err)
	}
	return key, true, nil
}

// ErrOtherSite reports a key whose certificate names neither the site nor one of
// its aliases.
var ErrOtherSite = errors.New("its certificate names another site")

// LoadKey reads the key of site from a file: PEM or a pair as Moodle stores
// it. It refuses a file that anybody but its owner and group may read,
// and a key whose certificate names neither the site nor an alias. One that
// names an alias is good for peers that know the site by it.
func LoadKey(file string, site gateway.Wwwroot, aliases ...gateway.Wwwroot) (*Key, error) {
	b, info, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		return nil, fmt.Errorf("key %s: its mode %04o lets others at it, not 0600 or 0640", file, mode)
	}
	key, err := ParseKey(b)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", file, err)
	}
	if !key.certificate.Names(site) && !key.certificate.Names(aliases...) {
		return nil, fmt.Errorf("key %s: %w than %s", file, ErrOtherSite, site)
	}
	return key, nil
}

// Certificate returns the public half.
func (k *Key) Certificate() *gateway.Certificate { return k.certificate }

// PEM returns certificate and private key (PKCS #8), as ParseKey reads them.
func (k *Key) PEM() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		panic("mnet: an RSA key has no PKCS #8 form: " + err.Error()) // cannot happen
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return slices.Concat([]byte(k.certificate.PEM()), private)
}

// Derive returns a secret for one purpose, named by label, that all gateways
// with this key share: HKDF-SHA-256 (RFC 5869) over the private key.
func (k *Key) Derive(label string) [32]byte {
	if known, ok := k.derived.Load(label); ok {
		return known.([32]byte)
	}
	secret, err := hkdf.Key(sha256.New, x509.MarshalPKCS1PrivateKey(k.private), nil, "jumpgate "+label, 32)
	if err != nil {
		panic("mnet: HKDF-SHA-256 has no 32 bytes: " + err.Error()) // cannot happen
	}
	k.derived.Store(label, [32]byte(secret))
	return [32]byte(secret)
}

// Archived returns when a Keyring put the key away for another one, or the zero
// time for its current key.
func (k *Key) Archived() time.Time { return k.archived }

// SignSHA256 signs a message of ours, which is none of MNet's: RSASSA-PKCS1-v1_5
// with SHA-256, what JWTs call RS256. MNet's signatures are made with SHA-1, so
// that neither can be taken for the other.
func (k *Key) SignSHA256(message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	signature, err := rsa.SignPKCS1v15(nil, k.private, crypto.SHA256, digest[:])
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return signature, nil
}

// String returns the fingerprint of the certificate.
func (k *Key) String() string { return "key " + k.certificate.Fingerprint().String() }

// GoString keeps the private key out of %#v.
func (k *Key) GoString() string { return k.String() }
