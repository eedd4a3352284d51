package main

import (
	"cmp"
	"time"

	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/proxy"
	"jumpgate/gateway/store"
	"jumpgate/idp"
	"jumpgate/sp"
)

// landings returns what watches over who lands at a site. Whose a session is,
// Moodle's Redis says through source, or else Moodle's own pages: asked more
// closely than for a jump, and anew each time, since somebody is to be replaced.
func landings(s *config.Site, state *store.Site, keys *mnet.Keyring, trust proxy.Trust, source idp.Source) *sp.Landings {
	if s.Issuer == config.IssuerMoodle || s.Identity.Source != config.MoodleRedis {
		token := string(s.Identity.Token)
		source = moodle.NewWeb(moodle.WebOptions{
			Upstream: s.Upstream, Site: s.Wwwroot, Cookie: s.Identity.Cookie, Incomplete: true,
			Token: func() string { return token }, MFA: s.Identity.MFA,
		})
	}
	return &sp.Landings{
		Site: s.Wwwroot, Names: s.Aliases, Peers: s.Peers, Source: source, Cookie: cmp.Or(s.Identity.Cookie, moodle.DefaultCookie),
		Once: state, Seal: func() [][32]byte { return keys.Secrets("landing") }, Client: trust.Client, Now: time.Now,
	}
}
