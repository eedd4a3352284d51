package store

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/netip"
	"sync"
	"testing"
	"time"

	"jumpgate/gateway"
)

// strangersKey is one key for all certificates of these tests.
var strangersKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 1024) })

// request is what site n asks from an address, with a certificate named by key.
func request(t *testing.T, n int, key string, addr string) Request {
	t.Helper()
	private, err := strangersKey()
	if err != nil {
		t.Fatal(err)
	}
	w := mustWwwroot(fmt.Sprintf("https://stranger%d.example", n))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: w.String(), SerialNumber: key}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := gateway.ParseCertificateDER(der)
	if err != nil {
		t.Fatal(err)
	}
	return Request{Wwwroot: w, Application: gateway.Moodle, Certificate: cert, Addr: netip.MustParseAddr(addr)}
}

// ask asks and wants an answer.
func (f fixture) ask(t *testing.T, r Request, want Asked) {
	t.Helper()
	f.clock.advance(time.Second)
	got, err := f.Ask(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%s from %s: answer %d, want %d", r.Wwwroot, r.Addr, got, want)
	}
}

// waiting returns what waits, newest first.
func (f fixture) waiting(t *testing.T) []Request {
	t.Helper()
	requests, err := f.again().Requests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return requests
}

func TestARequestWaitsForAnAdministrator(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		if err := scriptRequest.Load(t.Context(), f.r.client).Err(); err != nil { // no part of the steady state
			t.Fatal(err)
		}
		first, second := request(t, 1, "a", "192.0.2.1"), request(t, 2, "a", "2001:db8::1")
		second.Application, second.NewKey = gateway.Mahara, true
		f.wantTrips(t, 1, func() { f.ask(t, first, AskedFirst) })
		f.ask(t, second, AskedFirst)
		got := f.waiting(t)
		if len(got) != 2 || got[0].Wwwroot != second.Wwwroot || got[1].Wwwroot != first.Wwwroot {
			t.Fatalf("waiting: %+v", got)
		}
		r := got[0]
		if r.Application != gateway.Mahara || !r.NewKey || r.Addr != second.Addr || r.Asked.Location() != time.UTC ||
			r.Certificate.Fingerprint() != second.Certificate.Fingerprint() || f.r.now().Sub(r.Asked).Abs() > time.Minute {
			t.Errorf("got %+v", r)
		}
		if err := f.Answer(t.Context(), second.Wwwroot); err != nil {
			t.Fatal(err)
		}
		if err := f.Answer(t.Context(), second.Wwwroot); err != nil {
			t.Fatal(err)
		}
		if got := f.waiting(t); len(got) != 1 || got[0].Wwwroot != first.Wwwroot {
			t.Errorf("after the answer: %+v", got)
		}
	})
}

func TestARequestIsForgottenAfterThirtyDays(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		f.ask(t, request(t, 1, "a", "192.0.2.1"), AskedFirst)
		ttl, err := f.r.client.PTTL(t.Context(), f.key(kindRequest, "")).Result()
		if err != nil || ttl > RequestLife || ttl < RequestLife-time.Minute {
			t.Errorf("kept for %s, %v", ttl, err)
		}
		f.clock.advance(RequestLife - 2*time.Second)
		if got := f.waiting(t); len(got) != 1 {
			t.Errorf("%d wait", len(got))
		}
		f.clock.advance(time.Second * 3)
		if got := f.waiting(t); len(got) != 0 {
			t.Errorf("%d wait for longer than a request may", len(got))
		}
		f.ask(t, request(t, 2, "a", "192.0.2.2"), AskedFirst)
		if n := f.r.client.HLen(t.Context(), f.key(kindRequest, "")).Val(); n != 1 {
			t.Errorf("%d are kept", n)
		}
	})
}

func TestNobodyDisplacesTheRequestOfAnother(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		honest := request(t, 0, "honest", "192.0.2.1")
		f.ask(t, honest, AskedFirst)

		// In its name with another certificate, and with its own one, which
		// is no secret.
		const flood = "198.51.100.1"
		f.ask(t, request(t, 0, "forged", flood), AskedFirst)
		again := honest
		again.Addr = netip.MustParseAddr(flood)
		f.ask(t, again, AskedAgain)
		for i := 1; i < 50; i++ {
			want := AskedFirst
			if i >= MaxRequestsPerAddress {
				want = AskedTooMuch
			}
			f.ask(t, request(t, i, "a", flood), want)
		}
		found := 0
		for _, r := range f.waiting(t) {
			if r.Wwwroot == honest.Wwwroot {
				found++
			}
		}
		if all := f.waiting(t); len(all) != 1+MaxRequestsPerAddress || found != 2 {
			t.Errorf("%d wait, %d of them in the name of the honest site", len(all), found)
		}

		// The addresses of one IPv6 network are one.
		for i := range 20 {
			want := AskedFirst
			if i >= MaxRequestsPerAddress {
				want = AskedTooMuch
			}
			f.ask(t, request(t, 100+i, "a", fmt.Sprintf("2001:db8::%x", i)), want)
		}
	})
}

func TestWhoAsksMostMakesRoom(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		honest := request(t, 0, "a", "192.0.2.1")
		f.ask(t, honest, AskedFirst)
		for i := range MaxRequests - 1 {
			f.ask(t, request(t, 1+i, "a", fmt.Sprintf("198.51.100.%d", i/2)), AskedFirst)
		}
		for i := range 40 {
			f.ask(t, request(t, 200+i, "a", fmt.Sprintf("203.0.113.%d", i)), AskedFirst)
		}
		all := f.waiting(t)
		if len(all) != MaxRequests || all[len(all)-1].Wwwroot != honest.Wwwroot {
			t.Errorf("%d wait, the oldest is %s", len(all), all[len(all)-1].Wwwroot)
		}
	})
}
