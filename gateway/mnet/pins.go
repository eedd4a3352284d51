package mnet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"jumpgate/gateway"
)

// Pins holds the certificates of the peers of a site: those that the
// configuration holds, and those that were fetched once and are pinned to a
// file each. A pinned certificate gives way to one that its own key vouches
// for (section 3.5); any other change is an administrator's, in the
// configuration or by removing the file. It may be used by many goroutines at
// once.
type Pins struct {
	Dir   string                                                             // must exist; the files are PEM and no secret
	Fetch func(context.Context, *gateway.Peer) (*gateway.Certificate, error) // Client.FetchCertificate
	Log   *slog.Logger                                                       // for new pins; nil for slog.Default()

	Chains Chains // where the gateways of the site share refreshes; nil for files alone

	Changed func(KeyChange) // is told of certificates that count from now on; may be nil

	mu   sync.Mutex
	pins map[gateway.Wwwroot]*pin
}

const (
	fetchTime  = 10 * time.Second // for one attempt to fetch a certificate
	fetchPause = 30 * time.Second // between two attempts for one peer
)

// pin is what is known about the certificate of one peer. Who holds turn, a
// semaphore for one, may read the file and fetch.
type pin struct {
	turn chan struct{}

	mu     sync.Mutex
	cert   *gateway.Certificate
	failed time.Time // when the last attempt to fetch failed
	err    error     // how

	chain   chain                  // of refreshes
	from    gateway.Fingerprint    // the pinned certificate that known begins with
	known   []*gateway.Certificate // from the pinned one to the latest; empty before the first look
	partial bool                   // somebody could not be asked
	looked  time.Time              // when what is kept was read last
	asked   time.Time              // when the peer was asked last
}

// Certificate returns the certificate that peer has now: the pinned one, or
// the one that its refreshes led to. See pinned for errors.
func (p *Pins) Certificate(ctx context.Context, peer *gateway.Peer) (*gateway.Certificate, error) {
	cert, err := p.pinned(ctx, peer)
	if err != nil {
		return nil, err
	}
	known := p.since(ctx, peer, cert)
	return known[len(known)-1], nil
}

// Certificates returns the certificates that peer has had since the one that
// is pinned, the current one last: each vouches for the next. Nobody is asked,
// so that a certificate which Certificate would have to fetch is an error.
func (p *Pins) Certificates(ctx context.Context, peer *gateway.Peer) ([]*gateway.Certificate, error) {
	entry := p.entry(peer.Wwwroot)
	if cert, _ := entry.state(); cert == nil && peer.Certificate == nil {
		return nil, fmt.Errorf("the certificate of %s is not known yet", peer.Wwwroot)
	}
	cert, err := p.pinned(ctx, peer)
	if err != nil {
		return nil, err
	}
	return p.since(ctx, peer, cert), nil
}

// pinned returns the certificate that trust in peer begins with: its
// configured one, or the pinned one, or, the first time, the one that Fetch
// returns. Fetching happens at most once at a time and every 30 seconds for
// each peer, and takes at most 10 seconds; in between, the error of the last
// attempt is returned again. A pin that contradicts peer.Fingerprint is an
// error that names both.
func (p *Pins) pinned(ctx context.Context, peer *gateway.Peer) (*gateway.Certificate, error) {
	if peer.Certificate != nil {
		return peer.Certificate, checkPin(peer.Certificate, peer, "the configuration")
	}
	entry := p.entry(peer.Wwwroot)
	if cert, err := entry.state(); cert != nil || err != nil {
		return p.checked(cert, err, peer)
	}
	select {
	case entry.turn <- struct{}{}:
		defer func() { <-entry.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("certificate of %s: %w", peer.Wwwroot, context.Cause(ctx))
	}
	if cert, err := entry.state(); cert != nil || err != nil { // somebody else was faster
		return p.checked(cert, err, peer)
	}
	// Others wait for the outcome, so a caller who gives up does not end it.
	cert, err := p.obtain(context.WithoutCancel(ctx), peer)
	entry.mu.Lock()
	entry.cert = cert
	if err != nil {
		entry.failed, entry.err = time.Now(), err
	}
	entry.mu.Unlock()
	return p.checked(cert, err, peer)
}

func (p *Pins) entry(site gateway.Wwwroot) *pin {
	p.mu.Lock()
	defer p.mu.Unlock()
	entry, ok := p.pins[site]
	if !ok {
		if p.pins == nil {
			p.pins = map[gateway.Wwwroot]*pin{}
		}
		entry = &pin{turn: make(chan struct{}, 1)}
		p.pins[site] = entry
	}
	return entry
}

// state returns the certificate, or the error of a recent attempt, or neither.
func (e *pin) state() (*gateway.Certificate, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cert == nil && e.err != nil && time.Since(e.failed) < fetchPause {
		return nil, e.err
	}
	return e.cert, nil
}

// checked compares the certificate with the fingerprint that is configured
// now, which may have changed since it was pinned.
func (p *Pins) checked(cert *gateway.Certificate, err error, peer *gateway.Peer) (*gateway.Certificate, error) {
	if err == nil && checkFingerprint(cert, peer) != nil {
		err = checkPin(cert, peer, p.held(peer))
	}
	if err != nil {
		return nil, err
	}
	return cert, nil
}

func checkPin(cert *gateway.Certificate, peer *gateway.Peer, where string) error {
	if err := checkFingerprint(cert, peer); err != nil {
		return fmt.Errorf("certificate of %s in %s: %w", peer.Wwwroot, where, err)
	}
	return nil
}

// obtain reads the pinned certificate or fetches and pins one.
func (p *Pins) obtain(ctx context.Context, peer *gateway.Peer) (*gateway.Certificate, error) {
	cert, err := p.read(peer)
	if !errors.Is(err, fs.ErrNotExist) {
		return cert, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	if cert := p.baseOf(ctx, peer); cert != nil {
		return cert, nil
	}
	if cert, err = p.Fetch(ctx, peer); err != nil {
		return nil, err
	}
	if err := checkFingerprint(cert, peer); err != nil { // whatever Fetch checks
		return nil, fmt.Errorf("certificate of %s: %w", peer.Wwwroot, err)
	}
	file := p.file(peer.Wwwroot)
	header := fmt.Sprintf("MNet certificate of %s\n%s\n", peer.Wwwroot, cert.Fingerprint())
	switch err := createFile(file, []byte(header+cert.PEM()), 0o644); {
	case errors.Is(err, fs.ErrExist): // another process was faster: what it pinned holds
		return p.read(peer)
	case err != nil:
		return nil, fmt.Errorf("pin the certificate of %s: %w", peer.Wwwroot, err)
	}
	p.logger().InfoContext(ctx, "pinned the certificate of a peer",
		"peer", peer.Wwwroot.String(), "fingerprint", cert.Fingerprint().String(), "file", file)
	p.changedTo(KeyChange{Of: peer.Wwwroot, To: cert.Fingerprint(), How: KeyPinned})
	return cert, nil
}

// baseOf returns the certificate with the configured fingerprint, from what is
// kept of the peer's refreshes: the peer itself does not have it any more.
func (p *Pins) baseOf(ctx context.Context, peer *gateway.Peer) *gateway.Certificate {
	kept, _ := p.kept(ctx, peer)
	for _, c := range kept {
		if certs, err := c.walk(peer, peer.Fingerprint, nil); err == nil {
			return certs[0]
		}
	}
	return nil
}

func (p *Pins) read(peer *gateway.Peer) (*gateway.Certificate, error) {
	file := p.held(peer)
	b, _, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("pinned certificate: %w", err)
	}
	cert, err := parseCertificateOf(peer, b)
	if err != nil {
		return nil, fmt.Errorf("pinned certificate %s: %w", file, err)
	}
	return cert, nil
}

// held returns the file that holds the certificate of peer: one that was pinned
// before the peer moved holds, or to move would be a way around the pin.
func (p *Pins) held(peer *gateway.Peer) string {
	for _, name := range peer.Names() {
		if _, err := os.Stat(p.file(name)); err == nil {
			return p.file(name)
		}
	}
	return p.file(peer.Wwwroot)
}

// file returns where the certificate of a site is pinned: a name that an
// administrator recognises and that no other wwwroot has.
func (p *Pins) file(site gateway.Wwwroot) string {
	sum := sha256.Sum256([]byte(site.String()))
	host := strings.Trim(strings.ReplaceAll(site.Hostname(), ":", "_"), ".")
	return filepath.Join(p.Dir, fmt.Sprintf("%.100s-%s.pem", host, hex.EncodeToString(sum[:8])))
}
