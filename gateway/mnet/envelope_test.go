package mnet

import (
	"bytes"
	"crypto/rand"
	"crypto/rc4"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestAnEnvelopeOpensWithTheRightKeyAlone(t *testing.T) {
	idp, sp := recordedKey(t, "idp"), recordedKey(t, "sp")
	from := wwwroot(t, "http://sp.test:8090")
	at := time.Unix(1795336536, 0)
	payload := EncodeCall("system/listServices")
	sealed, err := ParseSealed(envelope(t, payload, sp, idp, from, at))
	if err != nil {
		t.Fatal(err)
	}
	if sealed.Wwwroot != from.String() {
		t.Errorf("outer wwwroot %q", sealed.Wwwroot)
	}
	if _, err := sealed.Open(sp, recordedKey(t, "stranger")); !errors.Is(err, ErrNotOpened) {
		t.Errorf("with wrong keys: %v", err)
	}
	opened, err := sealed.Open(sp, idp)
	if err != nil || opened.Key != 1 {
		t.Fatalf("opened by key %d, error %v", opened.Key, err)
	}
	signed, err := ParseSigned(opened.Plaintext)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(signed.Payload, payload) || signed.Wwwroot != from.String() || !signed.Timestamp.Equal(at) {
		t.Errorf("signed message %+v", signed)
	}
	if err := signed.Verify(sp.Certificate()); err != nil {
		t.Error(err)
	}
	if err := signed.Verify(idp.Certificate()); err == nil {
		t.Error("another certificate verifies the signature")
	}
	signed.Payload[0] ^= 1
	if err := signed.Verify(sp.Certificate()); err == nil {
		t.Error("a changed payload verifies")
	}
}

func TestTheNonceNamesTheMessageNotItsWrapping(t *testing.T) {
	key := recordedKey(t, "idp")
	from := wwwroot(t, "http://sp.test:8090")
	doc := []byte("<methodCall></methodCall>")
	open := func(sealed []byte) Opened {
		t.Helper()
		s, err := ParseSealed(sealed)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := s.Open(key)
		if err != nil {
			t.Fatal(err)
		}
		return opened
	}
	first := open(seal(t, doc, key, from))
	if second := open(seal(t, doc, key, from)); first.Nonce == second.Nonce {
		t.Error("two messages of one payload share a nonce")
	}
	// The same RC4 key under two RSA ciphertexts is the same message.
	session := bytes.Repeat([]byte{7}, sessionKeySize)
	if got := open(handMade(t, key, doc, session)); got.Nonce != sha256.Sum256(session) ||
		got.Nonce != open(handMade(t, key, doc, session)).Nonce {
		t.Error("the nonce is not the hash of the RC4 key")
	}
}

// handMade seals doc under a chosen RC4 key.
func handMade(t testing.TB, to *Key, doc, session []byte) []byte {
	t.Helper()
	stream, err := rc4.NewCipher(session)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, len(doc))
	stream.XORKeyStream(data, doc)
	key, err := rsa.EncryptPKCS1v15(rand.Reader, &to.private.PublicKey, session) //lint:ignore SA1019 the wire's
	if err != nil {
		t.Fatal(err)
	}
	return sealedDocument("http://sp.test:8090", data, key)
}

func sealedDocument(from string, data, key []byte) []byte {
	return []byte("<encryptedMessage><CipherValue>" + base64.StdEncoding.EncodeToString(data) +
		"</CipherValue><CipherValue>" + base64.StdEncoding.EncodeToString(key) +
		"</CipherValue><wwwroot>" + from + "</wwwroot></encryptedMessage>")
}

func TestGarbageBadPaddingAndWrongKeysFailAlike(t *testing.T) {
	key := recordedKey(t, "idp")
	bad := make([]byte, 256)
	bad[255] = 2
	short, err := rsa.EncryptPKCS1v15(rand.Reader, &key.private.PublicKey, []byte("8 bytes.")) //lint:ignore SA1019 the wire's
	if err != nil {
		t.Fatal(err)
	}
	good, err := ParseSealed(handMade(t, key, []byte("neither XML nor anything"), make([]byte, 16)))
	if err != nil {
		t.Fatal(err)
	}
	for name, sealed := range map[string]*Sealed{
		"bad padding":                {data: make([]byte, 500), key: bad},
		"a session key of 8 bytes":   {data: make([]byte, 500), key: short},
		"a short ciphertext":         {data: make([]byte, 500), key: []byte{1}},
		"no ciphertext":              {data: make([]byte, 500)},
		"a number above the modulus": {data: make([]byte, 500), key: bytes.Repeat([]byte{255}, 256)},
		"good padding, garbage":      good,
		"no data":                    {key: good.key},
	} {
		if _, err := sealed.Open(key); err != ErrNotOpened {
			t.Errorf("%s: %v, want ErrNotOpened itself", name, err)
		}
	}
}

func TestAmbiguousEnvelopesAreRefused(t *testing.T) {
	const signed = `<?xml version="1.0"?><signedMessage><SignatureValue>YQ==</SignatureValue><object>YQ==</object><wwwroot>http://a.test</wwwroot><timestamp>5</timestamp></signedMessage>`
	const sealed = `<encryptedMessage><CipherValue>YQ==</CipherValue><CipherValue>YQ==</CipherValue><wwwroot>http://a.test</wwwroot></encryptedMessage>`
	if _, err := ParseSigned([]byte(signed)); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseSealed([]byte(sealed)); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string][2]string{
		"two wwwroots":                {"</wwwroot>", "</wwwroot><wwwroot>http://b.test</wwwroot>"},
		"two wwwroots in two cases":   {"</wwwroot>", "</wwwroot><WWWROOT>http://b.test</WWWROOT>"},
		"two timestamps":              {"<timestamp>", "<timestamp>6</timestamp><timestamp>"},
		"two objects":                 {"<object>", "<object>YQ==</object><object>"},
		"two signatures":              {"<object>", "<SignatureValue>YQ==</SignatureValue><object>"},
		"three ciphers":               {"<CipherValue>", "<CipherValue>YQ==</CipherValue><CipherValue>"},
		"one cipher":                  {"<CipherValue>YQ==</CipherValue>", ""},
		"a wwwroot inside a wwwroot":  {"http://a.test", "http://a.test<x/>"},
		"a prefixed cipher":           {"<CipherValue>YQ==</CipherValue>", "<xenc:CipherValue>YQ==</xenc:CipherValue>"},
		"no wwwroot":                  {"<wwwroot>http://a.test</wwwroot>", ""},
		"an empty wwwroot":            {"http://a.test", ""},
		"a long wwwroot":              {"http://a.test", "http://" + strings.Repeat("a", 249)},
		"no timestamp":                {"<timestamp>5</timestamp>", ""},
		"a negative timestamp":        {">5<", ">-5<"},
		"a timestamp without end":     {">5<", ">99999999999999999999<"},
		"a far timestamp":             {">5<", ">253402300800<"},
		"no object":                   {"<object>YQ==</object>", ""},
		"an object that is no base64": {"<object>YQ==", "<object>Y!=="},
		"a document type":             {"?>", "?><!DOCTYPE signedMessage>"},
	} {
		tried := false
		if doc := strings.Replace(signed, edit[0], edit[1], 1); doc != signed {
			tried = true
			if _, err := ParseSigned([]byte(doc)); err == nil {
				t.Errorf("signed message with %s is accepted", name)
			}
		}
		if doc := strings.Replace(sealed, edit[0], edit[1], 1); doc != sealed {
			tried = true
			if _, err := ParseSealed([]byte(doc)); err == nil {
				t.Errorf("sealed message with %s is accepted", name)
			}
		}
		if !tried {
			t.Errorf("%s changes nothing", name)
		}
	}
}

func TestBase64MayComeInLinesAndBlanks(t *testing.T) {
	for _, text := range []string{"aGVsbG8=", "aGVs\nbG8=", "aGVs\r\nbG8=\r\n", "  aGVs\n\t bG8= "} {
		if b, err := decodeBase64([]byte(text)); err != nil || string(b) != "hello" {
			t.Errorf("%q: %q, %v", text, b, err)
		}
	}
}
