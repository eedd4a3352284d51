package main

import (
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
	"jumpgate/sp"
)

// learned returns what knows from which homes people have come to a site, or nil
// if no home is believed, or nobody may land.
func (g *instance) learned(s *config.Site) *sp.Learned {
	g.mu.Lock()
	known := g.sites[s.Wwwroot]
	g.mu.Unlock()
	if known == nil {
		return nil
	}
	return learnedBy(s, known.Keyring, g.redis.Site(s.Wwwroot))
}

// learnedBy is learned, for whoever has the keys of the site.
func learnedBy(s *config.Site, keys *mnet.Keyring, state *store.Site) *sp.Learned {
	if len(s.Mail.Learn) == 0 || s.MNet.Off {
		return nil
	}
	return &sp.Learned{
		Site: s.Wwwroot, Names: s.Aliases, Peers: s.Peers, Homes: s.Mail.Learn, Known: s.Mail.Homes,
		Keys: func() [][32]byte { return keys.Secrets("mail address") }, Store: state,
	}
}

// learns returns how a site learns of its landings, or nil.
func (g *instance) learns(s *config.Site) *sp.Learns {
	learned := g.learned(s)
	if learned == nil {
		return nil
	}
	return &sp.Learns{Learned: learned, Learning: g.learning, Failed: func(err error) {
		g.log.Warn("where a learner comes from was not learned", "site", s.Wwwroot.String(), "error", err)
	}}
}
