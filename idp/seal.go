package idp

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
)

// Secrets returns the keys under which the ids of Moodle sessions are kept in
// Redis, where whoever reads them would be logged in: the first one seals, any
// of them opens. There is at least one.
type Secrets func() [][32]byte

// seal returns session as text without blanks, bound to whose it is. It is
// AES-256-GCM with a random nonce.
func (s Secrets) seal(session, whose string) string {
	sealed := aead(s()[0]).Seal(nil, nil, []byte(session), []byte(whose))
	return base64.RawURLEncoding.EncodeToString(sealed)
}

// open undoes seal.
func (s Secrets) open(text, whose string) (string, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return "", errors.New("sealed session is malformed")
	}
	for _, secret := range s() {
		if session, err := aead(secret).Open(nil, nil, sealed, []byte(whose)); err == nil {
			return string(session), nil
		}
	}
	return "", errors.New("no key of this site opens the sealed session")
}

func aead(secret [32]byte) cipher.AEAD {
	block, err := aes.NewCipher(secret[:])
	if err == nil {
		var gcm cipher.AEAD
		if gcm, err = cipher.NewGCMWithRandomNonce(block); err == nil {
			return gcm
		}
	}
	panic("idp: AES-256-GCM takes no key of 32 bytes: " + err.Error()) // cannot happen
}
