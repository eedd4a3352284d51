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
func headerLogins(c *config.Config, s *config.Site, state *store.Site, asked *moodle.Web, caller *mnet.Caller, visits *sp.Visits, provider *sp.Provider) *sp.HeaderLogins {
	if !s.Landing.Redeems() {
		return nil
	}
	return &sp.HeaderLogins{
		Names: s.Landing.Names, Door: door(s, state, asked, provider), Visits: visits, Call: caller.Call,
		Spend: func(ctx context.Context, addr netip.Addr) error {
			return state.Spend(ctx, store.PerAddress(addr, c.Limits.JumpsPerAddress))
		},
	}
}

// door returns how a site's Moodle lets learners in, or nil if there is none.
func door(s *config.Site, state *store.Site, asked *moodle.Web, provider *sp.Provider) sp.Door {
	accounts := func(ctx context.Context, field, value string) ([]moodle.Account, error) {
		return asked.AccountsBy(ctx, string(s.Landing.Token), field, value)
	}
	switch s.Landing.By {
	case config.LandingHeader:
		return &sp.HeaderDoor{Moodle: asked, Accounts: accounts}
	case config.LandingOAuth2:
		return &sp.OAuth2Door{Moodle: asked, Accounts: accounts, Claim: state.ClaimMail, IssuerID: s.Landing.IssuerID, Provider: provider}
	}
	return nil
}

// openIDProvider returns what a site's Moodle asks who lands, or nil if it does not.
func openIDProvider(s *config.Site, state *store.Site, keys *mnet.Keyring) *sp.Provider {
	if s.Landing.By != config.LandingOAuth2 {
		return nil
	}
	return &sp.Provider{
		Site: s.Wwwroot, ClientID: s.Landing.ClientID, ClientSecret: string(s.Landing.ClientSecret), Codes: state, Now: time.Now,
		Tokens: &sp.Assertions{Site: s.Wwwroot, Algorithm: config.AlgorithmRS256, Keys: keys.Keys, Now: time.Now},
	}
}

// appSessions returns the sessions of those who land at a site that is no Moodle, or nil.
func appSessions(s *config.Site, state *store.Site, keys *mnet.Keyring) *sp.AppSessions {
	if s.Landing.By != config.LandingJWT {
		return nil
	}
	peers := s.Peers
	if s.MNet.Off { // who has come before is nobody as well
		peers = &gateway.Allowlist{}
	}
	return &sp.AppSessions{
		Site: s.Wwwroot, Peers: peers, Store: state, Idle: s.Landing.SessionIdle, Life: s.Landing.SessionLife, Now: time.Now,
		Assertions: &sp.Assertions{Site: s.Wwwroot, Algorithm: s.Landing.Algorithm, Keys: keys.Keys, Now: time.Now},
	}
}

// visits returns what knows the sessions of learners at a Moodle without MNet, or
// nil elsewhere.
func (g *instance) visits(s *config.Site, state *store.Site, keys *mnet.Keyring, asked *moodle.Web, caller *mnet.Caller) *sp.Visits {
	if !s.Landing.LogsIn() {
		return nil
	}
	return &sp.Visits{
		Site: s.Wwwroot, Peers: s.Peers, Cookie: cmp.Or(s.Identity.Cookie, moodle.DefaultCookie), Life: s.Identity.SessionTimeout,
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
	auth := map[string]string{config.LandingHeader: moodle.AuthHeader, config.LandingOAuth2: moodle.AuthOAuth2}[s.Landing.By]
	if source == nil || auth == "" {
		return source
	}
	return sp.Visitors{Source: source, Auth: auth}
}
