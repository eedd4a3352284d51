package main

import (
	"cmp"
	"context"
	"net/netip"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/proxy"
	"jumpgate/gateway/store"
	"jumpgate/idp"
	"jumpgate/sp"
	"jumpgate/web"
)

// landings returns what watches over who lands at a site. Whose a session is,
// Moodle's Redis says through source, or else Moodle's own pages: asked more
// closely than for a jump, and anew each time, since somebody is to be replaced.
//
// At a site that is no Moodle the sessions are ours.
func landings(s *config.Site, state *store.Site, keys *mnet.Keyring, trust proxy.Trust, source idp.Source) *sp.Landings {
	if s.Issuer == config.IssuerMoodle || s.Identity.Source != config.MoodleRedis {
		token := string(cmp.Or(s.Identity.Token, s.Landing.Token))
		source = moodle.NewWeb(moodle.WebOptions{
			Upstream: s.Upstream, Site: s.Wwwroot, Cookie: s.Identity.Cookie, Incomplete: true,
			Token: func() string { return token }, MFA: s.Identity.MFA,
		})
	}
	return &sp.Landings{
		App:  appSessions(s, state, keys),
		Site: s.Wwwroot, Names: s.Aliases, Peers: s.Peers, Source: source, Cookie: cmp.Or(s.Identity.Cookie, moodle.DefaultCookie),
		Once: state, Seal: func() [][32]byte { return keys.Secrets("landing") }, Client: trust.Client, Now: time.Now,
	}
}

// headerLogins returns what logs learners in who land at a site without MNet, or
// nil where Moodle does it.
func headerLogins(c *config.Config, s *config.Site, state *store.Site, asked *moodle.Web, caller *mnet.Caller, visits *sp.Visits) *sp.HeaderLogins {
	if !s.Landing.Redeems() {
		return nil
	}
	return &sp.HeaderLogins{
		Names: s.Landing.Names, Moodle: asked, Visits: visits, Call: caller.Call,
		HasAccount: func(ctx context.Context, username string) (bool, error) {
			return asked.HasAccount(ctx, string(s.Landing.Token), username)
		},
		Spend: func(ctx context.Context, addr netip.Addr) error {
			return state.Spend(ctx, store.PerAddress(addr, c.Limits.JumpsPerAddress))
		},
	}
}

// appSessions returns the sessions of those who land at a site that is no Moodle, or nil.
func appSessions(s *config.Site, state *store.Site, keys *mnet.Keyring) *sp.AppSessions {
	if s.Landing.By != config.LandingJWT {
		return nil
	}
	return &sp.AppSessions{
		Site: s.Wwwroot, Peers: homes(s), Store: state, Idle: s.Landing.SessionIdle, Life: s.Landing.SessionLife, Now: time.Now,
		Assertions: &sp.Assertions{Site: s.Wwwroot, Algorithm: s.Landing.Algorithm, Keys: keys.Keys, Now: time.Now},
	}
}

// homes returns the peers of a site. With MNet off there are none, and who has come
// from one before is nobody as well.
func homes(s *config.Site) *gateway.Allowlist {
	if s.MNet.Off {
		return &gateway.Allowlist{}
	}
	return s.Peers
}

// visits returns what knows the sessions of learners that we begin, or nil where
// Moodle does.
func (g *instance) visits(s *config.Site, state *store.Site, keys *mnet.Keyring, asked *moodle.Web, caller *mnet.Caller) *sp.Visits {
	if !s.Landing.Redeems() {
		return nil
	}
	return &sp.Visits{
		Site: s.Wwwroot, Peers: homes(s), Cookie: cmp.Or(s.Identity.Cookie, moodle.DefaultCookie), Life: s.Identity.SessionTimeout,
		Store: state, Secrets: secrets(keys), Now: time.Now,
		Children: g.children, Call: caller.Call, Logout: asked.Logout, Reported: web.ObserveReports(s.Wwwroot, g.log),
	}
}

// keepAlive runs the visits of sites, and no longer those of the configuration
// before.
func (g *instance) keepAlive(sites []*web.Site) {
	if g.keptAlive != nil {
		g.keptAlive()
	}
	var ctx context.Context
	ctx, g.keptAlive = context.WithCancel(g.ctx)
	for _, site := range sites {
		if site.Visits != nil {
			g.background.Go(func() { site.Visits.Run(ctx) })
		}
	}
}

// vouched returns the identity source by which a site vouches for who leaves it:
// not for those whom it has taken in itself.
func vouched(s *config.Site, source idp.Source) idp.Source {
	if source == nil || s.Landing.By != config.LandingHeader {
		return source
	}
	return sp.Visitors{Source: source}
}
