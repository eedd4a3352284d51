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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
	"jumpgate/gateway/store/redistest"
	"jumpgate/idp"
)

// BenchmarkUserAuthorise redeems tokens as peers do: a sealed call goes into
// the endpoint, with replays refused and the token burnt in a redis-server
// or the embedded one, and a sealed answer comes out. Calls come by 4 at a time,
// so that with -cpu 1 the core is busy while some wait for Redis. In turns with
// them it times the two RSA private operations that no implementation can do
// without. The metric ratio says which part of the speed of those alone is
// reached; with -cpu 1 it is that of one core. An operation is a turn of each, of
// 100.
func BenchmarkUserAuthorise(b *testing.B) {
	b.Run("redis-server", func(b *testing.B) { userAuthorise(b, "unix://"+redistest.Socket(b)) })
	b.Run("embedded", func(b *testing.B) { userAuthorise(b, store.Embedded) })
}

func userAuthorise(b *testing.B, redis string) {
	const turn, workers = 100, 4
	var clock atomic.Int64
	now := func() time.Time { return time.Unix(1795336536, clock.Load()) }
	h := newHome(b, store.Limits{}, func(h *home, o *idp.Options) {
		opened, err := store.Open(store.Options{Addr: redis, Now: now})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { opened.Close() })
		h.state = opened.Site(o.Site)
		o.Store = h.state
	})
	peer := h.Peers.Find("https://sp.test")
	ours, theirs := newKey(b, h.Site), newKey(b, peer.Wwwroot)
	server := &mnet.Server{
		Site: h.Site, Keys: func() []*mnet.Key { return []*mnet.Key{ours} }, Methods: h.Methods(), Replays: h.state, Now: now,
		Peer: func(_ context.Context, wwwroot string) (*gateway.Peer, *gateway.Certificate, error) {
			return h.Peers.Exact(wwwroot), theirs.Certificate(), nil
		},
	}
	sum := sha1.Sum([]byte(firefox))
	userAgent := hex.EncodeToString(sum[:])
	call := func() []byte {
		token, err := h.state.Mint(b.Context(), store.Grant{
			User: ada, Peer: peer.Wwwroot, UserAgent: userAgent, Home: "sealed", HomeHash: store.HomeHash(ada.Username),
		})
		if err != nil {
			b.Fatal(err)
		}
		return seal(b, mnet.EncodeCall("auth/mnet/auth.php/user_authorise", token, userAgent), theirs, ours, peer.Wwwroot, now())
	}
	answer := func(body []byte) {
		clock.Add(int64(10 * time.Millisecond)) // slow enough for the endpoint's limits
		w := httptest.NewRecorder()
		server.ServeHTTP(w, httptest.NewRequest("POST", "/mnet/xmlrpc/server.php", bytes.NewReader(body)))
		if w.Code != 200 || w.Body.Len() < 4000 { // a fault is shorter
			b.Errorf("status %d: %s", w.Code, w.Body)
		}
	}
	operations := privateOperations(b, ours)
	var alone, whole time.Duration
	for b.Loop() {
		calls := make(chan []byte, turn)
		for range turn {
			calls <- call()
		}
		close(calls)
		start := time.Now()
		for range turn {
			operations()
		}
		middle := time.Now()
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				for body := range calls {
					answer(body)
				}
			})
		}
		all.Wait()
		alone += middle.Sub(start)
		whole += time.Since(middle)
	}
	n := float64(b.N * turn)
	b.ReportMetric(float64(whole.Nanoseconds())/n, "ns/call")
	b.ReportMetric(float64(alone.Nanoseconds())/n, "rsa-ns/call")
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
