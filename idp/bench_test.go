package idp_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/http/httptest"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
)

// BenchmarkUserAuthorise redeems tokens as peers do: a sealed call goes into
// the endpoint, with replays refused and the token burnt in the embedded
// Redis, and a sealed answer comes out. In turns with it, on the same
// processor, it times the two RSA private operations that no implementation
// can do without. The metric ratio says which part of the speed of those alone
// is reached; with -cpu 1 it is that of one core.
func BenchmarkUserAuthorise(b *testing.B) {
	h := newHome(b, store.Limits{})
	peer := h.Peers.Find("https://sp.test")
	ours, theirs := newKey(b, h.Site), newKey(b, peer.Wwwroot)
	server := &mnet.Server{
		Site: h.Site, Keys: func() []*mnet.Key { return []*mnet.Key{ours} }, Methods: h.Methods(), Replays: h.state, Now: func() time.Time { return h.now },
		Peer: func(_ context.Context, wwwroot string) (*gateway.Peer, *gateway.Certificate, error) {
			return h.Peers.Exact(wwwroot), theirs.Certificate(), nil
		},
	}
	sum := sha1.Sum([]byte(firefox))
	userAgent := hex.EncodeToString(sum[:])
	operations := privateOperations(b, ours)
	var alone, whole time.Duration
	for b.Loop() {
		h.now = h.now.Add(10 * time.Millisecond) // slow enough for the endpoint's limits
		token, err := h.state.Mint(b.Context(), store.Grant{User: ada, Peer: peer.Wwwroot, UserAgent: userAgent})
		if err != nil {
			b.Fatal(err)
		}
		call := mnet.EncodeCall("auth/mnet/auth.php/user_authorise", token, userAgent)
		r := httptest.NewRequest("POST", "/mnet/xmlrpc/server.php", bytes.NewReader(seal(b, call, theirs, ours, peer.Wwwroot, h.now)))
		w := httptest.NewRecorder()

		start := time.Now()
		operations()
		middle := time.Now()
		server.ServeHTTP(w, r)
		alone += middle.Sub(start)
		whole += time.Since(middle)

		if w.Code != 200 || w.Body.Len() < 4000 { // a fault is shorter
			b.Fatalf("status %d: %s", w.Code, w.Body)
		}
	}
	b.ReportMetric(float64(whole.Nanoseconds())/float64(b.N), "ns/op")
	b.ReportMetric(float64(alone.Nanoseconds())/float64(b.N), "rsa-ns/op")
	b.ReportMetric(alone.Seconds()/whole.Seconds(), "ratio")
}

func newKey(b *testing.B, site gateway.Wwwroot) *mnet.Key {
	b.Helper()
	key, err := mnet.NewKey(site, time.Now(), mnet.DefaultLifetime)
	if err != nil {
		b.Fatal(err)
	}
	return key
}

func seal(b *testing.B, doc []byte, by, to *mnet.Key, from gateway.Wwwroot, at time.Time) []byte {
	b.Helper()
	signed, err := mnet.Sign(doc, by, from, at)
	if err != nil {
		b.Fatal(err)
	}
	sealed, err := mnet.Seal(signed, to.Certificate(), from)
	if err != nil {
		b.Fatal(err)
	}
	return sealed
}

// privateOperations returns one decryption and one signature with a key.
func privateOperations(b *testing.B, key *mnet.Key) func() {
	b.Helper()
	_, rest := pem.Decode(key.PEM())
	block, _ := pem.Decode(rest)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		b.Fatal(err)
	}
	private := parsed.(*rsa.PrivateKey)
	digest := sha1.Sum([]byte("x"))
	ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, &private.PublicKey, make([]byte, 16)) //lint:ignore SA1019 the wire's
	if err != nil {
		b.Fatal(err)
	}
	session := make([]byte, 16)
	return func() {
		//lint:ignore SA1019 the wire's
		err := rsa.DecryptPKCS1v15SessionKey(nil, private, ciphertext, session)
		if err == nil {
			_, err = rsa.SignPKCS1v15(nil, private, crypto.SHA1, digest[:])
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
