package moodle

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"net/netip"
	"time"

	"jumpgate/gateway"
)

const (
	callTime         = 20 * time.Second // for the whole of a call that is passed on
	publicKeyTimeout = 5 * time.Second
	publicKeyFresh   = time.Minute // how long an answer to "which key is yours?" is good
	maxPublicKey     = 64 << 10
)

// shares remembers whether the Moodle behind has our key. Who holds turn, a
// semaphore for one, may look and ask.
type shares struct {
	turn  chan struct{}
	asked time.Time
	key   *gateway.Certificate // Moodle's; nil if it told none
	err   error                // why not
}

// PassCall passes an MNet call on to the Moodle behind, as it came, if that
// has the same key as certificate: else it could not open the message, nor
// give an answer that the caller believes. It returns nil without an error if
// Moodle has another key, or is about to: a Moodle whose key has expired makes a
// new one, and would tell the caller to use that from now on (fault 7025). Which
// key it has is asked at most once a minute. addr is whose call it is, and limit
// bounds the answer in bytes.
func (b *Behind) PassCall(ctx context.Context, certificate *gateway.Certificate, addr netip.Addr, message []byte, limit int64) ([]byte, error) {
	if time.Until(certificate.NotAfter) < publicKeyFresh+callTime {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	key, err := b.PublicKey(ctx)
	if err != nil || !key.PublicKey.Equal(certificate.PublicKey) {
		return nil, err
	}
	req, err := b.request(ctx, http.MethodPost, gateway.Moodle.RPCPath(), message)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "text/xml")
	req.Header.Set("User-Agent", "Moodle") // web servers may know no other
	if addr.IsValid() {
		req.Header.Set("X-Forwarded-For", addr.Unmap().String())
	}
	res, answer, err := b.do(req, limit)
	if err != nil {
		return nil, fmt.Errorf("pass on: %w", err)
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if res.StatusCode != http.StatusOK || kind != "text/xml" {
		return nil, fmt.Errorf("pass on: moodle answers with status %d and %.40q", res.StatusCode, kind)
	}
	return answer, nil
}

// PublicKey returns the certificate of the Moodle behind.
func (b *Behind) PublicKey(ctx context.Context) (*gateway.Certificate, error) {
	select {
	case b.shares.turn <- struct{}{}:
		defer func() { <-b.shares.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if s := &b.shares; s.asked.IsZero() || time.Since(s.asked) > publicKeyFresh {
		// Others wait for the outcome, so a caller who gives up does not end it.
		s.key, s.err = b.askPublicKey(context.WithoutCancel(ctx))
		s.asked = time.Now()
	}
	return b.shares.key, b.shares.err
}

func (b *Behind) askPublicKey(ctx context.Context) (*gateway.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, publicKeyTimeout)
	defer cancel()
	req, err := b.request(ctx, http.MethodGet, "/mnet/publickey.php", nil)
	if err != nil {
		return nil, err
	}
	res, body, err := b.do(req, maxPublicKey)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", res.StatusCode)
	}
	if err != nil {
		return nil, fmt.Errorf("moodle's public key: %w", err)
	}
	return gateway.ParseCertificate(body)
}
