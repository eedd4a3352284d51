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
	"testing/synctest"
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
			var told []gateway.Fingerprint
			a.caller.Held = func(_ context.Context, h *HeldKeyError) { told = append(told, h.Certificate.Fingerprint()) }
			_, err := a.caller.Call(t.Context(), b.peer, "system/listServices")
			if err == nil {
				t.Fatal("the call succeeded")
			}
			if (len(told) == 1 && told[0] == next.Certificate().Fingerprint()) != c.held {
				t.Errorf("an administrator is told of %v", told)
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
		"after the pin was moved on":         {good, second, second},
		"after the pin was moved to its end": {good, third, third},
		"that goes round":                    {chain{Base: good.Base, Steps: append(good.Steps[:2:2], vouched(t, third, first))}, first, first},
		"to what was given up":               {chain{Base: good.Base, Steps: good.Steps, GivenUp: []string{third.Certificate().Fingerprint().String()}}, first, first},
		"for a pin that is not in it":        {good, attacker, attacker},
		"cut off":                            {chain{Base: good.Base, Steps: good.Steps[:1]}, first, second},
		"with a step left out":               {chain{Base: good.Base, Steps: good.Steps[1:]}, first, first},
		"with another base":                  {chain{Base: attacker.Certificate().PEM(), Steps: []step{forged(attacker)}}, first, first},
		"with a step of an attacker":         {chain{Base: good.Base, Steps: append(good.Steps[:2:2], forged(attacker))}, first, first},
		"with a step of an old key":          {chain{Base: good.Base, Steps: append(good.Steps[:2:2], forged(first))}, first, first},
		"no chain":                           {"x", first, first},
		"a base that is none":                {chain{Base: "x", Steps: nil}, first, first},
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

// vouched is the step from one key of a peer to another.
func vouched(t *testing.T, from, to *Key) step {
	t.Helper()
	doc := EncodeFault(&Fault{Code: FaultNewKey, String: to.Certificate().PEM()})
	b, err := Sign(doc, from, keyringSite(t), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSigned(b)
	if err != nil {
		t.Fatal(err)
	}
	return step{Payload: s.Payload, Signature: s.Signature}
}

// succession is a peer with keys that follow one another, and the chain of
// those.
type succession struct {
	keys []*Key
	peer *gateway.Peer
}

func newSuccession(t *testing.T, n int) *succession {
	t.Helper()
	s := &succession{}
	for range n {
		key, err := NewKey(keyringSite(t), time.Now(), DefaultLifetime)
		if err != nil {
			t.Fatal(err)
		}
		s.keys = append(s.keys, key)
	}
	s.peer = &gateway.Peer{Wwwroot: keyringSite(t), Certificate: s.keys[0].Certificate()}
	return s
}

func (s *succession) chain(t *testing.T, path ...int) chain {
	t.Helper()
	c := chain{Base: s.keys[path[0]].Certificate().PEM()}
	for i, to := range path[1:] {
		c.Steps = append(c.Steps, vouched(t, s.keys[path[i]], s.keys[to]))
	}
	return c
}

// is fails the test unless the peer's certificate is that of key i.
func (s *succession) is(t *testing.T, p *Pins, i int) {
	t.Helper()
	cert, err := p.Certificate(t.Context(), s.peer)
	if err != nil || cert.Fingerprint() != s.keys[i].Certificate().Fingerprint() {
		t.Errorf("%v %v, want that of key %d", cert.Fingerprint(), err, i)
	}
}

func (s *succession) take(t *testing.T, p *Pins, from, to int) error {
	t.Helper()
	step := vouched(t, s.keys[from], s.keys[to])
	_, err := p.accept(t.Context(), s.peer, &Fault{Code: FaultNewKey, proof: &Signed{Payload: step.Payload, Signature: step.Signature}})
	return err
}

func keptChain(t *testing.T, c chain) []byte {
	t.Helper()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Who has broken a former key of a peer, and can write to Redis, gains nothing.
func TestAFormerKeyCannotOvertakeTheNewestOne(t *testing.T) {
	s := newSuccession(t, 6) // 3, 4 and 5 are the attacker's, who has broken 0
	shared := &chains{kept: map[gateway.Wwwroot][]byte{}}
	p := &Pins{Dir: t.TempDir(), Chains: shared}
	p.keep(t.Context(), s.peer, s.chain(t, 0, 1, 2))
	s.is(t, p, 2)
	for _, path := range [][]int{{0, 3, 4, 5}, {0, 3, 4, 5, 1}} {
		shared.kept[s.peer.Wwwroot] = keptChain(t, s.chain(t, path...))
		if cert, _, _ := p.changed(t.Context(), s.peer, s.keys[2].Certificate()); cert != nil {
			t.Error("a running gateway takes the attacker's key")
		}
		s.is(t, &Pins{Dir: p.Dir, Chains: shared}, 2) // after a restart, too
	}
}

func TestAKeyThatWasGivenUpDoesNotComeBack(t *testing.T) {
	s := newSuccession(t, 3)
	p := &Pins{Dir: t.TempDir(), Chains: &chains{kept: map[gateway.Wwwroot][]byte{}}}
	for _, step := range []struct {
		from, to int
		ok       bool
	}{{0, 1, true}, {1, 0, false}, {1, 2, true}, {2, 1, false}, {0, 1, true}} { // the last is late, and changes nothing
		if err := s.take(t, p, step.from, step.to); (err == nil) != step.ok {
			t.Errorf("from %d to %d: %v", step.from, step.to, err)
		}
	}
	s.is(t, p, 2)

	// An administrator goes back to the first: then that holds.
	if err := p.Restart(t.Context(), s.peer, s.keys[0].Certificate()); err != nil {
		t.Fatal(err)
	}
	for _, again := range []*Pins{{Dir: p.Dir}, {Dir: t.TempDir(), Chains: p.Chains}} {
		s.is(t, again, 0)
		if err := s.take(t, again, 0, 1); err == nil {
			t.Error("a recorded change brought a key back that was given up")
		}
		s.is(t, again, 0)
	}
}

func TestAChainHasABound(t *testing.T) {
	s := newSuccession(t, 2)
	p := &Pins{Dir: t.TempDir()}
	doc := EncodeFault(&Fault{Code: FaultNewKey, String: strings.Repeat("x", maxPayload) + "\n" + s.keys[1].Certificate().PEM()})
	b, err := Sign(doc, s.keys[0], s.peer.Wwwroot, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	signed, err := ParseSigned(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.accept(t.Context(), s.peer, &Fault{Code: FaultNewKey, proof: signed}); err == nil {
		t.Error("a key of any size is kept")
	}
	s.is(t, p, 0)
}

// forgetful are Chains that fail at first.
type forgetful struct {
	chains
	failing atomic.Bool
}

func (f *forgetful) Chain(ctx context.Context, peer gateway.Wwwroot) ([]byte, error) {
	if f.failing.Load() {
		return nil, errDown
	}
	return f.chains.Chain(ctx, peer)
}

func TestWhoeverCouldNotBeAskedIsAskedAgain(t *testing.T) {
	s := newSuccession(t, 2)
	shared := &forgetful{chains: chains{kept: map[gateway.Wwwroot][]byte{s.peer.Wwwroot: keptChain(t, s.chain(t, 0, 1))}}}
	shared.failing.Store(true)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := &Pins{Dir: dir, Chains: shared}
		s.is(t, p, 0)
		shared.failing.Store(false)
		s.is(t, p, 0) // not at every call
		time.Sleep(lookPause)
		s.is(t, p, 1)
	})
}

func TestAPeerThatHasLostItsKeyIsHeld(t *testing.T) {
	a, b := parties(t)
	var held []gateway.Fingerprint
	a.caller.Held = func(_ context.Context, h *HeldKeyError) { held = append(held, h.Certificate.Fingerprint()) }
	anew := b.rotate(t)
	b.mu.Lock()
	b.keys = b.keys[:1] // nothing is left to vouch for it
	b.mu.Unlock()
	b.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/mnet/publickey.php" {
			PublicKey(func() *Key { return anew }).ServeHTTP(w, r)
			return
		}
		b.server.ServeHTTP(w, r)
	}
	doc := envelope(t, EncodeCall("system/listServices"), anew, a.keys[0], b.peer.Wwwroot, time.Now())
	for range 3 {
		if _, err := b.caller.Client.post(t.Context(), a.peer.Wwwroot, gateway.Moodle, doc); err != nil {
			t.Fatal(err)
		}
	}
	if len(held) != 1 || held[0] != anew.Certificate().Fingerprint() {
		t.Errorf("held %v", held)
	}
	if cert, err := a.caller.Pins.Certificate(t.Context(), b.peer); err != nil || cert.Fingerprint() == anew.Certificate().Fingerprint() {
		t.Errorf("it is trusted without an administrator: %v", err)
	}
}

func TestANewKeyThatIsTakenIsTold(t *testing.T) {
	a, b := parties(t)
	taken := 0
	a.caller.Taken = func(context.Context, *gateway.Peer) { taken++ }
	b.rotate(t)
	mustCall(t, a, b)
	mustCall(t, a, b)
	if taken != 1 {
		t.Errorf("told %d times", taken)
	}
}
