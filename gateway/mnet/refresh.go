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

// latest returns the certificate to which the refreshes of a peer lead from
// the pinned one.
func (p *Pins) latest(ctx context.Context, peer *gateway.Peer, pinned *gateway.Certificate) *gateway.Certificate {
	entry := p.entry(peer.Wwwroot)
	entry.mu.Lock()
	latest, loaded := entry.latest, entry.latest != nil && entry.from == pinned.Fingerprint()
	entry.mu.Unlock()
	if loaded {
		return latest
	}
	return p.load(ctx, peer, pinned)
}

// load reads what is kept of a peer's refreshes, in the file and in Chains,
// and takes up what leads farthest.
func (p *Pins) load(ctx context.Context, peer *gateway.Peer, pinned *gateway.Certificate) *gateway.Certificate {
	trusted := []*gateway.Certificate{pinned}
	var best chain
	for _, b := range p.kept(ctx, peer) {
		c, err := parseChain(b)
		if err != nil {
			continue
		}
		if certs, err := c.walk(peer, pinned.Fingerprint()); err == nil && len(certs) > len(trusted) {
			best, trusted = c, certs
		}
	}
	entry := p.entry(peer.Wwwroot)
	entry.mu.Lock()
	defer entry.mu.Unlock()
	// What this process has accepted counts even where it could not be kept.
	if certs, err := entry.chain.walk(peer, pinned.Fingerprint()); err == nil && len(certs) > len(trusted) {
		best, trusted = entry.chain, certs
	}
	entry.chain, entry.from, entry.latest = best, pinned.Fingerprint(), trusted[len(trusted)-1]
	return entry.latest
}

// kept returns the chains of a peer that are kept anywhere.
func (p *Pins) kept(ctx context.Context, peer *gateway.Peer) [][]byte {
	var all [][]byte
	for _, name := range peer.Names() { // before the peer moved, too
		b, err := readUpTo(p.chainFile(name), maxChain)
		switch {
		case err == nil:
			all = append(all, b)
		case !errors.Is(err, fs.ErrNotExist):
			p.logger().ErrorContext(ctx, "the refreshes of a peer cannot be read", "peer", name.String(), "error", err)
		}
		if p.Chains == nil {
			continue
		}
		// Without an answer the file must do until somebody asks again.
		if b, err := p.Chains.Chain(ctx, name); err == nil && b != nil {
			all = append(all, b)
		}
	}
	return all
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
	latest, look := entry.latest, now.Sub(entry.looked) >= lookPause
	if look {
		entry.looked = now
	}
	entry.mu.Unlock()
	if latest == nil || look {
		latest = p.load(ctx, peer, pinned)
	}
	if latest.Fingerprint() != known.Fingerprint() {
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
// the holder of the key that was known has signed it.
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
	before := p.load(ctx, peer, pinned)
	if before.Fingerprint() == offered.Fingerprint() {
		return offered, nil // somebody else was faster
	}
	if err := fault.proof.Verify(before); err != nil {
		return nil, &HeldKeyError{Peer: peer, Certificate: offered}
	}
	kept, err := p.entry(peer.Wwwroot).extend(pinned, before, offered, step{fault.proof.Payload, fault.proof.Signature})
	if err != nil {
		return nil, err
	}
	if kept == nil {
		return offered, nil
	}
	p.logger().InfoContext(ctx, "a peer has changed its key, and the one before vouches for it", "peer", peer.Wwwroot.String(),
		"from", before.Fingerprint().String(), "to", offered.Fingerprint().String())
	p.changedTo(KeyChange{Of: peer.Wwwroot, From: before.Fingerprint(), To: offered.Fingerprint(), How: KeyRefreshed})
	p.keep(ctx, peer, *kept)
	return offered, nil
}

// extend takes the step of a peer from one certificate to the next, and
// returns the chain that is to be kept: nil if somebody else was faster.
func (e *pin) extend(pinned, from, to *gateway.Certificate, s step) (*chain, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.latest.Fingerprint() == to.Fingerprint():
		return nil, nil
	case e.latest.Fingerprint() != from.Fingerprint():
		return nil, errors.New("the peer changes its key faster than we can follow")
	case len(e.chain.Steps) >= maxSteps:
		return nil, fmt.Errorf("the peer has changed its key %d times since it was pinned: pin it anew", maxSteps)
	case e.chain.Base == "":
		e.chain.Base = pinned.PEM()
	}
	e.chain.Steps = append(slices.Clip(e.chain.Steps), s)
	e.latest = to
	kept := e.chain
	return &kept, nil
}

// keep writes a chain wherever it may be looked for.
func (p *Pins) keep(ctx context.Context, peer *gateway.Peer, c chain) {
	b, err := json.Marshal(c)
	if err == nil {
		err = replaceFile(p.chainFile(peer.Wwwroot), b, 0o644)
	}
	if err == nil && p.Chains != nil {
		err = p.Chains.KeepChain(ctx, peer.Wwwroot, b)
	}
	if err != nil {
		p.logger().ErrorContext(ctx, "the new key of a peer could not be kept everywhere", "peer", peer.Wwwroot.String(), "error", err)
	}
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
