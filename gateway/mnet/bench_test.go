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

// compare times f, and in turns with it, on the same processor and in the same
// weather, the RSA private operations that no implementation can do without.
// The metric ratio says which part of the speed of those alone f reaches.
func compare(b *testing.B, operations, f func()) {
	var alone, whole time.Duration
	b.ReportAllocs() // of both
	for b.Loop() {
		start := time.Now()
		operations()
		middle := time.Now()
		f()
		alone += middle.Sub(start)
		whole += time.Since(middle)
	}
	b.ReportMetric(float64(whole.Nanoseconds())/float64(b.N), "ns/op")
	b.ReportMetric(float64(alone.Nanoseconds())/float64(b.N), "rsa-ns/op")
	b.ReportMetric(alone.Seconds()/whole.Seconds(), "ratio")
}

// privateOperations returns the two RSA private operations of a call and its
// answer: opening one, signing the other.
func privateOperations(b *testing.B, key *Key) (decrypt, sign func()) {
	digest := sha1.Sum([]byte("x"))
	ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, &key.private.PublicKey, make([]byte, 16)) //lint:ignore SA1019 the wire's
	if err != nil {
		b.Fatal(err)
	}
	session := make([]byte, 16)
	decrypt = func() {
		//lint:ignore SA1019 the wire's
		if err := rsa.DecryptPKCS1v15SessionKey(nil, key.private, ciphertext, session); err != nil {
			b.Fatal(err)
		}
	}
	sign = func() {
		if _, err := rsa.SignPKCS1v15(nil, key.private, crypto.SHA1, digest[:]); err != nil {
			b.Fatal(err)
		}
	}
	return decrypt, sign
}

// BenchmarkSeal signs and seals an answer: one private and one public RSA
// operation.
func BenchmarkSeal(b *testing.B) {
	doc := readCapture(b, "user_authorise/response.xmlrpc.xml")
	key, to := recordedKey(b, "idp"), recordedKey(b, "sp").Certificate()
	_, sign := privateOperations(b, key)
	compare(b, sign, func() {
		signed, err := Sign(doc, key, loadSite, time.Unix(1795336536, 0))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Seal(signed, to, loadSite); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkOpen opens, verifies and decodes a call: one private and one public
// RSA operation.
func BenchmarkOpen(b *testing.B) {
	doc := readCapture(b, "user_authorise/request.xml")
	key, from := recordedKey(b, "idp"), recordedKey(b, "sp").Certificate()
	decrypt, _ := privateOperations(b, key)
	compare(b, decrypt, func() {
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
	})
}

// BenchmarkServer answers a recorded call as a whole, with a method that costs
// nothing. What a login costs is measured in idp.
func BenchmarkServer(b *testing.B) {
	doc := string(readCapture(b, "user_authorise/request.xml"))
	s := newSite(b)
	answer, err := DecodeResponse(readCapture(b, "user_authorise/response.xmlrpc.xml"))
	if err != nil {
		b.Fatal(err)
	}
	s.Observe, s.Replays = nil, nil
	s.Methods = []Method{{Name: "auth/mnet/auth.php/user_authorise", Call: func(context.Context, *Call) (Value, error) { return answer, nil }}}
	decrypt, sign := privateOperations(b, recordedKey(b, "idp"))
	compare(b, func() { decrypt(); sign() }, func() {
		s.once.Do(s.init)
		s.budget = NewBudget() // or the clock would have to run
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader(doc)))
		if w.Code != 200 || w.Body.Len() < 5000 {
			b.Fatalf("status %d, %d bytes", w.Code, w.Body.Len())
		}
	})
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
