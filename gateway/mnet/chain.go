package mnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"jumpgate/gateway"
)

// chain is how a peer came from the certificate that was pinned to the one it
// has now: each step is a fault 7025 (section 3.5) that the holder of the key
// before signed. Whoever reads a chain verifies every step again, so nobody who
// can write to where it is kept can put a key into it, unless they have one of
// the peer's own. Steps tell no time: that none goes back is for GivenUp, and
// for the rule that no certificate comes twice.
type chain struct {
	Base    string   `json:"base"` // PEM
	Steps   []step   `json:"steps"`
	GivenUp []string `json:"given_up,omitempty"` // fingerprints that an administrator has replaced
}

// step is a signed answer: the XML-RPC document of the fault, and the
// signature over it.
type step struct {
	Payload   []byte `json:"payload"`
	Signature []byte `json:"signature"`
}

const (
	maxChain   = 1 << 20 // bytes of a chain as JSON: decades of a new key a month
	maxSteps   = 300
	maxPayload = 16 << 10 // bytes of one step's document
)

var errNoChain = errors.New("the refreshes do not begin at the certificate that is pinned")

// parseChain reads a chain without verifying it.
func parseChain(b []byte) (chain, error) {
	var c chain
	if len(b) > maxChain {
		return c, fmt.Errorf("chain of refreshes is larger than %d bytes", maxChain)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, errors.New("malformed chain of refreshes")
	}
	if len(c.Steps) > maxSteps {
		return c, fmt.Errorf("chain of more than %d refreshes", maxSteps)
	}
	return c, nil
}

// walk verifies the chain of a peer and returns the certificates in it, of
// which the first must be the pinned one.
func (c chain) walk(peer *gateway.Peer, pinned gateway.Fingerprint, givenUp []string) ([]*gateway.Certificate, error) {
	base, err := parseCertificateOf(peer, []byte(c.Base))
	if err != nil {
		return nil, err
	}
	if base.Fingerprint() != pinned {
		return nil, errNoChain
	}
	certs := []*gateway.Certificate{base}
	for i, step := range c.Steps {
		next, err := step.take(peer, certs[i])
		if err != nil {
			return nil, fmt.Errorf("refresh %d: %w", i+1, err)
		}
		if holds(certs, next) || slices.Contains(givenUp, next.Fingerprint().String()) {
			return nil, fmt.Errorf("refresh %d: goes back to %s", i+1, next.Fingerprint())
		}
		certs = append(certs, next)
	}
	return certs, nil
}

// holds reports whether cert is among certs.
func holds(certs []*gateway.Certificate, cert *gateway.Certificate) bool {
	return slices.ContainsFunc(certs, func(c *gateway.Certificate) bool { return c.Fingerprint() == cert.Fingerprint() })
}

// take returns the certificate that a step leads to from cert.
func (s step) take(peer *gateway.Peer, cert *gateway.Certificate) (*gateway.Certificate, error) {
	if len(s.Payload) > maxPayload {
		return nil, fmt.Errorf("a document of more than %d bytes", maxPayload)
	}
	signed := Signed{Payload: s.Payload, Signature: s.Signature}
	if err := signed.Verify(cert); err != nil {
		return nil, err
	}
	return newKeyOf(peer, s.Payload)
}

// newKeyOf returns the certificate in a fault 7025. That Mahara sends a
// sentence instead, when it has no idea (section 3.5), is an error like others.
func newKeyOf(peer *gateway.Peer, payload []byte) (*gateway.Certificate, error) {
	_, err := DecodeResponse(payload)
	fault, ok := errors.AsType[*Fault](err)
	if !ok || fault.Code != FaultNewKey {
		return nil, errors.New("the document is no fault 7025")
	}
	return parseCertificateOf(peer, []byte(fault.String))
}
