package mnet

import (
	"context"
	"errors"
	"fmt"

	"jumpgate/gateway"
)

// Caller calls the methods of a site's peers with the certificates that Pins
// holds, and follows them when they change their keys.
type Caller struct {
	Client *Client
	Pins   *Pins

	// Held is told of a new key that waits for an administrator, Taken of one
	// that was taken up. They may be nil.
	Held  func(context.Context, *HeldKeyError)
	Taken func(context.Context, *gateway.Peer)
}

// maxTries bounds how often a peer that changes its key is asked again: once
// (section 3.5), and once more where another gateway of the site was faster.
const maxTries = 3

// Call is Client.Call. A peer that answers with a new key which it signed with
// the one that is known is asked once more.
func (c *Caller) Call(ctx context.Context, peer *gateway.Peer, method string, params ...Value) (Value, error) {
	cert, err := c.Pins.Certificate(ctx, peer)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		v, err := c.Client.Call(ctx, peer, cert, method, params...)
		fault, ok := errors.AsType[*Fault](err)
		if !ok || fault.Code != FaultNewKey || try == maxTries {
			c.held(ctx, err)
			return v, err
		}
		if cert, err = c.accept(ctx, peer, fault); err != nil {
			return nil, fmt.Errorf("call %s of %s: %w", method, peer.Wwwroot, err)
		}
	}
}

// Refresh returns the certificate that a peer has changed to, or nil if it has
// not: from what the other gateways of the site know or, at most once a minute,
// from the peer. Any call that is sealed for a key which the peer has archived
// would do; system/listServices is the one that stock peers make.
func (c *Caller) Refresh(ctx context.Context, peer *gateway.Peer, known *gateway.Certificate) (*gateway.Certificate, error) {
	cert, ask, err := c.Pins.changed(ctx, peer, known)
	if cert != nil || !ask || err != nil {
		return cert, err
	}
	_, err = c.Client.Call(ctx, peer, known, "system/listServices")
	fault, ok := errors.AsType[*Fault](err)
	switch {
	case ok && fault.Code == FaultNewKey:
		return c.accept(ctx, peer, fault)
	case ok && fault.Code == FaultNotOpened:
		err = c.lost(ctx, peer, known, err)
	}
	c.held(ctx, err)
	return nil, err
}

func (c *Caller) accept(ctx context.Context, peer *gateway.Peer, fault *Fault) (*gateway.Certificate, error) {
	cert, err := c.Pins.accept(ctx, peer, fault)
	c.held(ctx, err)
	if err == nil && c.Taken != nil {
		c.Taken(ctx, peer)
	}
	return cert, err
}

// lost looks what certificate a peer has that cannot open our messages any
// more: whoever was set up anew has no former key to vouch for the new one. It
// returns a *HeldKeyError, or the error as it was.
func (c *Caller) lost(ctx context.Context, peer *gateway.Peer, known *gateway.Certificate, err error) error {
	now, fetching := c.Client.FetchCertificate(ctx, &gateway.Peer{Wwwroot: peer.Wwwroot, Aliases: peer.Aliases, Application: peer.Application})
	if fetching != nil || now.Fingerprint() == known.Fingerprint() {
		return err
	}
	return &HeldKeyError{Peer: peer, Certificate: now}
}

func (c *Caller) held(ctx context.Context, err error) {
	if held, ok := errors.AsType[*HeldKeyError](err); ok && c.Held != nil {
		c.Held(ctx, held)
	}
}
