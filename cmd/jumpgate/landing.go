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
func landings(c *config.Config, s *config.Site, state *store.Site, keys *mnet.Keyring, trust proxy.Trust, source idp.Source) *sp.Landings {
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
		Spend: func(ctx context.Context, addr netip.Addr) error {
			return state.Spend(ctx, store.PerAddress(addr, c.Limits.JumpsPerAddress))
		},
	}
}

// logins returns what logs learners in who land at a site without MNet, or
// nil where Moodle does it.
func (g *instance) logins(s *config.Site, state *store.Site, asked *moodle.Web, caller *mnet.Caller, visits *sp.Visits, provider *sp.Provider) *sp.Logins {
	if !s.Landing.Redeems() {
		return nil
	}
	return &sp.Logins{
		Names: s.Landing.Names, Door: door(s, state, asked, provider), Visits: visits, Call: caller.Call, Pictures: g.takenPictures(s, state, asked),
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

// takenPictures returns what takes up pictures of the learners who land, or nil.
func (g *instance) takenPictures(s *config.Site, state *store.Site, asked *moodle.Web) *sp.Pictures {
	if !s.Landing.TakesPictures() {
		return nil
	}
	return &sp.Pictures{
		Store: state, Taking: g.pictures,
		Set: func(ctx context.Context, userID int64, picture []byte) error {
			return asked.SetPicture(ctx, string(s.Landing.Token), userID, picture)
		},
		Failed: func(home *gateway.Peer, err error) {
			g.log.Warn("the picture of a learner was not taken from their home", "site", s.Wwwroot.String(), "home", home.Wwwroot.String(), "error", err)
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
		Children: g.children, Call: caller.Call, Logout: asked.Logout, Reported: web.ObserveReports(s.Wwwroot, g.log, g.metrics),
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
// not for those whom it has taken in itself. Where these are at home is known by
// what is nil for a site that takes in nobody itself.
func vouched(s *config.Site, source idp.Source, visits *sp.Visits) (idp.Source, idp.HomeOf) {
	if source == nil || !s.Landing.LogsIn() {
		return source, nil
	}
	visitors := sp.Visitors{Source: source, Auth: moodle.AuthHeader, Names: s.Landing.Names, Peers: s.Peers, Visits: visits}
	if s.Landing.By == config.LandingOAuth2 {
		visitors.Auth = moodle.AuthOAuth2
	}
	return visitors, visitors.HomeOf
}
