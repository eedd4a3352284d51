package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
)

// strangers are the sites that ask for our certificate and bring their own,
// unverified. What they bring is remembered as a request for an administrator
// and, with register_all, checked by asking back.
type strangers struct {
	slots chan struct{} // one for each call back at a time

	mu    sync.Mutex
	calls map[string]time.Time // by host, of the last hour
}

// Bounds of what strangers can make the gateway call and write.
const (
	callsAtOnce     = 2
	callsPerHour    = 10 // in total; one for each host
	maxRegisterable = 1000
	callBackTime    = 30 * time.Second
)

func newStrangers() *strangers {
	return &strangers{slots: make(chan struct{}, callsAtOnce), calls: map[string]time.Time{}}
}

// begin reports whether a host may be called now; end ends the call.
func (s *strangers) begin(host string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other, last := range s.calls {
		if now.Sub(last) >= time.Hour {
			delete(s.calls, other)
		}
	}
	if _, called := s.calls[host]; called || len(s.calls) >= callsPerHour {
		return false
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return false
	}
	s.calls[host] = now
	return true
}

func (s *strangers) end() { <-s.slots }

// keyswapped returns what a site's MNet server tells of keyswaps.
func (g *instance) keyswapped(c *config.Config, s *config.Site, caller *mnet.Caller, state *store.Site) func(context.Context, mnet.KeyswapRequest) {
	return func(ctx context.Context, r mnet.KeyswapRequest) {
		peer := s.Peers.Exact(r.Wwwroot.String())
		switch {
		case r.Wwwroot == s.Wwwroot || slices.Contains(s.Aliases, r.Wwwroot):
			return
		case peer != nil:
			pinned, err := caller.Pins.Certificate(ctx, peer)
			if err != nil || peer.Wwwroot != r.Wwwroot || pinned.Fingerprint() == r.Certificate.Fingerprint() {
				return
			}
		}
		g.remember(ctx, s, state, r, peer != nil)
		if peer == nil && s.MNet.RegisterAll && s.PeersDir != "" {
			g.register(c.File, s, caller.Client.Keys, r)
		}
	}
}

// held returns what is told of new keys that peers answered with and that
// nothing vouches for.
func (g *instance) held(s *config.Site, state *store.Site) func(context.Context, *mnet.HeldKeyError) {
	return func(ctx context.Context, held *mnet.HeldKeyError) {
		g.remember(ctx, s, state, mnet.KeyswapRequest{
			Wwwroot: held.Peer.Wwwroot, Application: held.Peer.Application, Certificate: held.Certificate,
		}, true)
	}
}

// taken returns what is told of new keys that were taken up: nobody need decide
// about them.
func (g *instance) taken(state *store.Site) func(context.Context, *gateway.Peer) {
	return func(ctx context.Context, peer *gateway.Peer) {
		_ = state.Answer(ctx, peer.Wwwroot) // or the request waits until it is too old
	}
}

// remember keeps a request for an administrator.
func (g *instance) remember(ctx context.Context, s *config.Site, state *store.Site, r mnet.KeyswapRequest, newKey bool) {
	asked, err := state.Ask(ctx, store.Request{
		Wwwroot: r.Wwwroot, Application: r.Application, Certificate: r.Certificate, NewKey: newKey, Addr: r.Addr,
	})
	attrs := append(strangerAttrs(s, r), slog.Bool("new_key", newKey))
	switch {
	case errors.Is(err, store.ErrUnavailable): // which is said by who watches it
		g.log.LogAttrs(ctx, slog.LevelDebug, "a request to become a peer is lost", append(attrs, slog.Any("error", err))...)
	case err != nil:
		g.log.LogAttrs(ctx, slog.LevelError, "a request to become a peer is lost", append(attrs, slog.Any("error", err))...)
	case asked == store.AskedFirst && newKey:
		g.log.LogAttrs(ctx, slog.LevelWarn, "a peer has another key, which nothing vouches for: see jumpgate peer requests", attrs...)
	case asked == store.AskedFirst:
		g.log.LogAttrs(ctx, slog.LevelInfo, "a site asks to become a peer: see jumpgate peer requests", attrs...)
	case asked == store.AskedTooMuch:
		g.log.LogAttrs(ctx, slog.LevelWarn, "an address asks to become too many peers", attrs...)
	}
}

func strangerAttrs(s *config.Site, r mnet.KeyswapRequest) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("site", s.Wwwroot.String()), slog.String("peer", r.Wwwroot.String()),
		slog.String("fingerprint", r.Certificate.Fingerprint().String()),
	}
	if r.Addr.IsValid() {
		attrs = append(attrs, slog.String("client", r.Addr.String()))
	}
	return attrs
}

// register makes a peer without grants of a site that hands out the certificate
// it asked with (register_all). The caller does not wait for it.
func (g *instance) register(configuration string, s *config.Site, keys func() []*mnet.Key, r mnet.KeyswapRequest) {
	home := s.Wwwroot.Loopback() // a demo or a test
	if r.Wwwroot.Scheme() != "https" && !(home && r.Wwwroot.Loopback()) ||
		len(s.Peers.Peers()) >= maxRegisterable || g.ctx.Err() != nil ||
		!g.strangers.begin(r.Wwwroot.Hostname(), time.Now()) {
		return
	}
	g.background.Go(func() {
		defer g.strangers.end()
		ctx, cancel := context.WithTimeout(g.ctx, callBackTime)
		defer cancel()
		client := &mnet.Client{Keys: keys, Site: s.Wwwroot, HTTP: outsideClient(home)}
		file, err := registerPeer(ctx, client, configuration, s, r)
		if err == nil {
			g.trail.Note(audit.Event{
				Kind: audit.KindAdmin, Site: s.Wwwroot.String(), Step: "register_all", Peer: r.Wwwroot.String(), Client: r.Addr.String(),
				Decision: audit.Allow, Detail: r.Certificate.Fingerprint().String(),
			})
		}
		switch attrs := strangerAttrs(s, r); {
		case errors.Is(err, fs.ErrExist): // another gateway was faster
		case err != nil:
			g.log.LogAttrs(ctx, slog.LevelWarn, "a site that asks to become a peer was not registered", append(attrs, slog.Any("error", err))...)
		default:
			g.log.LogAttrs(ctx, slog.LevelWarn, "registered a site as a peer without grants (register_all)", append(attrs, slog.String("file", file))...)
		}
	})
}

func registerPeer(ctx context.Context, client *mnet.Client, configuration string, s *config.Site, r mnet.KeyswapRequest) (file string, err error) {
	var cert *gateway.Certificate
	var application gateway.Application
	for _, application = range applications(r.Application) {
		if cert, err = client.Keyswap(ctx, r.Wwwroot, application); err == nil {
			break
		}
	}
	if err != nil {
		return "", err
	}
	if cert.Fingerprint() != r.Certificate.Fingerprint() {
		return "", fmt.Errorf("it hands out another certificate, %s", cert.Fingerprint())
	}
	// An administrator may have added it, and not reloaded yet.
	fresh, err := config.Load(configuration)
	if err != nil {
		return "", fmt.Errorf("the configuration is in no state to add to: %w", err)
	}
	for _, site := range fresh.Sites {
		if site.Wwwroot == s.Wwwroot && site.Peers.Exact(r.Wwwroot.String()) != nil {
			return "", fs.ErrExist
		}
	}
	return s.AddPeer(&gateway.Peer{
		Wwwroot: r.Wwwroot, Application: application, Certificate: cert, Fingerprint: cert.Fingerprint(),
	}, []string{
		fmt.Sprintf("A peer of %s that nobody has looked at: written by register_all on %s UTC,", s.Wwwroot, time.Now().UTC().Format("2006-01-02 15:04")),
		fmt.Sprintf("after a keyswap from %s. It may do nothing until it is granted something.", r.Addr),
		fmt.Sprintf("Certificate: %s, until %s.", cert.Fingerprint(), cert.NotAfter.UTC().Format("2006-01-02")),
	})
}

// outsideClient connects to the outside only: whoever can name an address must
// not reach with it what this machine reaches inside. A home on loopback may
// call loopback.
func outsideClient(home bool) *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		target, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if addr := target.Addr().Unmap(); !outside(addr) && !(home && addr.IsLoopback()) {
			return fmt.Errorf("%s is not an address of the internet", addr)
		}
		return nil
	}}
	return &http.Client{Timeout: callBackTime, Transport: &http.Transport{
		DialContext: dialer.DialContext, TLSHandshakeTimeout: 10 * time.Second, DisableKeepAlives: true, // and no proxy
	}}
}

// insiders are the networks that netip does not tell from the internet: those
// of providers, protocols, tests and benchmarks, the reserved ones, and those
// by which IPv6 reaches any IPv4 address.
var insiders = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
}

func outside(addr netip.Addr) bool {
	return addr.IsGlobalUnicast() && !addr.IsPrivate() &&
		!slices.ContainsFunc(insiders, func(p netip.Prefix) bool { return p.Contains(addr) })
}
