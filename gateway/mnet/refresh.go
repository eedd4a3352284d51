package mnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"jumpgate/gateway"
)

// Chains keeps the refreshes of peers' keys where all gateways of a site find
// them. What it returns need not be trusted.
type Chains interface {
	Chain(ctx context.Context, peer gateway.Wwwroot) ([]byte, error) // nil if there is none
	KeepChain(ctx context.Context, peer gateway.Wwwroot, chain []byte) error
}

// HeldKeyError says that a peer showed a new certificate which nothing that we
// trust vouches for. An administrator has to accept it.
type HeldKeyError struct {
	Peer        *gateway.Peer
	Certificate *gateway.Certificate
}

func (e *HeldKeyError) Error() string {
	return fmt.Sprintf("%s has changed its key to %s, which the pinned key does not vouch for", e.Peer.Wwwroot, e.Certificate.Fingerprint())
}

const (
	askPause  = time.Minute // between two questions to one peer whether it has a new key
	lookPause = time.Second // between two looks into what is kept
)

// since returns the certificates to which the refreshes of a peer lead from the
// pinned one, which is the first of them. They are not to be changed.
func (p *Pins) since(ctx context.Context, peer *gateway.Peer, pinned *gateway.Certificate) []*gateway.Certificate {
	entry := p.entry(peer.Wwwroot)
	entry.mu.Lock()
	known, from := entry.known, entry.from
	again := entry.partial && time.Since(entry.looked) >= lookPause
	entry.mu.Unlock()
	if len(known) == 0 || from != pinned.Fingerprint() || again {
		known = p.load(ctx, peer, pinned)
	}
	return known
}

// load reads what is kept of a peer's refreshes: what this process has
// accepted, then the file, then Chains. Each may go on from where the one
// before ends, and none may lead elsewhere, however far it goes. It returns
// the certificates from the pinned one to the latest.
func (p *Pins) load(ctx context.Context, peer *gateway.Peer, pinned *gateway.Certificate) []*gateway.Certificate {
	kept, complete := p.kept(ctx, peer)
	entry := p.entry(peer.Wwwroot)
	entry.mu.Lock()
	defer entry.mu.Unlock()
	best, known := chain{GivenUp: slices.Clone(entry.chain.GivenUp)}, []*gateway.Certificate{pinned}
	for _, c := range kept {
		best.GivenUp = append(best.GivenUp, c.GivenUp...)
	}
	slices.Sort(best.GivenUp)
	best.GivenUp = slices.Compact(best.GivenUp)
	for _, c := range append([]chain{entry.chain}, kept...) {
		certs, err := c.walk(peer, pinned.Fingerprint(), best.GivenUp)
		if err == nil && len(certs) > len(known) && holds(certs, known[len(known)-1]) {
			best.Base, best.Steps, known = c.Base, c.Steps, certs
		}
	}
	entry.chain, entry.from, entry.known = best, pinned.Fingerprint(), known
	entry.partial, entry.looked = !complete, time.Now()
	return known
}

// kept returns the chains of a peer that are kept anywhere, and whether
// everybody could be asked.
func (p *Pins) kept(ctx context.Context, peer *gateway.Peer) (all []chain, complete bool) {
	complete = true
	add := func(b []byte, err error) {
		switch {
		case errors.Is(err, fs.ErrNotExist) || err == nil && b == nil:
			return
		case err == nil:
			var c chain
			if c, err = parseChain(b); err == nil {
				all = append(all, c)
				return
			}
		}
		complete = false
		p.logger().DebugContext(ctx, "the refreshes of a peer cannot be read", "peer", peer.Wwwroot.String(), "error", err)
	}
	for _, name := range peer.Names() { // before the peer moved, too
		add(readUpTo(p.chainFile(name), maxChain))
	}
	if p.Chains != nil {
		for _, name := range peer.Names() {
			add(p.Chains.Chain(ctx, name))
		}
	}
	return all, complete
}

// changed returns the certificate that a peer has instead of known, as far as
// that is kept anywhere; if not, ask says whether the peer may be asked.
func (p *Pins) changed(ctx context.Context, peer *gateway.Peer, known *gateway.Certificate) (cert *gateway.Certificate, ask bool, err error) {
	pinned, err := p.pinned(ctx, peer)
	if err != nil {
		return nil, false, err
	}
	entry, now := p.entry(peer.Wwwroot), time.Now()
	entry.mu.Lock()
	certs, look := entry.known, now.Sub(entry.looked) >= lookPause
	entry.mu.Unlock()
	if len(certs) == 0 || look {
		certs = p.load(ctx, peer, pinned)
	}
	if latest := certs[len(certs)-1]; latest.Fingerprint() != known.Fingerprint() {
		return latest, false, nil
	}
	entry.mu.Lock()
	defer entry.mu.Unlock()
	if ask = now.Sub(entry.asked) >= askPause; ask {
		entry.asked = now
	}
	return nil, ask, nil
}

// accept takes the new certificate from a fault 7025 that a Client received:
// the holder of the key that was known has signed it. Where somebody else was
// faster it returns what is known by now.
func (p *Pins) accept(ctx context.Context, peer *gateway.Peer, fault *Fault) (*gateway.Certificate, error) {
	if fault.proof == nil {
		return nil, fault
	}
	offered, err := newKeyOf(peer, fault.proof.Payload)
	if err != nil {
		return nil, fmt.Errorf("its new key: %w", err)
	}
	pinned, err := p.pinned(ctx, peer)
	if err != nil {
		return nil, err
	}
	known := p.load(ctx, peer, pinned)
	latest := known[len(known)-1]
	if latest.Fingerprint() == offered.Fingerprint() {
		return offered, nil
	}
	if fault.proof.Verify(latest) != nil {
		if slices.ContainsFunc(known, func(c *gateway.Certificate) bool { return fault.proof.Verify(c) == nil }) {
			return latest, nil // the peer was asked in a former key's name
		}
		return nil, &HeldKeyError{Peer: peer, Certificate: offered}
	}
	kept, err := p.entry(peer.Wwwroot).extend(peer, pinned, latest, offered, step{fault.proof.Payload, fault.proof.Signature})
	if err != nil {
		return nil, err
	}
	if kept == nil {
		return offered, nil
	}
	p.logger().InfoContext(ctx, "a peer has changed its key, and the one before vouches for it", "peer", peer.Wwwroot.String(),
		"from", latest.Fingerprint().String(), "to", offered.Fingerprint().String())
	p.changedTo(KeyChange{Of: peer.Wwwroot, From: latest.Fingerprint(), To: offered.Fingerprint(), How: KeyRefreshed})
	p.keep(ctx, peer, *kept)
	return offered, nil
}

// extend takes the step of a peer from one certificate to the next, and
// returns the chain that is to be kept: nil if somebody else was faster.
func (e *pin) extend(peer *gateway.Peer, pinned, from, to *gateway.Certificate, s step) (*chain, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	latest := e.known[len(e.known)-1]
	switch {
	case latest.Fingerprint() == to.Fingerprint():
		return nil, nil
	case latest.Fingerprint() != from.Fingerprint():
		return nil, errors.New("the peer changes its key faster than we can follow")
	case holds(e.known, to), slices.Contains(e.chain.GivenUp, to.Fingerprint().String()):
		return nil, &HeldKeyError{Peer: peer, Certificate: to} // once it was replaced; why would it come back?
	case len(e.chain.Steps) >= maxSteps:
		return nil, fmt.Errorf("the peer has changed its key %d times since it was pinned: pin it anew", maxSteps)
	case len(s.Payload) > maxPayload:
		return nil, fmt.Errorf("the peer's new key comes with more than %d bytes", maxPayload)
	}
	next := e.chain
	next.Base, next.Steps = pinned.PEM(), append(slices.Clip(e.chain.Steps), s)
	if b, err := json.Marshal(next); err != nil || len(b) > maxChain {
		return nil, errors.New("the peer has changed its key too often since it was pinned: pin it anew")
	}
	e.chain, e.known = next, append(slices.Clip(e.known), to)
	return &next, nil
}

// Restart makes cert the certificate that trust in a peer begins with, for an
// administrator who has chosen it: what the refreshes led to is given up, and
// does not come back by itself.
func (p *Pins) Restart(ctx context.Context, peer *gateway.Peer, cert *gateway.Certificate) error {
	kept, complete := p.kept(ctx, peer)
	if !complete {
		return fmt.Errorf("the refreshes of %s cannot be read everywhere", peer.Wwwroot)
	}
	next := chain{Base: cert.PEM()}
	for _, c := range kept {
		next.GivenUp = append(next.GivenUp, c.GivenUp...)
		base, err := parseCertificateOf(peer, []byte(c.Base))
		if err != nil {
			continue
		}
		next.GivenUp = append(next.GivenUp, base.Fingerprint().String())
		for _, s := range c.Steps {
			if to, err := newKeyOf(peer, s.Payload); err == nil {
				next.GivenUp = append(next.GivenUp, to.Fingerprint().String())
			}
		}
	}
	if len(kept) == 0 {
		return nil
	}
	slices.Sort(next.GivenUp)
	next.GivenUp = slices.DeleteFunc(slices.Compact(next.GivenUp), func(f string) bool { return f == cert.Fingerprint().String() })
	return p.write(ctx, peer, next)
}

// keep writes a chain wherever it may be looked for.
func (p *Pins) keep(ctx context.Context, peer *gateway.Peer, c chain) {
	if err := p.write(ctx, peer, c); err != nil {
		p.logger().ErrorContext(ctx, "the new key of a peer could not be kept everywhere", "peer", peer.Wwwroot.String(), "error", err)
	}
}

func (p *Pins) write(ctx context.Context, peer *gateway.Peer, c chain) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	err = replaceFile(p.chainFile(peer.Wwwroot), b, 0o644)
	if p.Chains != nil {
		err = errors.Join(err, p.Chains.KeepChain(ctx, peer.Wwwroot, b))
	}
	return err
}

func (p *Pins) chainFile(site gateway.Wwwroot) string {
	return strings.TrimSuffix(p.file(site), ".pem") + ".refreshed.json"
}

func (p *Pins) logger() *slog.Logger {
	if p.Log == nil {
		return slog.Default()
	}
	return p.Log
}
