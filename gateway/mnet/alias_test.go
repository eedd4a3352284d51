package mnet

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"jumpgate/gateway"
)

// A peer that has moved may go on calling itself by its old name.

func TestAClientTakesAnswersUnderAnAlias(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	now := time.Unix(1795336536, 0)
	c.Now = func() time.Time { return now }
	me, old, other := r.peer.Wwwroot, wwwroot(t, "http://old.test"), wwwroot(t, "http://other.test")
	r.peer.Aliases = []gateway.Wwwroot{old}
	for _, test := range []struct {
		inside, outside gateway.Wwwroot
		ok              bool
	}{
		{old, old, true}, {me, me, true}, {old, me, false}, {me, old, false}, {other, other, false},
	} {
		signed, err := Sign(EncodeResponse("ok"), r.key, test.inside, now)
		if err != nil {
			t.Fatal(err)
		}
		answer := seal(t, signed, c.Keys()[0], test.outside)
		r.answer = func(w http.ResponseWriter, _ *http.Request) { w.Write(answer) }
		if _, err := c.Call(t.Context(), r.peer, r.key.Certificate(), "a/b"); (err == nil) != test.ok {
			t.Errorf("%s inside, %s outside: %v", test.inside, test.outside, err)
		}
	}
}

func TestAServerAnswersAPeerUnderAnAlias(t *testing.T) {
	s := newSite(t)
	peers, err := gateway.NewAllowlist(&gateway.Peer{
		Wwwroot: wwwroot(t, "https://new.test"), Aliases: []gateway.Wwwroot{wwwroot(t, "http://sp.test:8090")},
		Publish: []string{gateway.ServiceSSOIDP},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Peer = func(_ context.Context, name string) (*gateway.Peer, *gateway.Certificate, error) {
		return peers.Exact(name), recordedKey(t, "sp").Certificate(), nil
	}
	w, event := s.post(s.call(echo, "x"), home) // as http://sp.test:8090
	packed, v, err := s.read(w.Body.Bytes(), "sp")
	if err != nil || packed != "signed and sealed" || Text(v.(Array)[0]) != "https://new.test" || !event.Verified {
		t.Errorf("%s: %v, %v, %+v", packed, v, err, event)
	}
	signed, err := Sign(EncodeCall(echo, "x"), recordedKey(t, "sp"), wwwroot(t, "https://new.test"), s.now)
	if err != nil {
		t.Fatal(err)
	}
	if _, event = s.post(seal(t, signed, recordedKey(t, "idp"), wwwroot(t, "http://sp.test:8090")), home); event.Reason != ReasonWwwrootMismatch {
		t.Errorf("another name inside than outside: %+v", event)
	}
}

func TestACertificateMayNameAnAlias(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	old := wwwroot(t, "http://old.test")
	key, err := NewKey(old, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	r.answer = PublicKey(func() *Key { return key }).ServeHTTP
	if _, err := c.FetchCertificate(t.Context(), r.peer); err == nil {
		t.Error("without the alias it is another site's")
	}
	r.peer.Aliases = []gateway.Wwwroot{old}
	for _, application := range []gateway.Application{gateway.Moodle, gateway.Mahara} {
		r.peer.Application = application
		if application == gateway.Mahara {
			r.answer = func(w http.ResponseWriter, _ *http.Request) { w.Write(EncodeResponse(key.Certificate().PEM())) }
		}
		if cert, err := c.FetchCertificate(t.Context(), r.peer); err != nil || cert.Fingerprint() != key.Certificate().Fingerprint() {
			t.Errorf("of a %s: %v", application, err)
		}
	}
}

func TestAPinHoldsWhenThePeerMoves(t *testing.T) {
	p, fetched, _ := newPins(t)
	if _, err := p.Certificate(t.Context(), spPeer(t)); err != nil {
		t.Fatal(err)
	}
	again := &Pins{Dir: p.Dir, Fetch: func(context.Context, *gateway.Peer) (*gateway.Certificate, error) {
		return nil, errors.New("must not fetch what is pinned")
	}}
	moved := &gateway.Peer{Wwwroot: wwwroot(t, "https://sp.test"), Aliases: []gateway.Wwwroot{spPeer(t).Wwwroot}}
	if cert, err := again.Certificate(t.Context(), moved); err != nil || cert.Fingerprint() != recordedKey(t, "sp").Certificate().Fingerprint() {
		t.Errorf("after the move: %v", err)
	}
	moved.Fingerprint[0] = 1
	if _, err := again.Certificate(t.Context(), moved); err == nil || fetched.Load() != 1 {
		t.Errorf("another fingerprint is configured: %v", err)
	}
}

func TestAKeyMayNameAnAlias(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, recordedKey(t, "idp").PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	site, old := wwwroot(t, "https://idp.test"), wwwroot(t, "http://idp.test:8080")
	if _, err := LoadKey(file, site, wwwroot(t, "http://other.test")); err == nil {
		t.Error("a key of another site")
	}
	if _, err := LoadKey(file, site, wwwroot(t, "http://other.test"), old); err != nil {
		t.Error(err)
	}
	if key, created, err := LoadOrCreateKey(file, site, time.Now(), old); err != nil || created || key.Certificate().Names(site) {
		t.Errorf("created %v, %v", created, err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, currentKey), recordedKey(t, "idp").PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	ring, _, err := OpenKeyring(KeyringOptions{Dir: dir, Site: site, Aliases: []gateway.Wwwroot{old}})
	if err != nil || ring.Current().Certificate().Names(site) {
		t.Fatalf("a keyring: %v", err)
	}
	if err := ring.Rotate(t.Context()); err != nil || !ring.Current().Certificate().Names(site) || len(ring.Keys()) != 2 {
		t.Errorf("rotated: %v, %d keys", err, len(ring.Keys()))
	}
	sealed, err := sealKey(recordedKey(t, "idp"), bytes.Repeat([]byte("s"), MinSecret), site)
	if err != nil {
		t.Fatal(err)
	}
	f := recordedKey(t, "idp").Certificate().Fingerprint()
	if _, err := openKey(sealed, bytes.Repeat([]byte("s"), MinSecret), site, f, old); err != nil {
		t.Errorf("a key that travels: %v", err)
	}
	if _, err := openKey(sealed, bytes.Repeat([]byte("s"), MinSecret), site, f); err == nil {
		t.Error("a key of another site travels")
	}
	key, created, err := LoadOrCreateKey(file+"2", site, time.Now(), old)
	if err != nil || !created || !key.Certificate().Names(site) {
		t.Errorf("a new key names the site itself: created %v, %v", created, err)
	}
}
