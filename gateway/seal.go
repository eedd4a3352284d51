package gateway

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
)

// Secrets returns keys that seal what is kept with others, such as the ids of
// Moodle sessions in Redis, where whoever reads them would be logged in: the
// first one seals, any of them opens. There is at least one.
type Secrets func() [][32]byte

// Seal returns secret as text without blanks, bound to whose it is. It is
// AES-256-GCM with a random nonce.
func (s Secrets) Seal(secret, whose string) string {
	sealed := aead(s()[0]).Seal(nil, nil, []byte(secret), []byte(whose))
	return base64.RawURLEncoding.EncodeToString(sealed)
}

// Open undoes Seal.
func (s Secrets) Open(text, whose string) (string, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return "", errors.New("what is sealed is malformed")
	}
	for _, key := range s() {
		if secret, err := aead(key).Open(nil, nil, sealed, []byte(whose)); err == nil {
			return string(secret), nil
		}
	}
	return "", errors.New("no key of this site opens what is sealed")
}

func aead(key [32]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err == nil {
		var gcm cipher.AEAD
		if gcm, err = cipher.NewGCMWithRandomNonce(block); err == nil {
			return gcm
		}
	}
	panic("gateway: AES-256-GCM takes no key of 32 bytes: " + err.Error()) // cannot happen
}
