package audit

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The files beside the trail. The key is Ed25519 and made for nothing else: the
// site's MNet key changes every year, is named by a wire that knows SHA-1 only,
// and a directory may hold the trail of several sites.
const (
	keyFile    = "audit.key"    // PKCS #8 in PEM, for its owner alone
	publicFile = "audit.pub"    // PKIX in PEM, no secret
	secretFile = "audit.secret" // what usernames are hidden under
)

// Fingerprint names a public key: "SHA256:" and the hexadecimal SHA-256 of its
// PKIX form.
func Fingerprint(key ed25519.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic("audit: an Ed25519 key has no PKIX form: " + err.Error()) // cannot happen
	}
	sum := sha256.Sum256(der)
	return "SHA256:" + hex.EncodeToString(sum[:])
}

// loadKey reads the key in dir, or makes it.
func loadKey(dir string) (ed25519.PrivateKey, error) {
	text, err := loadOrCreate(filepath.Join(dir, keyFile), func() []byte {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			panic("audit: no random numbers: " + err.Error()) // cannot happen
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			panic("audit: an Ed25519 key has no PKCS #8 form: " + err.Error()) // cannot happen
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	})
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is no PEM file", keyFile)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s is no Ed25519 key", keyFile)
	}
	return key, publish(dir, key)
}

// publish writes the public key beside the trail, if it is not there.
func publish(dir string, key ed25519.PrivateKey) error {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	err = createFile(filepath.Join(dir, publicFile), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// ReadKey reads a public key: the file itself, or the one that lies beside a
// trail, in the directory dir, if file is empty.
func ReadKey(file, dir string) (ed25519.PublicKey, error) {
	if file == "" {
		file = filepath.Join(dir, publicFile)
	}
	text, err := readFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("%s is no public key in PEM", file)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	key, ok := parsed.(ed25519.PublicKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s is no Ed25519 key", file)
	}
	return key, nil
}

// Pseudonyms hides usernames under a secret: the same one always in the same
// way, for who has the secret alone.
type Pseudonyms struct{ secret []byte }

// NewPseudonyms returns pseudonyms that nobody can make again.
func NewPseudonyms() *Pseudonyms {
	p := &Pseudonyms{make([]byte, 32)}
	rand.Read(p.secret) // never fails
	return p
}

// OpenPseudonyms returns those of the trail in dir, whose secret is made if it
// is not there.
func OpenPseudonyms(dir string) (*Pseudonyms, error) {
	text, err := loadOrCreate(filepath.Join(dir, secretFile), func() []byte {
		return []byte(hex.EncodeToString(NewPseudonyms().secret) + "\n")
	})
	if err != nil {
		return nil, err
	}
	if len(text) < 64 {
		return nil, fmt.Errorf("%s has less than 64 characters", secretFile)
	}
	return &Pseudonyms{text}, nil
}

// HasPseudonyms reports whether the trail in dir has ever hidden usernames.
func HasPseudonyms(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, secretFile))
	return err == nil
}

// Of returns the pseudonym of a text: "hmac:" and the first half of its
// HMAC-SHA-256, in hexadecimal digits. That of nothing is nothing.
func (p *Pseudonyms) Of(text string) string {
	if text == "" {
		return ""
	}
	mac := hmac.New(sha256.New, p.secret)
	io.WriteString(mac, "jumpgate audit\x00"+text)
	return "hmac:" + hex.EncodeToString(mac.Sum(nil)[:16])
}

// loadOrCreate reads a secret file, or makes it. Of several processes, one
// wins and the others read what it wrote.
func loadOrCreate(name string, content func() []byte) ([]byte, error) {
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		if err := createFile(name, content(), 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	if info, err := os.Stat(name); err != nil {
		return nil, err
	} else if info.Mode().Perm()&0o077 != 0 && posix {
		return nil, fmt.Errorf("%s: its mode %04o lets others at it: chmod 600", name, info.Mode().Perm())
	}
	return readFile(name)
}

// createFile makes a file that nobody ever sees half written, or fails with
// fs.ErrExist.
func createFile(name string, content []byte, mode os.FileMode) error {
	dir := filepath.Dir(name)
	temp, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(content)
	if err = errors.Join(err, temp.Chmod(mode), ownAsDir(temp.Name(), dir), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), name); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a new name in dir survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readFile reads a key or secret, which are small.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}
