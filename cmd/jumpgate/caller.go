package main

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
)

// fetchCertificates begins to fetch the certificates of peers that nobody has
// pinned yet.
func (g *instance) fetchCertificates(s *config.Site, known *standing, caller *mnet.Caller) {
	g.background.Go(func() {
		known.fetching.Lock() // of a configuration before this one
		defer known.fetching.Unlock()
		for _, peer := range s.Peers.Peers() {
			if peer.Certificate != nil || peer.Standing(time.Now()) != gateway.RuleOK || g.ctx.Err() != nil {
				continue
			}
			ctx, cancel := context.WithTimeout(g.ctx, 15*time.Second)
			if _, err := caller.Pins.Certificate(ctx, peer); err != nil && g.ctx.Err() == nil {
				g.log.LogAttrs(ctx, slog.LevelWarn, "a peer has no certificate yet: its learners cannot land until it answers",
					slog.String("peer", peer.Wwwroot.String()), slog.Any("error", err))
			}
			cancel()
		}
	})
}

// newClient returns what speaks to the peers of a site.
func newClient(site gateway.Wwwroot, keys *mnet.Keyring) *mnet.Client {
	return &mnet.Client{Keys: keys.Keys, Site: site, HTTP: &http.Client{Timeout: time.Minute}}
}

// newCaller returns what calls a site's peers. state may be nil.
func newCaller(client *mnet.Client, state *store.Site, dir string, log *slog.Logger) *mnet.Caller {
	pins := &mnet.Pins{Dir: filepath.Join(dir, "peers"), Fetch: client.FetchCertificate, Log: log}
	if state != nil {
		pins.Chains = state
	}
	return &mnet.Caller{Client: client, Pins: pins}
}
