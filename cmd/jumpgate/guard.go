package main

import (
	"context"
	"net/http"
	"time"

	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/proxy"
	"jumpgate/gateway/store"
	"jumpgate/idp"
	"jumpgate/sp"
	"jumpgate/web"
)

// guarded puts together what answers at the public address of a site whose
// Moodle makes the tokens itself. The keys only sign cookies of our own.
func (g *instance) guarded(c *config.Config, s *config.Site, trust proxy.Trust, state *store.Site, keys *mnet.Keyring) (*web.Site, error) {
	behind, err := g.behind(s, trust)
	if err != nil {
		return nil, err
	}
	g.log.Info("guard mode: the Moodle behind makes the tokens; who may jump, and the logout at other sites, are its own affair",
		"site", s.Wwwroot.String())
	g.log.Warn("guard mode changes nothing about this: learners who are not logged in take Moodle's redirects, "+
		"a logout waits for sites that do not answer, and a token can be used again for 30 seconds",
		"site", s.Wwwroot.String())
	g.background.Go(func() { g.compareKeys(s, keys) })
	site := &web.Site{
		Wwwroot: s.Wwwroot,
		Proxy:   behind,
		Aliases: s.Aliases,
		Peers:   s.Peers,
		Guard:   idp.NewGuard(s.Wwwroot, s.Peers, s.Aliases...).Limit(state, rates(c.Limits), trust.Client),
		Homes:   &sp.Homes{Site: s.Wwwroot, Aliases: s.Aliases, Peers: s.Peers, Keys: func() [][32]byte { return keys.Secrets("remembered home") }, Now: time.Now},

		Landings: landings(c, s, state, keys, trust, nil),
	}
	site.Landings.Learns = g.learns(s)
	site.Bounces = bounces(s, site.Homes)
	if s.MNet.Off {
		return site, nil
	}
	site.RPC = &mnet.Relay{
		Peers: s.Peers,
		Forward: func(w http.ResponseWriter, r *http.Request, look func(*http.Response)) {
			behind.Serve(w, r, func(_ http.ResponseWriter, _ *http.Request, res *http.Response) bool {
				look(res)
				return false
			})
		},
		Addr:    trust.Client,
		Observe: web.ObserveCalls(s.Wwwroot, g.log, g.metrics, g.trail),
	}
	return site, nil
}

// compareKeys warns if the site has had another key since it was Moodle's own:
// peers know the later one, and nobody there can use it now.
func (g *instance) compareKeys(s *config.Site, keys *mnet.Keyring) {
	ctx, cancel := context.WithTimeout(g.ctx, 10*time.Second)
	defer cancel()
	inner := moodle.NewBehind(moodle.BehindOptions{Upstream: s.Upstream, Site: s.Wwwroot})
	theirs, err := inner.PublicKey(ctx)
	if err != nil {
		return // Moodle may start later than we do
	}
	for i, key := range keys.Keys() {
		if key.Certificate().Fingerprint() == theirs.Fingerprint() && i > 0 {
			g.log.Warn("guard mode: Moodle has a former key of the site, and peers know a later one: none of them can talk to it",
				"site", s.Wwwroot.String(), "moodle", theirs.Fingerprint().String(), "peers", keys.Current().Certificate().Fingerprint().String())
		}
	}
}
