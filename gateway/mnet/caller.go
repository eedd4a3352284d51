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

	// Held is told of a new key that waits for an administrator. May be nil.
	Held func(context.Context, *HeldKeyError)
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
		if cert, err = c.Pins.accept(ctx, peer, fault); err != nil {
			c.held(ctx, err)
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
	if !ok || fault.Code != FaultNewKey {
		c.held(ctx, err)
		return nil, err
	}
	cert, err = c.Pins.accept(ctx, peer, fault)
	c.held(ctx, err)
	return cert, err
}

func (c *Caller) held(ctx context.Context, err error) {
	if held, ok := errors.AsType[*HeldKeyError](err); ok && c.Held != nil {
		c.Held(ctx, held)
	}
}
