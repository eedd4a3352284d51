package mnet

import (
	"bytes"
	"crypto/rand"
	"crypto/rc4" // the wire's, section 3.2
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"jumpgate/gateway"
)

// sessionKeySize is what openssl_seal makes for RC4, in bytes (section 3.2).
const sessionKeySize = 16

// Sealed is an encryptedMessage (section 3.2).
type Sealed struct {
	Wwwroot string // what the sender claims to be

	data []byte // RC4
	key  []byte // RSA
}

// Opened is the content of a Sealed message.
type Opened struct {
	Plaintext []byte // a signedMessage or a bare XML-RPC document
	Key       int    // which of the keys given to Open fitted
	Nonce     [32]byte
}

// Seal returns doc in an encryptedMessage for the holder of to, under a fresh
// RC4 key. The layout is Moodle's: unprefixed names, the data before the key,
// one wwwroot (section 3.3).
func Seal(doc []byte, to *gateway.Certificate, from gateway.Wwwroot) ([]byte, error) {
	var sessionKey [sessionKeySize]byte
	rand.Read(sessionKey[:])
	//lint:ignore SA1019 MNet knows no other padding (section 3.2)
	sealedKey, err := rsa.EncryptPKCS1v15(rand.Reader, to.PublicKey, sessionKey[:])
	if err != nil {
		return nil, fmt.Errorf("seal message: %w", err)
	}
	stream, err := rc4.NewCipher(sessionKey[:])
	if err != nil {
		return nil, fmt.Errorf("seal message: %w", err)
	}
	data := make([]byte, len(doc))
	stream.XORKeyStream(data, doc)

	b := make([]byte, 0, 1500+len(data)*4/3+len(sealedKey)*4/3)
	b = append(b, `<?xml version="1.0" encoding="iso-8859-1"?>
    <encryptedMessage>
        <EncryptedData Id="ED" xmlns="http://www.w3.org/2001/04/xmlenc#">
            <EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#arcfour"/>
            <ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#">
                <ds:RetrievalMethod URI="#EK" Type="http://www.w3.org/2001/04/xmlenc#EncryptedKey"/>
                <ds:KeyName>XMLENC</ds:KeyName>
            </ds:KeyInfo>
            <CipherData>
                <CipherValue>`...)
	b = base64.StdEncoding.AppendEncode(b, data)
	b = append(b, `</CipherValue>
            </CipherData>
        </EncryptedData>
        <EncryptedKey Id="EK" xmlns="http://www.w3.org/2001/04/xmlenc#">
            <EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#rsa-1_5"/>
            <ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#">
                <ds:KeyName>SSLKEY</ds:KeyName>
            </ds:KeyInfo>
            <CipherData>
                <CipherValue>`...)
	b = base64.StdEncoding.AppendEncode(b, sealedKey)
	b = append(b, `</CipherValue>
            </CipherData>
            <ReferenceList>
                <DataReference URI="#ED"/>
            </ReferenceList>
            <CarriedKeyName>XMLENC</CarriedKeyName>
        </EncryptedKey>
        <wwwroot>`...)
	b = append(b, from.String()...)
	return append(b, `</wwwroot>
    </encryptedMessage>`...), nil
}

// ParseSealed reads an encryptedMessage without opening it. Like ParseSigned
// it finds elements as the stock receivers do and refuses repeated ones:
// exactly two CipherValue, the data first, and one wwwroot.
func ParseSealed(doc []byte) (*Sealed, error) {
	fields, err := collect(doc, "encryptedMessage", "CipherValue", "wwwroot")
	if err != nil {
		return nil, fmt.Errorf("sealed message: %w", err)
	}
	ciphers, senders := fields[0], fields[1]
	if len(ciphers) != 2 || len(senders) != 1 {
		return nil, fmt.Errorf("sealed message: %d elements CipherValue and %d wwwroot, not 2 and 1", len(ciphers), len(senders))
	}
	s := &Sealed{}
	if s.data, err = decodeBase64(ciphers[0]); err != nil {
		return nil, fmt.Errorf("sealed message: data: %w", err)
	}
	if s.key, err = decodeBase64(ciphers[1]); err != nil {
		return nil, fmt.Errorf("sealed message: key: %w", err)
	}
	if s.Wwwroot, err = parseSender(senders[0]); err != nil {
		return nil, fmt.Errorf("sealed message: %w", err)
	}
	return s, nil
}

// OpenCiphertexts opens the two ciphertexts of an encryptedMessage, the data
// under RC4 and the RC4 key under RSA, as Sealed.Open does. It is for the
// stand-ins of package moodletest: they find the two in an envelope as stock
// peers do, which is not as ParseSealed does.
func OpenCiphertexts(data, key []byte, keys ...*Key) (Opened, error) {
	return (&Sealed{data: data, key: key}).Open(keys...)
}

// ErrNotOpened reports that a message is sealed for none of the given keys, or
// is garbage: nobody can tell which (see Sealed.Open).
var ErrNotOpened = errors.New("the message is sealed for none of our keys")

// Open tries the keys in their order. It costs one RSA private operation for
// each key up to the one that fits.
//
// It is no padding oracle: where the padding is bad, a random RC4 key takes
// the place of the sealed one (RFC 8017, section 7.2.2, and the Go
// documentation of DecryptPKCS1v15SessionKey), and a message counts as opened
// only if its plaintext begins as one must. That takes 11 bytes, which a sender
// who does not know the RC4 key meets once in 2^81 attempts, so good and bad
// padding both end in the same garbage, the same time and ErrNotOpened.
func (s *Sealed) Open(keys ...*Key) (Opened, error) {
	plaintext := make([]byte, len(s.data))
	for i, key := range keys {
		var sessionKey [sessionKeySize]byte
		rand.Read(sessionKey[:])
		// The error says that the length is wrong for this key, which is no
		// secret; it goes the way of all other garbage.
		//lint:ignore SA1019 MNet knows no other padding (section 3.2)
		_ = rsa.DecryptPKCS1v15SessionKey(nil, key.private, s.key, sessionKey[:])
		stream, err := rc4.NewCipher(sessionKey[:])
		if err != nil {
			return Opened{}, fmt.Errorf("open message: %w", err)
		}
		stream.XORKeyStream(plaintext, s.data)
		if beginsLikeMessage(plaintext) {
			// The RC4 key, not the RSA ciphertext or the payload, names a
			// message: ciphertexts can be varied, payloads legitimately repeat.
			return Opened{Plaintext: plaintext, Key: i, Nonce: sha256.Sum256(sessionKey[:])}, nil
		}
	}
	return Opened{}, ErrNotOpened
}

// beginsLikeMessage reports whether b, after an XML declaration, begins with
// the root element of a signed or bare message.
func beginsLikeMessage(b []byte) bool {
	b = b[:min(len(b), 160)]
	if bytes.HasPrefix(b, []byte("<?xml")) {
		_, after, ok := bytes.Cut(b, []byte("?>"))
		if !ok {
			return false
		}
		b = after
	}
	b = bytes.TrimLeft(b, " \t\r\n")
	return bytes.HasPrefix(b, []byte("<signedMessage")) ||
		bytes.HasPrefix(b, []byte("<methodCall")) ||
		bytes.HasPrefix(b, []byte("<methodResponse"))
}
