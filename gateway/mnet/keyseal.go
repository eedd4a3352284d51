package mnet

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"jumpgate/gateway"
)

// MinSecret is the least length, in bytes, of a secret under which keys travel.
const MinSecret = 32

// keyCipher returns what seals the keys of a site: AES-256-GCM under a key
// that HKDF-SHA-256 makes of the secret.
func keyCipher(secret []byte, site gateway.Wwwroot) (cipher.AEAD, error) {
	if len(secret) < MinSecret {
		return nil, fmt.Errorf("the secret for keys is shorter than %d bytes", MinSecret)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "jumpgate travelling key "+site.String(), 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// sealKey encrypts a key of site for its other gateways.
func sealKey(key *Key, secret []byte, site gateway.Wwwroot) ([]byte, error) {
	aead, err := keyCipher(secret, site)
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	f := key.certificate.Fingerprint()
	return aead.Seal(nil, nil, key.PEM(), f[:]), nil
}

// openKey returns the key with fingerprint f that sealKey sealed.
func openKey(sealed, secret []byte, site gateway.Wwwroot, f gateway.Fingerprint, aliases ...gateway.Wwwroot) (*Key, error) {
	aead, err := keyCipher(secret, site)
	if err != nil {
		return nil, err
	}
	pem, err := aead.Open(nil, nil, sealed, f[:])
	if err != nil {
		return nil, errors.New("it was sealed under another secret")
	}
	key, err := ParseKey(pem)
	if err != nil {
		return nil, err
	}
	if key.certificate.Fingerprint() != f || !key.certificate.Names(site) && !key.certificate.Names(aliases...) {
		return nil, errors.New("it is another key than its name says")
	}
	return key, nil
}
