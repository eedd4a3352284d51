package mnet

import (
	"encoding/json"
	"errors"
	"fmt"

	"jumpgate/gateway"
)

// chain is how a peer came from the certificate that was pinned to the one it
// has now: each step is a fault 7025 (section 3.5) that the holder of the key
// before signed. Whoever reads a chain verifies every step again, so that
// nobody who can write to where it is kept can put a key into it.
type chain struct {
	Base  string `json:"base"` // PEM
	Steps []step `json:"steps"`
}

// step is a signed answer: the XML-RPC document of the fault, and the
// signature over it.
type step struct {
	Payload   []byte `json:"payload"`
	Signature []byte `json:"signature"`
}

const (
	maxChain = 1 << 20 // bytes of a chain as JSON: decades of a new key a month
	maxSteps = 300
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

// walk verifies the chain of a peer, as far as it is needed, and returns the
// certificates in it from the one with fingerprint pinned on.
func (c chain) walk(peer *gateway.Peer, pinned gateway.Fingerprint) ([]*gateway.Certificate, error) {
	cert, err := parseCertificateOf(peer, []byte(c.Base))
	if err != nil {
		return nil, err
	}
	var trusted []*gateway.Certificate
	for i := 0; ; i++ {
		if trusted != nil || cert.Fingerprint() == pinned {
			trusted = append(trusted, cert)
		}
		if i == len(c.Steps) {
			break
		}
		if cert, err = c.Steps[i].take(peer, cert); err != nil {
			return nil, fmt.Errorf("refresh %d: %w", i+1, err)
		}
	}
	if trusted == nil {
		return nil, errNoChain
	}
	return trusted, nil
}

// take returns the certificate that a step leads to from cert.
func (s step) take(peer *gateway.Peer, cert *gateway.Certificate) (*gateway.Certificate, error) {
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
