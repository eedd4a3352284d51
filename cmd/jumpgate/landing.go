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

// landings returns what watches over who lands at a site. source knows whose a
// Moodle session is; where there is none, as with accounts at an OpenID
// provider and in guard mode, Moodle's own pages say so.
func landings(s *config.Site, state *store.Site, keys *mnet.Keyring, trust proxy.Trust, source idp.Source) *sp.Landings {
	if source == nil {
		source = moodle.NewWeb(moodle.WebOptions{Upstream: s.Upstream, Site: s.Wwwroot, Cookie: s.Identity.Cookie})
	}
	return &sp.Landings{
		Site: s.Wwwroot, Names: s.Aliases, Peers: s.Peers, Source: source, Cookie: cmp.Or(s.Identity.Cookie, moodle.DefaultCookie),
		Once: state, Seal: func() [][32]byte { return keys.Secrets("landing") }, Client: trust.Client, Now: time.Now,
	}
}
