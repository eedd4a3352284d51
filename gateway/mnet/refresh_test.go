package mnet

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"jumpgate/gateway"
)

// chains are Chains in memory.
type chains struct {
	mu   sync.Mutex
	kept map[gateway.Wwwroot][]byte
}

func (c *chains) Chain(_ context.Context, peer gateway.Wwwroot) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept[peer], nil
}

func (c *chains) KeepChain(_ context.Context, peer gateway.Wwwroot, chain []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept[peer] = chain
	return nil
}

// party is a site with everything that it needs to speak with the other one.
type party struct {
	*remote
	mu     sync.Mutex
	keys   []*Key
	server *Server
	caller *Caller
	calls  atomic.Int32 // that reached it
}

func (p *party) Keys() []*Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys
}

// rotate gives the party a new key.
func (p *party) rotate(t *testing.T) *Key {
	t.Helper()
	key, err := NewKey(p.peer.Wwwroot, time.Now(), DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = append([]*Key{key}, p.keys...)
	return key
}

// parties starts two sites that know one another.
func parties(t *testing.T) (a, b *party) {
	a, b = &party{remote: newRemote(t)}, &party{remote: newRemote(t)}
	for _, side := range []struct{ at, other *party }{{a, b}, {b, a}} {
		at, other := side.at, side.other
		at.keys = []*Key{at.key}
		other.peer.Certificate = other.key.Certificate()
		client := &Client{Keys: at.Keys, Site: at.peer.Wwwroot}
		at.caller = &Caller{Client: client, Pins: &Pins{Dir: t.TempDir(), Fetch: client.FetchCertificate, Chains: &chains{kept: map[gateway.Wwwroot][]byte{}}}}
		at.server = &Server{
			Site: at.peer.Wwwroot, Keys: at.Keys, Refresh: at.caller.Refresh,
			Peer: func(ctx context.Context, wwwroot string) (*gateway.Peer, *gateway.Certificate, error) {
				if wwwroot != other.peer.Wwwroot.String() {
					return nil, nil, nil
				}
				cert, err := at.caller.Pins.Certificate(ctx, other.peer)
				return other.peer, cert, err
			},
		}
		at.answer = func(w http.ResponseWriter, r *http.Request) {
			at.calls.Add(1)
			at.server.ServeHTTP(w, r)
		}
	}
	return a, b
}

// mustCall calls a method that every peer has.
func mustCall(t *testing.T, from, to *party) {
	t.Helper()
	if _, err := from.caller.Call(t.Context(), to.peer, "system/listServices"); err != nil {
		t.Error(err)
	}
}

func TestACallerFollowsAPeerThatChangesItsKey(t *testing.T) {
	a, b := parties(t)
	mustCall(t, a, b)
	for range 3 {
		b.rotate(t)
		mustCall(t, a, b)
	}
	if n := b.calls.Load(); n != 1+3*2 {
		t.Errorf("%d calls, want each one once and once more after a change", n)
	}
	a.caller.Pins.pins = nil // as after a restart
	mustCall(t, a, b)
	if n := b.calls.Load(); n != 1+3*2+1 {
		t.Error("a restart forgot the new key")
	}
	if err := os.RemoveAll(a.caller.Pins.Dir); err != nil {
		t.Fatal(err)
	}
	a.caller.Pins.pins = nil // as at another gateway of the site
	mustCall(t, a, b)
	if n := b.calls.Load(); n != 1+3*2+2 {
		t.Error("another gateway does not know the new key")
	}
}

func TestACalleeFollowsAPeerThatChangesItsKey(t *testing.T) {
	a, b := parties(t)
	a.rotate(t)
	mustCall(t, a, b) // b sees a signature that does not fit
	if n := a.calls.Load(); n != 1 {
		t.Errorf("the peer was asked %d times", n)
	}
	mustCall(t, a, b)
	if n := a.calls.Load(); n != 1 {
		t.Errorf("the peer was asked again: %d times", n)
	}
}

func TestTwoSitesMayChangeTheirKeysAtOnce(t *testing.T) {
	for name, first := range map[string]bool{"one calls": true, "the other calls": false} {
		t.Run(name, func(t *testing.T) {
			a, b := parties(t)
			if !first {
				a, b = b, a
			}
			a.rotate(t)
			b.rotate(t)
			mustCall(t, a, b)
			mustCall(t, b, a)
		})
	}
}

func TestAPeerIsAskedForItsNewKeyOnceAMinute(t *testing.T) {
	a, b := parties(t)
	stranger, err := NewKey(a.peer.Wwwroot, time.Now(), DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		doc := envelope(t, EncodeCall("system/listServices"), stranger, b.keys[0], a.peer.Wwwroot, time.Now())
		if _, err := a.caller.Client.post(t.Context(), b.peer.Wwwroot, gateway.Moodle, doc); err != nil {
			t.Fatal(err)
		}
	}
	if n := a.calls.Load(); n != 1 {
		t.Errorf("five forged messages made us ask %d times", n)
	}
	mustCall(t, a, b)
}

func TestANewKeyIsTakenOnlyFromTheHolderOfTheOldOne(t *testing.T) {
	fault := func(key *Key) []byte {
		return EncodeFault(&Fault{Code: FaultNewKey, String: key.Certificate().PEM()})
	}
	newKey := func(t *testing.T, site gateway.Wwwroot) *Key {
		t.Helper()
		key, err := NewKey(site, time.Now(), DefaultLifetime)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	for name, c := range map[string]struct {
		answer func(t *testing.T, a, b *party, next *Key) []byte
		held   bool
	}{
		"signed by the new key, as Mahara does": {func(t *testing.T, a, b *party, next *Key) []byte {
			return envelope(t, fault(next), next, a.keys[0], b.peer.Wwwroot, time.Now())
		}, true},
		"signed by a stranger": {func(t *testing.T, a, b *party, next *Key) []byte {
			return envelope(t, fault(next), recordedKey(t, "stranger"), a.keys[0], b.peer.Wwwroot, time.Now())
		}, true},
		"not signed": {func(t *testing.T, a, b *party, next *Key) []byte {
			return seal(t, fault(next), a.keys[0], b.peer.Wwwroot)
		}, false},
		"in the clear": {func(t *testing.T, a, b *party, next *Key) []byte { return fault(next) }, false},
		"for another site": {func(t *testing.T, a, b *party, next *Key) []byte {
			return envelope(t, fault(newKey(t, a.peer.Wwwroot)), b.keys[0], a.keys[0], b.peer.Wwwroot, time.Now())
		}, false},
		"with a sentence instead of a key": {func(t *testing.T, a, b *party, next *Key) []byte {
			doc := EncodeFault(&Fault{Code: FaultNewKey, String: "We know nothing about the key used to encrypt this message"})
			return envelope(t, doc, b.keys[0], a.keys[0], b.peer.Wwwroot, time.Now())
		}, false},
		"a year old": {func(t *testing.T, a, b *party, next *Key) []byte {
			return envelope(t, fault(next), b.keys[0], a.keys[0], b.peer.Wwwroot, time.Now().Add(-365*24*time.Hour))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := parties(t)
			next := newKey(t, b.peer.Wwwroot)
			b.answer = func(w http.ResponseWriter, _ *http.Request) { w.Write(c.answer(t, a, b, next)) }
			_, err := a.caller.Call(t.Context(), b.peer, "system/listServices")
			if err == nil {
				t.Fatal("the call succeeded")
			}
			if held, ok := errors.AsType[*HeldKeyError](err); ok != c.held || ok && held.Certificate.Fingerprint() != next.Certificate().Fingerprint() {
				t.Errorf("error %v; held for an administrator: %t, want %t", err, ok, c.held)
			}
			cert, err := a.caller.Pins.Certificate(t.Context(), b.peer)
			if err != nil || cert.Fingerprint() != b.key.Certificate().Fingerprint() {
				t.Errorf("certificate %v, error %v", cert.Fingerprint(), err)
			}
		})
	}
}

func TestAChainOfRefreshesIsVerifiedWhereItIsRead(t *testing.T) {
	a, b := parties(t)
	first := b.keys[0]
	second := b.rotate(t)
	mustCall(t, a, b)
	third := b.rotate(t)
	mustCall(t, a, b)
	good, err := parseChain(a.caller.Pins.Chains.(*chains).kept[b.peer.Wwwroot])
	if err != nil {
		t.Fatal(err)
	}
	attacker, err := NewKey(b.peer.Wwwroot, time.Now(), DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	forged := func(signer *Key) step {
		doc := EncodeFault(&Fault{Code: FaultNewKey, String: attacker.Certificate().PEM()})
		signed, err := Sign(doc, signer, b.peer.Wwwroot, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := ParseSigned(signed)
		if err != nil {
			t.Fatal(err)
		}
		return step{Payload: parsed.Payload, Signature: parsed.Signature}
	}
	for name, c := range map[string]struct {
		chain  any
		pinned *Key
		want   *Key
	}{
		"as it was kept":                     {good, first, third},
		"after the pin was moved on":         {good, second, third},
		"after the pin was moved to its end": {good, third, third},
		"for a pin that is not in it":        {good, attacker, attacker},
		"cut off":                            {chain{good.Base, good.Steps[:1]}, first, second},
		"with a step left out":               {chain{good.Base, good.Steps[1:]}, first, first},
		"with another base":                  {chain{attacker.Certificate().PEM(), []step{forged(attacker)}}, first, first},
		"with a step of an attacker":         {chain{good.Base, append(good.Steps[:2:2], forged(attacker))}, first, first},
		"with a step of an old key":          {chain{good.Base, append(good.Steps[:2:2], forged(first))}, first, first},
		"no chain":                           {"x", first, first},
		"a base that is none":                {chain{"x", nil}, first, first},
	} {
		t.Run(name, func(t *testing.T) {
			doc, err := json.Marshal(c.chain)
			if err != nil {
				t.Fatal(err)
			}
			pins := &Pins{Dir: t.TempDir(), Chains: &chains{kept: map[gateway.Wwwroot][]byte{b.peer.Wwwroot: doc}}}
			peer := *b.peer
			peer.Certificate = c.pinned.Certificate()
			cert, err := pins.Certificate(t.Context(), &peer)
			if err != nil || cert.Fingerprint() != c.want.Certificate().Fingerprint() {
				t.Errorf("%v, error %v", cert.Fingerprint(), err)
			}
		})
	}

	t.Run("of a peer that is known by its first fingerprint alone", func(t *testing.T) {
		pins := &Pins{Dir: t.TempDir(), Chains: a.caller.Pins.Chains, Fetch: func(context.Context, *gateway.Peer) (*gateway.Certificate, error) {
			return nil, errors.New("the peer does not have that one any more")
		}}
		peer := &gateway.Peer{Wwwroot: b.peer.Wwwroot, Fingerprint: first.Certificate().Fingerprint()}
		cert, err := pins.Certificate(t.Context(), peer)
		if err != nil || cert.Fingerprint() != third.Certificate().Fingerprint() {
			t.Errorf("%v", err)
		}
	})
}

func TestTwoThatFollowAPeerAtOnceAgree(t *testing.T) {
	a, b := parties(t)
	b.rotate(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { mustCall(t, a, b) })
	}
	wg.Wait()
	kept := string(a.caller.Pins.Chains.(*chains).kept[b.peer.Wwwroot])
	if n := strings.Count(kept, `"payload"`); n != 1 {
		t.Errorf("%d refreshes are kept", n)
	}
}
