package mnet

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
)

var loadSite, _ = gateway.ParseWwwroot("http://idp.test:8080")

// BenchmarkSeal signs and seals an answer: one private and one public RSA
// operation.
func BenchmarkSeal(b *testing.B) {
	doc := readCapture(b, "user_authorise/response.xmlrpc.xml")
	key, to := recordedKey(b, "idp"), recordedKey(b, "sp").Certificate()
	b.ReportAllocs()
	for b.Loop() {
		signed, err := Sign(doc, key, loadSite, time.Unix(1795336536, 0))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Seal(signed, to, loadSite); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens, verifies and decodes a call: one private and one public
// RSA operation.
func BenchmarkOpen(b *testing.B) {
	doc := readCapture(b, "user_authorise/request.xml")
	key, from := recordedKey(b, "idp"), recordedKey(b, "sp").Certificate()
	b.ReportAllocs()
	for b.Loop() {
		sealed, err := ParseSealed(doc)
		if err != nil {
			b.Fatal(err)
		}
		opened, err := sealed.Open(key)
		if err != nil {
			b.Fatal(err)
		}
		signed, err := ParseSigned(opened.Plaintext)
		if err != nil {
			b.Fatal(err)
		}
		if err := signed.Verify(from); err != nil {
			b.Fatal(err)
		}
		if _, _, err := DecodeCall(signed.Payload); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRSA is what no implementation of an answered call can do without:
// two private operations.
func BenchmarkRSA(b *testing.B) {
	key := recordedKey(b, "idp")
	digest := sha1.Sum([]byte("x"))
	ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, &key.private.PublicKey, make([]byte, 16)) //lint:ignore SA1019 the wire's
	if err != nil {
		b.Fatal(err)
	}
	session := make([]byte, 16)
	b.ReportAllocs()
	for b.Loop() {
		//lint:ignore SA1019 the wire's
		if err := rsa.DecryptPKCS1v15SessionKey(nil, key.private, ciphertext, session); err != nil {
			b.Fatal(err)
		}
		if _, err := rsa.SignPKCS1v15(nil, key.private, crypto.SHA1, digest[:]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkServer answers a recorded call as a whole.
func BenchmarkServer(b *testing.B) {
	doc := string(readCapture(b, "user_authorise/request.xml"))
	s := newSite(b)
	answer, err := DecodeResponse(readCapture(b, "user_authorise/response.xmlrpc.xml"))
	if err != nil {
		b.Fatal(err)
	}
	s.Observe, s.Replays = nil, nil
	s.Methods = []Method{{Name: "auth/mnet/auth.php/user_authorise", Call: func(context.Context, *Call) (Value, error) { return answer, nil }}}
	b.ReportAllocs()
	for b.Loop() {
		s.once.Do(s.init)
		s.budget = newBudget() // or the clock would have to run
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader(doc)))
		if w.Code != 200 || w.Body.Len() < 5000 {
			b.Fatalf("status %d, %d bytes", w.Code, w.Body.Len())
		}
	}
}

// BenchmarkScan reads the largest envelope that is accepted.
func BenchmarkScan(b *testing.B) {
	doc := sealedDocument("http://sp.test:8090", make([]byte, MaxBody*3/4-1000), make([]byte, 256))
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseSealed(doc); err != nil {
			b.Fatal(err)
		}
	}
}
